/**
 * The page on which a student joins a class. The code may come in the fragment, /join#ABC-234: browsers never send a
 * fragment to a server, so that the code is in no log.
 */

import { ClassroomStream } from "../client/stream.js";
import { find, setText } from "../shared/page.js";
import { JoinForm, tidyCode } from "./join-form.js";
import { SecretStep, WaitingStep } from "./join-steps.js";
import { inheritText } from "./kept-text.js";

const CODE_LENGTH = 40;
// A student who is in the class may continue, also while no new students are let in or there is no connection.
const MAY_CONTINUE = ["class_closed", "class_full", "offline"];
const STEPS = ["again", "removed", "secret", "waiting"];

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
  #form = new JoinForm((who) => this.#joinByForm(who));
  #secret = new SecretStep();
  #waiting = new WaitingStep();
  // Who this browser was, when the server does not know that student any more.
  #forgotten = null;
  // Of the secret that was asked for last.
  #kind = "pin";

  async start() {
    this.#listen();
    this.#form.code = codeOfAddress();
    const question = this.#waiting.kept();
    if (question) return this.#waitFor(question);
    const member = await ClassroomStream.member();
    if (!member) return this.#showForm();
    this.#form.name = member.name ?? "";
    this.#showAgain(member);
    try {
      const student = await ClassroomStream.me();
      if (find("again").hidden) return;
      if (student?.removed) return this.#showRemoved(student);
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
    find("read").addEventListener("click", () => location.assign("/write"));
    find("removed-other").addEventListener("click", () => this.#showForm());
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

  #hideSteps() {
    for (const id of STEPS) find(id).hidden = true;
  }

  #showForm() {
    this.#hideSteps();
    this.#form.show();
  }

  /** Greet a student who has joined before. */
  #showAgain({ name, class_title }) {
    find("who").textContent = name ? `, ${name}` : "";
    find("class").textContent = class_title ?? "";
    find("class").hidden = !class_title;
    find("other").textContent = name ? `I am not ${name}` : "I am another student";
    this.#form.hide();
    find("again").hidden = false;
  }

  #showRemoved({ name, class_title, barred_until: until }) {
    this.#hideSteps();
    this.#form.hide();
    const where = class_title ? ` from ${class_title}` : " from the class";
    const back =
      until && until * 1000 > Date.now()
        ? "You may not come back today. Ask your teacher."
        : "To come back, join with the code: your teacher must say yes.";
    const who = name ? `${name}, your` : "Your";
    setText(find("removed-text"), `${who} teacher removed you${where}. Your text is still on this device. ${back}`);
    find("removed").hidden = false;
    find("removed-title").focus();
  }

  async #joinByForm(who) {
    try {
      await this.#join(who);
    } catch (failure) {
      this.#showForm();
      this.#form.refused(failure);
    }
  }

  async #continue() {
    const code = codeOfAddress();
    if (!code) return location.assign("/write");
    // The code may be of another class, which the same student enters now.
    try {
      await this.#join({ code, name: (await ClassroomStream.member())?.name ?? "" });
    } catch (failure) {
      if (MAY_CONTINUE.includes(failure.code)) return location.assign("/write");
      this.#showForm();
      this.#form.refused(failure);
    }
  }

  /** @param {{code: string, name?: string, studentId?: string, shown?: string}} who with the name to show */
  async #join({ shown, ...who }) {
    let answer = {};
    for (;;) {
      showBusy(true);
      this.#form.complain("");
      try {
        const waiting = (question) => this.#showWaiting(question);
        return await this.#joined(await ClassroomStream.join({ ...who, ...answer, waiting }));
      } catch (failure) {
        showBusy(false);
        this.#waiting.hide();
        if (!failure.kind && failure.code !== "wrong_secret") throw failure;
        answer = await this.#askSecret(failure, who, shown);
      }
    }
  }

  /** Ask for the secret, again after a wrong one. */
  async #askSecret(failure, who, shown) {
    this.#kind = failure.kind ?? this.#kind;
    this.#hideSteps();
    this.#form.hide();
    const asked = this.#secret.ask(this.#kind, shown ?? who.name);
    if (failure.code === "wrong_secret") this.#form.complain(failure.message);
    const answer = await asked;
    this.#form.complain("");
    if (answer) return answer;
    throw Object.assign(new Error(""), { code: "cancelled" });
  }

  async #waitFor(question) {
    try {
      const waiting = (state) => this.#showWaiting(state);
      await this.#joined(await ClassroomStream.waitForAnswer({ question, waiting }));
    } catch (failure) {
      this.#waiting.hide();
      this.#showForm();
      this.#form.refused(failure);
    }
  }

  #showWaiting(question) {
    if (find("waiting").hidden) this.#hideSteps();
    this.#form.hide();
    this.#waiting.show(question);
  }

  async #joined(joined) {
    this.#waiting.hide();
    if (this.#forgotten?.name === joined.name) await inheritText(this.#forgotten.student_id, joined.student_id);
    location.assign("/write");
  }
}

function showBusy(busy) {
  for (const id of ["join", "go"]) {
    find(id).classList.toggle("is-loading", busy);
    find(id).disabled = busy;
  }
}

new JoinPage().start();
