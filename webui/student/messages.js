import { find } from "../shared/page.js";

const SHOWN = 3;

/** The teacher's last messages, until the student closes them. */
export class Messages {
  #texts = [];

  /** @param {() => void} closed called when the student has closed them */
  constructor(closed) {
    find("dismiss").addEventListener("click", () => {
      this.#texts = [];
      find("message").hidden = true;
      closed();
    });
  }

  show(text) {
    this.#texts = [...this.#texts, text].slice(-SHOWN);
    find("words-of-teacher").textContent = this.#texts.join("\n");
    find("message").hidden = false;
  }
}
