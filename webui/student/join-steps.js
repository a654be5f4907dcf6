// The steps after the form: the secret of a student, and waiting for the teacher's answer.

import { find, setText } from "../shared/page.js";
import { SecretPad } from "./secret-pad.js";

const KEPT = "classroom-observer question";

/** Asks for a PIN or picture password. */
export class SecretStep {
  #pad = new SecretPad(find("secret-pad"), () => {
    find("secret-send").disabled = !this.#pad.complete;
  });
  #resolve = null;

  constructor() {
    find("secret-send").addEventListener("click", () => this.#answer({ secret: this.#pad.secret }));
    find("secret-ask").addEventListener("click", () => this.#answer({ ask: true }));
    find("secret-back").addEventListener("click", () => this.#answer(null));
    find("secret-pad").addEventListener("keydown", ({ key }) => {
      if (key === "Enter" && this.#pad.complete && !document.activeElement.matches("button"))
        this.#answer({ secret: this.#pad.secret });
    });
  }

  /** Ask; gives `{secret}`, `{ask: true}`, or null for somebody else. */
  ask(kind, name) {
    const pin = kind === "pin";
    setText(find("secret-title"), pin ? "Your PIN" : "Your pictures");
    const who = name ? `, ${name}` : "";
    setText(find("secret-text"), pin ? `Enter your PIN${who}.` : `Tap your three pictures${who}, in the right order.`);
    this.#pad.show(kind);
    find("secret").hidden = false;
    find("secret-title").focus();
    return new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  #answer(answer) {
    find("secret").hidden = true;
    this.#resolve?.(answer);
    this.#resolve = null;
  }
}

/** Shows that the teacher must answer. The question outlives a reload of the page. */
export class WaitingStep {
  #cancel = null;

  constructor() {
    find("waiting-back").addEventListener("click", () => this.#cancel?.());
  }

  /** A question that was asked before the page was loaded again; null for none. */
  kept() {
    try {
      return JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
    } catch {
      return null;
    }
  }

  /** Show it; called again when the connection is lost or back. */
  show({ kind, name, pending, token, online, cancel }) {
    this.#cancel = () => {
      this.hide();
      cancel();
    };
    keep({ kind, name, pending, token });
    const again = kind === "again";
    setText(find("waiting-title"), again ? `Is this you, ${name}?` : `Nearly there, ${name}`);
    const somebody = `${name} is in this class already, in another browser. If this is you, wait: your teacher sees your question and must say yes.`;
    setText(find("waiting-text"), again ? somebody : "Your teacher sees your name and must let you in.");
    const waiting = "Waiting for your teacher. This page continues by itself.";
    setText(find("waiting-state"), online ? waiting : "No connection right now. This page tries again.");
    setText(find("waiting-back"), again ? `No, I am not ${name}` : "Do not wait");
    if (!find("waiting").hidden) return;
    find("waiting").hidden = false;
    find("waiting-title").focus();
  }

  hide() {
    this.#cancel = null;
    keep(null);
    find("waiting").hidden = true;
  }
}

function keep(question) {
  try {
    if (question) sessionStorage.setItem(KEPT, JSON.stringify(question));
    else sessionStorage.removeItem(KEPT);
  } catch {
    // A reload asks again.
  }
}
