import { element, find } from "../shared/page.js";
import { inWords, isSaving, keyOf, worstFirst } from "./findings.js";

// More than these would push the class off a phone's screen.
const SHOWN = 2;

/** The findings at the top of the page: the worst two, and the others on request. Each can be closed. */
export class FindingsPanel {
  #classes;
  #findings = [];
  #closed = new Set();
  #unfolded = false;
  #drawn = "";

  /** @param {LiveClasses} classes for names of students and the time */
  constructor(classes) {
    this.#classes = classes;
    find("findings-more").addEventListener("click", () => {
      this.#unfolded = !this.#unfolded;
      this.draw();
    });
  }

  /** Take the server's findings; whether it saves what students do. */
  take(findings) {
    this.#findings = worstFirst(findings);
    this.draw();
    return isSaving(this.#findings);
  }

  draw() {
    const keys = new Set(this.#findings.map(keyOf));
    // What went away and comes again is shown again.
    for (const key of this.#closed) if (!keys.has(key)) this.#closed.delete(key);
    const open = this.#findings.filter((finding) => !this.#closed.has(keyOf(finding)));
    const notes = (this.#unfolded ? open : open.slice(0, SHOWN)).map((finding) => ({
      key: keyOf(finding),
      ...inWords(finding, (id) => this.#classes.students.get(id)?.name, this.#classes.now()),
    }));
    this.#drawButton(open.length - SHOWN);
    // Screen readers announce what is put there, so only what differs is.
    if (this.#drawn === JSON.stringify(notes)) return;
    this.#drawn = JSON.stringify(notes);
    find("findings").replaceChildren(...notes.map((note) => noteOf(note, () => this.#close(note.key))));
  }

  #drawButton(more) {
    const button = find("findings-more");
    button.hidden = more <= 0;
    button.textContent = this.#unfolded ? "Show fewer" : `${more} more`;
    button.setAttribute("aria-expanded", String(this.#unfolded));
  }

  #close(key) {
    this.#closed.add(key);
    this.draw();
    // The closed note had the focus; the next one gets it.
    find("findings").querySelector("button")?.focus();
  }
}

function noteOf({ style, symbol, word, text, since }, close) {
  const note = element("div", `notification ${style}`);
  const button = element("button", "delete");
  button.type = "button";
  button.setAttribute("aria-label", "Close");
  button.addEventListener("click", close);
  const icon = element("span", "", `${symbol} `);
  icon.setAttribute("aria-hidden", "true");
  note.append(button, icon, element("strong", "", `${word}${since}: `), text);
  return note;
}
