import { element, find } from "../shared/page.js";
import { run } from "./actions.js";

// More cards would push the class off the page.
const SHOWN = 5;

/** Cards for students who wait at the join page until the teacher answers. */
export class RequestsPanel {
  #classes;
  #api;
  #drawn = "";
  // Questions that are being answered.
  #answering = new Set();

  constructor(classes, api) {
    this.#classes = classes;
    this.#api = api;
  }

  draw() {
    const classId = this.#classes.current()?.class_id;
    const seen = new Set(this.#classes.classes.map((view) => view.class_id));
    const all = [...this.#classes.requests.values()].filter(
      (one) => seen.has(one.class_id) && !this.#answering.has(one.request_id),
    );
    // Those of the class that is shown come first; the others name their class.
    const ordered = [
      ...all.filter((one) => one.class_id === classId),
      ...all.filter((one) => one.class_id !== classId),
    ];
    const cards = ordered.slice(0, SHOWN).map((one) => ({ ...one, elsewhere: this.#elsewhere(one, classId) }));
    const key = JSON.stringify([cards, ordered.length]);
    // Screen readers announce what is put there, so only what differs is.
    if (this.#drawn === key) return;
    this.#drawn = key;
    const focused = document.activeElement?.dataset?.request;
    const nodes = cards.map((one) => this.#cardOf(one));
    if (ordered.length > SHOWN) nodes.push(element("p", "requests-more", `${ordered.length - SHOWN} more wait.`));
    find("requests").replaceChildren(...nodes);
    find("requests").hidden = !nodes.length;
    if (focused) this.#focus(focused);
  }

  #elsewhere({ class_id: id }, shown) {
    return id === shown ? "" : (this.#classes.classes.find((view) => view.class_id === id)?.title ?? "");
  }

  #cardOf(question) {
    const card = element("div", "notification request");
    const text = element("p");
    const name = element("strong", "", question.name);
    name.dir = "auto";
    text.append(...wordsOf(question, name));
    const yes = this.#button(question, "yes", "Yes", "is-link");
    const no = this.#button(question, "no", "No", "");
    const buttons = element("div", "request-buttons");
    buttons.append(yes, no);
    card.append(text, buttons);
    return card;
  }

  #button(question, answer, words, style) {
    const button = element("button", `button is-small ${style}`, words);
    button.type = "button";
    button.dataset.request = `${question.request_id} ${answer}`;
    button.setAttribute("aria-label", `${words}: ${sentenceOf(question)}`);
    button.addEventListener("click", () => run(() => this.#answer(question, answer)));
    return button;
  }

  async #answer({ request_id: id }, answer) {
    this.#answering.add(id);
    this.draw();
    this.#focus("");
    try {
      await this.#api.post(`/api/v1/requests/${encodeURIComponent(id)}`, { answer });
      this.#classes.requests.delete(id);
    } finally {
      this.#answering.delete(id);
      this.draw();
    }
  }

  /** The card that had the focus is gone; the next one gets it, or the same button after it was drawn anew. */
  #focus(which) {
    const buttons = [...find("requests").querySelectorAll("button")];
    (buttons.find((button) => button.dataset.request === which) ?? buttons[0])?.focus();
  }
}

function sentenceOf({ kind, name }) {
  return kind === "again" ? `${name} again, from another browser` : `New: ${name}`;
}

function wordsOf({ kind, looks_like: alike, elsewhere }, name) {
  const where = elsewhere ? ` (${elsewhere})` : "";
  if (kind === "again") return [name, ` again, from another laptop or browser${where}. Is it really this student?`];
  const looks = alike ? ` The name looks like ${alike}, who is in the class, and is written with other letters.` : "";
  return ["New: ", name, `${where}. Let this student in?${looks}`];
}
