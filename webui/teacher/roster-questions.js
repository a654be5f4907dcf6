import { element } from "../shared/page.js";
import { WORDS } from "./roster-words.js";
import { buttonOf } from "./said.js";

/** What must be decided before a list is imported: a yes, or an answer with which the list is read again. */
export class Questions {
  #node;
  #readAgain;
  #questions = [];

  /**
   * @param {HTMLElement} node where they are shown
   * @param {(options: object) => void} readAgain reads the list with other options
   */
  constructor(node, readAgain) {
    this.#node = node;
    this.#readAgain = readAgain;
  }

  /** Show questions. One that was answered by yes before, in the same words, keeps its answer. */
  show(questions) {
    const answered = this.answered;
    const before = new Set(this.#questions.filter(({ key }) => answered.includes(key)).map(({ text }) => text));
    this.#questions = questions;
    this.#node.replaceChildren(...questions.map((question) => this.#boxOf(question, before.has(question.text))));
  }

  /** Forget all questions and answers: another list is read. */
  clear() {
    this.#questions = [];
    this.#node.replaceChildren();
  }

  /** Keys of the questions that were answered by yes. */
  get answered() {
    return [...this.#node.querySelectorAll("input[data-key]:checked")].map((box) => box.dataset.key);
  }

  get complete() {
    return this.answered.length === this.#questions.length;
  }

  /** Put the focus into the first question without an answer. */
  focus() {
    const open = this.#node.querySelector("input[data-key]:not(:checked)") ?? this.#node.querySelector("select");
    open?.focus();
  }

  #boxOf(question, answered) {
    const box = element("fieldset", "question");
    box.append(element("legend", "", question.text));
    if (question.samples?.length) {
      const samples = element("ul", "samples");
      samples.append(...question.samples.map((line) => element("li", "", line)));
      box.append(samples);
    }
    if (question.yes !== false) box.append(yesOf(question.key, answered));
    if (question.choices?.length) box.append(this.#choiceOf(question));
    return box;
  }

  #choiceOf({ key, text, choices }) {
    const line = element("div", "line");
    const part = element("div", "grow");
    const select = element("select");
    const words = key === "encoding" ? WORDS.otherEncoding : WORDS.choose;
    select.setAttribute("aria-label", `${words}: ${text}`);
    select.append(new Option(words, ""), ...choices.map((choice) => new Option(choice.title, choice.key)));
    const frame = element("div", "select is-fullwidth");
    frame.append(select);
    part.append(frame);
    const again = buttonOf(WORDS.readAgain, "button", () => {
      if (select.value) this.#readAgain(optionOf(key, select.value));
      else select.focus();
    });
    line.append(part, again);
    return line;
  }
}

function yesOf(key, answered) {
  const label = element("label", "checkbox");
  const box = element("input");
  box.type = "checkbox";
  box.dataset.key = key;
  box.checked = answered;
  label.append(box, ` ${WORDS.answers[key] ?? WORDS.yes}`);
  return label;
}

function optionOf(key, value) {
  if (key === "class") return { classes: [value] };
  if (key === "schools") return { schools: [value] };
  return { [key]: value };
}
