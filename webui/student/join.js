/**
 * The page on which a student joins a class. The code may come in the fragment, /join#ABC-234: browsers never send a
 * fragment to a server, so that the code is in no log.
 */

import { ClassroomStream } from "../client/stream.js";
import { find } from "../shared/page.js";
import { JoinForm, tidyCode } from "./join-form.js";
import { inheritText } from "./kept-text.js";

const CODE_LENGTH = 40;
// A student who is in the class may continue, also while no new students are let in or there is no connection.
const MAY_CONTINUE = ["class_closed", "class_full", "offline"];

function codeOfAddress() {
  let text = location.hash.slice(1);
  try {
    text = decodeURIComponent(text);
  } catch {
    // A stray percent sign: the text is shown as it is.
  }
  return tidyCode(text.slice(0, CODE_LENGTH));
}

class JoinPage {
  #form = new JoinForm((code, name) => this.#joinByForm(code, name));
  #again = find("again");
  // Who this browser was, when the server does not know that student any more.
  #forgotten = null;

  async start() {
    this.#listen();
    this.#form.code = codeOfAddress();
    const member = await ClassroomStream.member();
    if (!member) return this.#showForm();
    this.#form.name = member.name ?? "";
    this.#showAgain(member);
    try {
      const student = await ClassroomStream.me();
      if (this.#again.hidden) return;
      if (student) return this.#showAgain(student);
      this.#forgotten = member;
      this.#showForm();
      this.#form.complain("Please join again.");
    } catch {
      // The server cannot be reached. The writing page waits for it.
    }
  }

  #listen() {
    find("go").addEventListener("click", () => this.#continue());
    find("other").addEventListener("click", async () => {
      await ClassroomStream.forget();
      this.#form.name = "";
      this.#form.complain("");
      this.#showForm();
    });
    // The browser's back button shows the page as it was left, with a button at work.
    window.addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
    window.addEventListener("hashchange", () => {
      this.#form.code = codeOfAddress();
    });
  }

  #showForm() {
    this.#again.hidden = true;
    this.#form.show();
  }

  /** Greet a student who has joined before. */
  #showAgain({ name, class_title }) {
    find("who").textContent = name ? `, ${name}` : "";
    find("class").textContent = class_title ?? "";
    find("class").hidden = !class_title;
    find("other").textContent = name ? `I am not ${name}` : "I am another student";
    this.#form.hide();
    this.#again.hidden = false;
  }

  async #joinByForm(code, name) {
    try {
      await this.#join(code, name);
    } catch (failure) {
      this.#form.refused(failure);
    }
  }

  async #continue() {
    const code = codeOfAddress();
    if (!code) return location.assign("/write");
    // The code may be of another class, which the same student enters now.
    try {
      await this.#join(code, (await ClassroomStream.member())?.name ?? "");
    } catch (failure) {
      if (MAY_CONTINUE.includes(failure.code)) return location.assign("/write");
      this.#showForm();
      this.#form.refused(failure);
    }
  }

  async #join(code, name) {
    showBusy(true);
    this.#form.complain("");
    try {
      const joined = await ClassroomStream.join({ code, name });
      if (this.#forgotten?.name === joined.name) await inheritText(this.#forgotten.student_id, joined.student_id);
      location.assign("/write");
    } catch (failure) {
      showBusy(false);
      throw failure;
    }
  }
}

function showBusy(busy) {
  for (const id of ["join", "go"]) {
    find(id).classList.toggle("is-loading", busy);
    find(id).disabled = busy;
  }
}

new JoinPage().start();
