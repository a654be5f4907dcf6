import { ClassroomStream } from "../client/stream.js";
import { element, find, setText } from "../shared/page.js";
import { soon } from "../shared/soon.js";
import { counted } from "../shared/text.js";

const CODE = /^[A-Z]{3}-[0-9]{3}$/;
// More would make a long page slow; the rest is found by typing.
const SHOWN = 200;
const ASK_MS = 250;

/** Words of a name for the search, without accents and capitals. The server compares names by its own rule. */
function searched(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

/** The names of the class list, once the code is right. What is typed as the name finds some of them. */
export class JoinNames {
  #form;
  #code = "";
  #names = [];
  #chosen = null;
  #askSoon = soon(ASK_MS, () => this.#ask());

  /** @param {{code: string, name: string}} form the fields */
  constructor(form) {
    this.#form = form;
    find("code").addEventListener("input", () => this.codeChanged());
    find("name").addEventListener("input", () => {
      // Who types chooses nobody, or the one name that is left.
      this.#choose(null);
      this.#draw();
    });
    find("names-list").addEventListener("change", ({ target }) => this.#choose(target.value));
  }

  /** The student who was chosen: `{student_id, name, taken, secret}`; null for none. */
  get chosen() {
    return this.#names.find((one) => one.student_id === this.#chosen) ?? null;
  }

  /** Whether the class has a list. */
  get any() {
    return this.#names.length > 0;
  }

  /** The code may be another one. */
  codeChanged() {
    const { code } = this.#form;
    if (code === this.#code) return;
    this.#code = code;
    this.#take([]);
    if (CODE.test(code)) this.#askSoon();
  }

  async #ask() {
    const code = this.#code;
    if (!CODE.test(code)) return;
    try {
      const { names } = await ClassroomStream.names({ code });
      if (code === this.#code) this.#take(names);
    } catch {
      // Joining says what is wrong.
    }
  }

  #take(names) {
    this.#names = names;
    this.#chosen = null;
    find("names").hidden = !names.length;
    setText(find("name-label"), names.length ? "Find your name, or type it" : "Your name");
    this.#draw();
  }

  #choose(studentId) {
    this.#chosen = studentId;
    for (const input of find("names-list").querySelectorAll("input")) input.checked = input.value === studentId;
  }

  #draw() {
    const words = searched(this.#form.name).split(/\s+/).filter(Boolean);
    const fitting = this.#names.filter(({ name }) => {
      const text = ` ${searched(name)}`;
      return words.every((word) => text.includes(word));
    });
    const chosen = this.#chosen;
    find("names-list").hidden = !fitting.length;
    find("names-list").replaceChildren(...fitting.slice(0, SHOWN).map(lineOf));
    this.#choose(chosen);
    if (!this.any) return;
    const more = fitting.length > SHOWN ? ` Type more of your name to see the others.` : "";
    const none = "Your name is not on the list. Check how you wrote it, or join with what you typed.";
    setText(find("names-count"), fitting.length ? `${counted(fitting.length, "name")}.${more}` : none);
  }
}

function lineOf({ student_id, name, taken }) {
  const label = element("label");
  const input = element("input");
  input.type = "radio";
  input.name = "student";
  input.value = student_id;
  const text = element("span", "", name);
  text.dir = "auto";
  label.append(input, text);
  if (taken) label.append(" ", element("small", "", "has joined"));
  return label;
}
