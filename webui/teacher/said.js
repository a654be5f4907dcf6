import { element, find } from "../shared/page.js";

const WORDS = { close: "Close", wait: "One moment…" };
const WAIT_MS = 700;

/** What the page says after an action: one line at its lower edge, the page's only live region. */
export class Said {
  #node = find("said");
  #home = this.#node.parentElement;
  #acting = false;

  /**
   * @param {string} text
   * @param {{words: string, act: () => void}} [button] such as "Undo"; it gets the focus
   */
  say(text, button) {
    this.#show(text, "", button);
  }

  /** Say why something failed. */
  fail(text, button) {
    this.#show(text, "is-failure", button);
  }

  clear() {
    this.#node.replaceChildren();
    this.#node.className = "said";
  }

  /** Run what may fail; the reason is said. Returns whether it succeeded. */
  async run(action) {
    this.clear();
    try {
      await action();
      return true;
    } catch (error) {
      this.fail(error.message);
      return false;
    }
  }

  /** Run an action, as `run`, and none else until it is done: a second click must not do it twice. */
  async act(action) {
    if (this.#acting) return false;
    this.#acting = true;
    const waiting = setTimeout(() => this.say(WORDS.wait), WAIT_MS);
    try {
      return await this.run(action);
    } finally {
      clearTimeout(waiting);
      this.#acting = false;
      if (this.#node.firstChild?.textContent === WORDS.wait) this.clear();
    }
  }

  /** While a dialog is open, the rest of the page is hidden from screen readers, so the line moves into it. */
  moveInto(dialog) {
    this.clear();
    dialog.append(this.#node);
    dialog.addEventListener("close", () => this.#home.append(this.#node), { once: true });
  }

  #show(text, style, button) {
    this.#node.className = `said is-filled ${style}`;
    const parts = [element("p", "", text)];
    if (button) {
      const act = buttonOf(button.words, "button is-small", () => {
        this.clear();
        button.act();
      });
      parts.push(act);
    }
    const close = buttonOf("", "delete", () => this.clear());
    close.setAttribute("aria-label", WORDS.close);
    this.#node.replaceChildren(...parts, close);
    if (button) parts[1].focus();
  }
}

/** A button that does something. */
export function buttonOf(words, style, act) {
  const button = element("button", style, words);
  button.type = "button";
  button.addEventListener("click", act);
  return button;
}
