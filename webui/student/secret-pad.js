import { element } from "../shared/page.js";
import { CHOSEN, pictures } from "./pictures.js";

const LEAST_DIGITS = 4;
const MOST_DIGITS = 6;
const ORDER = ["first", "second", "third"];

/** A keypad for a PIN, or nine pictures of which three are chosen in their order. */
export class SecretPad {
  #node;
  #changed;
  #kind = "pin";
  #entered = [];
  #shown = null;
  #aloud = null;

  /**
   * @param {HTMLElement} node where it is drawn
   * @param {() => void} changed called when something was entered
   */
  constructor(node, changed) {
    this.#node = node;
    this.#changed = changed;
    node.addEventListener("keydown", (pressed) => this.#pressed(pressed));
  }

  /** Show an empty pad, for "pin" or "pictures". */
  show(kind) {
    this.#kind = kind;
    this.#entered = [];
    this.#shown = element("p", "pad-entered");
    this.#shown.setAttribute("aria-hidden", "true");
    this.#aloud = element("p", "is-sr-only");
    this.#aloud.setAttribute("role", "status");
    const pad = kind === "pin" ? this.#digits() : this.#pictures();
    this.#node.replaceChildren(this.#shown, pad, this.#aloud);
    this.#draw("");
  }

  focus() {
    this.#node.querySelector("button")?.focus();
  }

  get complete() {
    return this.#kind === "pin" ? this.#entered.length >= LEAST_DIGITS : this.#entered.length === CHOSEN;
  }

  /** What was entered, as the server takes it. */
  get secret() {
    return this.#kind === "pin" ? this.#entered.join("") : [...this.#entered];
  }

  clear() {
    this.#entered = [];
    this.#draw("Nothing entered");
  }

  #digits() {
    const pad = this.#group("pad pad-digits", "PIN");
    for (const digit of [1, 2, 3, 4, 5, 6, 7, 8, 9]) pad.append(this.#button(String(digit), () => this.#add(digit)));
    const clear = this.#button("Clear", () => this.clear());
    clear.classList.add("pad-word");
    const back = this.#button("⌫", () => this.#back());
    back.setAttribute("aria-label", "Delete the last one");
    pad.append(
      clear,
      this.#button("0", () => this.#add(0)),
      back,
    );
    return pad;
  }

  #pictures() {
    const pad = this.#group("pad pad-pictures", "Pictures");
    for (const { number, name, svg } of pictures) {
      const button = this.#button("", () => this.#toggle(number));
      button.innerHTML = svg;
      button.append(element("span", "pad-name", name), element("span", "pad-order"));
      button.dataset.picture = number;
      pad.append(button);
    }
    return pad;
  }

  #group(className, label) {
    const pad = element("div", className);
    pad.setAttribute("role", "group");
    pad.setAttribute("aria-label", label);
    return pad;
  }

  #button(text, act) {
    const button = element("button", "button pad-key", text);
    button.type = "button";
    button.addEventListener("click", act);
    return button;
  }

  /** Digits can be typed as well. */
  #pressed(pressed) {
    if (this.#kind !== "pin" || pressed.ctrlKey || pressed.metaKey || pressed.altKey) return;
    if (/^[0-9]$/.test(pressed.key)) this.#add(Number(pressed.key));
    else if (pressed.key === "Backspace") this.#back();
    else return;
    pressed.preventDefault();
  }

  #add(value) {
    if (this.#entered.length >= (this.#kind === "pin" ? MOST_DIGITS : CHOSEN)) return;
    this.#entered.push(value);
    this.#draw(this.#kind === "pin" ? `${this.#entered.length} digits` : "");
  }

  #back() {
    this.#entered.pop();
    this.#draw(`${this.#entered.length} digits`);
  }

  #toggle(number) {
    const at = this.#entered.indexOf(number);
    // A picture in the middle takes those after it along: their order would be another one.
    if (at >= 0) this.#entered.splice(at);
    else if (this.#entered.length < CHOSEN) this.#entered.push(number);
    this.#draw(`${this.#entered.length} of ${CHOSEN} pictures`);
  }

  #draw(aloud) {
    if (this.#kind === "pin") {
      this.#shown.textContent = "●".repeat(this.#entered.length).padEnd(LEAST_DIGITS, "○");
    } else {
      this.#shown.textContent = "●".repeat(this.#entered.length).padEnd(CHOSEN, "○");
      for (const button of this.#node.querySelectorAll("[data-picture]")) {
        const at = this.#entered.indexOf(Number(button.dataset.picture));
        button.setAttribute("aria-pressed", String(at >= 0));
        button.querySelector(".pad-order").textContent = at >= 0 ? String(at + 1) : "";
        const { name } = pictures[Number(button.dataset.picture) - 1];
        button.setAttribute("aria-label", at >= 0 ? `${name}, ${ORDER[at]}` : name);
      }
    }
    this.#aloud.textContent = aloud;
    this.#changed();
  }
}
