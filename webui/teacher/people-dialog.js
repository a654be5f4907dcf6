import { find } from "../shared/page.js";
import { ask, closed, openDialog } from "./dialogs.js";
import { WORDS } from "./people-words.js";

/** The dialog of one student: rename, merge, take away a secret, remove. */
export class StudentDialog {
  #api;
  #said;
  #page;
  #student = null;
  #dialog = find("student");

  /** @param {{others: (student) => Promise<object[]>, changed: (id: string) => Promise<void>, undo: (student) => void}} page */
  constructor(api, said, page) {
    this.#api = api;
    this.#said = said;
    this.#page = page;
    find("rename-form").addEventListener("submit", (submitted) => {
      submitted.preventDefault();
      said.act(() => this.#rename());
    });
    find("merge-form").addEventListener("submit", (submitted) => {
      submitted.preventDefault();
      this.#askToMerge();
    });
    find("reset-secret").addEventListener("click", () => said.act(() => this.#resetSecret()));
    find("remove").addEventListener("click", () => said.act(() => this.#remove({}, WORDS.removedNow)));
    find("remove-today").addEventListener("click", () =>
      said.act(() => this.#remove({ until: "today" }, WORDS.removedToday)),
    );
  }

  async open(student) {
    this.#student = student;
    find("student-name").textContent = student.name;
    find("name").value = student.name;
    const others = await this.#page.others(student);
    find("merge-into").replaceChildren(
      new Option(WORDS.chooseStudent, ""),
      ...others.map((one) => new Option(one.name, one.student_id)),
    );
    find("merge-form").parentElement.hidden = !others.length;
    openDialog(this.#dialog, this.#said);
  }

  #post(what, body) {
    return this.#api.post(`/api/v1/students/${encodeURIComponent(this.#student.student_id)}/${what}`, body);
  }

  async #rename() {
    const { name } = await this.#post("rename", { name: find("name").value });
    await this.#done(this.#student.student_id, WORDS.renamed(name));
  }

  async #askToMerge() {
    const { value: id, selectedOptions } = find("merge-into");
    const into = selectedOptions[0].text;
    const { name } = this.#student;
    const words = { title: WORDS.mergeTitle(name, into), text: WORDS.mergeText(name, into) };
    if (!(await ask({ ...words, yes: WORDS.mergeYes, no: WORDS.cancel, danger: true }))) return;
    await this.#said.act(async () => {
      const stays = await this.#post("merge", { into: id });
      await this.#done(id, WORDS.merged(name, stays.name));
    });
  }

  async #resetSecret() {
    await this.#post("reset-secret");
    await this.#done(this.#student.student_id, WORDS.secretReset(this.#student.name));
  }

  async #remove(body, words) {
    const student = this.#student;
    await this.#post("remove", body);
    await this.#done("", words(student.name), { words: WORDS.undo, act: () => this.#page.undo(student) });
  }

  /** Close the dialog, show the change, and say it. */
  async #done(studentId, text, button) {
    await closed(this.#dialog);
    await this.#page.changed(studentId);
    this.#said.say(text, button);
  }
}
