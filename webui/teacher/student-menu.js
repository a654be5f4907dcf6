import { find, setText } from "../shared/page.js";
import { onClick, run } from "./actions.js";

/** What a teacher does about one student, in the student's window: rename, merge, remove, and take that back. */
export class StudentMenu {
  #classes;
  #api;
  #current;
  // The student who was removed last.
  #removed = null;

  /** @param {() => object | undefined} current the student of the window */
  constructor(classes, api, current) {
    this.#classes = classes;
    this.#api = api;
    this.#current = current;
    onClick("remove", () => this.#remove({}, "The work is kept."));
    onClick("remove-today", () => this.#remove({ until: "today" }, "They may not come back today. The work is kept."));
    onClick("undo-remove", () => this.#undo());
    find("undo-close").addEventListener("click", () => this.#showUndo(null));
    find("rename-form").addEventListener("submit", (submitted) => {
      submitted.preventDefault();
      this.#inWindow(() => this.#rename());
    });
    find("merge-form").addEventListener("submit", (submitted) => {
      submitted.preventDefault();
      this.#inWindow(() => this.#merge());
    });
    find("reset-secret").addEventListener("click", () => this.#inWindow(() => this.#resetSecret()));
  }

  /** The window was opened for a student. */
  opened(student) {
    find("student-more").open = false;
    find("rename").value = student.name;
    setText(find("menu-result"), "");
    this.drawOthers();
  }

  /** Offer the other students of the class for a merge. */
  drawOthers() {
    const student = this.#current();
    if (!student) return;
    const others = [...this.#classes.students.values()]
      .filter((one) => one.class_id === student.class_id && one.student_id !== student.student_id)
      .sort((one, other) => one.name.localeCompare(other.name));
    const key = JSON.stringify(others.map((one) => [one.student_id, one.name]));
    const select = find("merge-into");
    if (select.dataset.key === key) return;
    select.dataset.key = key;
    const chosen = select.value;
    select.replaceChildren(
      new Option("Choose a student", ""),
      ...others.map((one) => new Option(one.name, one.student_id)),
    );
    select.value = others.some((one) => one.student_id === chosen) ? chosen : "";
  }

  #post(student, what, body) {
    return this.#api.post(`/api/v1/students/${encodeURIComponent(student.student_id)}/${what}`, body);
  }

  /** Run what may fail; the reason is shown in the window. */
  async #inWindow(action) {
    setText(find("menu-result"), "");
    try {
      await action();
    } catch (error) {
      setText(find("menu-result"), error.message);
    }
  }

  async #remove(body, words) {
    const student = this.#current();
    if (!student || !confirm(`Remove ${student.name} from the class? ${words}`)) return;
    await this.#post(student, "remove", body);
    find("student").close();
    this.#showUndo(student);
  }

  async #undo() {
    const student = this.#removed;
    if (!student) return;
    await this.#post(student, "undo-remove");
    this.#showUndo(null);
  }

  #showUndo(student) {
    this.#removed = student;
    find("undo").hidden = student === null;
    if (!student) return;
    setText(find("undo-text"), `${student.name} was removed from the class.`);
    find("undo-remove").focus();
  }

  async #rename() {
    const student = this.#current();
    if (!student) return;
    const { name } = await this.#post(student, "rename", { name: find("rename").value });
    setText(find("menu-result"), `The name is now ${name}.`);
  }

  async #merge() {
    const student = this.#current();
    const into = this.#classes.students.get(find("merge-into").value);
    if (!student || !into) throw new Error("Choose the other student first.");
    const question = `${student.name} and ${into.name} become one student, ${into.name}, who gets what both did. This cannot be undone.`;
    if (!confirm(question)) return;
    await this.#post(student, "merge", { into: into.student_id });
    find("student").close();
  }

  async #resetSecret() {
    const student = this.#current();
    if (!student) return;
    await this.#post(student, "reset-secret");
    setText(find("menu-result"), `${student.name} has no PIN and no pictures any more, and can choose new ones.`);
  }
}

/** Delete those who joined and never did anything. */
export function removeIdle(classes, api) {
  return run(async () => {
    const view = classes.current();
    if (!view || !confirm("Remove all who joined, never did anything, and are not online?")) return;
    const { removed } = await api.post("/api/v1/class/remove-idle", { class_id: view.class_id });
    setText(find("idle-result"), removed === 1 ? "1 removed." : `${removed} removed.`);
  });
}
