import { memberOf } from "../client/membership.js";
import { request } from "../client/request.js";
import { find, setText } from "../shared/page.js";
import { SecretPad } from "./secret-pad.js";

const WORDS = { pin: "PIN", pictures: "pictures" };

/** The window in which a student sets a PIN or a picture password. */
export class SecretDialog {
  #pad = new SecretPad(find("keep-pad"), () => this.#showButton());
  #member = null;
  // The kind of the secret that the student has, "" for none.
  #has = "";
  #old = null;
  #first = null;

  constructor() {
    find("keep-open").addEventListener("click", () => this.#open());
    find("keep-close").addEventListener("click", () => find("keep").close());
    find("keep-next").addEventListener("click", () => this.#next());
    find("keep-remove").addEventListener("click", () => this.#send(null, "You have no PIN or pictures any more."));
    for (const kind of Object.keys(WORDS))
      find(`keep-${kind}`).addEventListener("change", () => {
        this.#first = null;
        this.#show();
      });
  }

  async #open() {
    this.#old = this.#first = null;
    this.#has = "";
    this.#say("");
    find("keep").showModal();
    try {
      this.#member = await memberOf(location.origin);
      this.#has = (await this.#request("/api/v1/me")).secret;
      find(`keep-${this.#has || "pin"}`).checked = true;
      this.#show();
    } catch (failure) {
      this.#say(failure.message);
    }
  }

  get #kind() {
    return find("keep-pictures").checked ? "pictures" : "pin";
  }

  /** The next step: the old secret where there is one, then the new one, then the new one again. */
  #show() {
    const old = this.#has !== "" && this.#old === null;
    const kind = old ? this.#has : this.#kind;
    const chosen = kind === "pin" ? "a PIN of 4 to 6 digits" : "three pictures";
    const first = this.#first === null ? `Choose ${chosen}.` : `Once more: the same ${WORDS[kind]}.`;
    setText(find("keep-step"), old ? `First your ${WORDS[kind]} of now.` : first);
    find("keep-kinds").hidden = old;
    find("keep-remove").hidden = old || this.#has === "" || this.#first !== null;
    this.#pad.show(kind);
    this.#showButton();
    this.#pad.focus();
  }

  #showButton() {
    find("keep-next").disabled = !this.#pad.complete;
    const last = this.#first !== null;
    setText(find("keep-next"), last ? "Save" : "Next");
  }

  #next() {
    const { secret } = this.#pad;
    this.#say("");
    if (this.#has !== "" && this.#old === null) {
      this.#old = secret;
      return this.#show();
    }
    if (this.#first === null) {
      this.#first = secret;
      return this.#show();
    }
    if (JSON.stringify(secret) === JSON.stringify(this.#first))
      return this.#send(secret, "Saved. Now you can join on another device without asking your teacher.");
    this.#first = null;
    this.#say("That was not the same. Choose again.");
    this.#show();
  }

  async #send(secret, done) {
    try {
      const body = { secret, ...(this.#old === null ? {} : { old: this.#old }) };
      await this.#request("/api/v1/me/secret", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
      });
      find("keep").close();
      setText(find("aloud"), done);
    } catch (failure) {
      this.#old = this.#first = null;
      this.#show();
      this.#say(failure.message);
    }
  }

  #request(path, { headers = {}, ...init } = {}) {
    const authorization = { Authorization: `Bearer ${this.#member?.token}` };
    return request(location.origin, path, { ...init, headers: { ...headers, ...authorization } });
  }

  #say(words) {
    setText(find("keep-said"), words);
  }
}
