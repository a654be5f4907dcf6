import { find } from "../shared/page.js";
import { partsOf } from "./student-details.js";
import { StudentMenu } from "./student-menu.js";

const READ_MS = 1_000;

/** The window of one student: all texts and figures, read again while the student works. */
export class StudentWindow {
  #classes;
  #api;
  #isConnected;
  #id = null;
  #readAt = Number.NEGATIVE_INFINITY;
  #reading = false;
  #menu;

  /** @param {() => boolean} isConnected whether the page is live */
  constructor(classes, api, isConnected) {
    this.#classes = classes;
    this.#api = api;
    this.#isConnected = isConnected;
    find("student").addEventListener("close", () => {
      this.#id = null;
    });
    this.#menu = new StudentMenu(classes, api, () => classes.students.get(this.#id));
  }

  open(id) {
    this.#id = id;
    this.#readAt = Number.NEGATIVE_INFINITY;
    find("student-content").replaceChildren();
    find("student-failed").textContent = "";
    find("student").showModal();
    const student = this.#classes.students.get(id);
    if (student) this.#menu.opened(student);
    this.draw();
  }

  /** Read the student again, at most once a second. */
  draw() {
    if (!this.#id) return;
    this.#id = this.#classes.idNow(this.#id);
    const student = this.#classes.students.get(this.#id);
    if (!student) return find("student").close();
    find("student-name").textContent = student.name;
    this.#menu.drawOthers();
    // Without a connection, what was read last stays.
    if (this.#reading || !this.#isConnected()) return;
    this.#reading = true;
    setTimeout(() => this.#read(), Math.max(0, READ_MS - (performance.now() - this.#readAt)));
  }

  async #read() {
    this.#reading = false;
    this.#readAt = performance.now();
    const id = this.#id;
    if (!id || !this.#isConnected()) return;
    try {
      const student = await this.#api.get(`/api/v1/students/${encodeURIComponent(id)}`);
      if (id === this.#id) this.#show(student);
      find("student-failed").textContent = "";
    } catch (error) {
      if (id === this.#id && this.#isConnected()) find("student-failed").textContent = error.message;
    }
  }

  #show(student) {
    const content = find("student-content");
    const scroll = content.querySelector(".text")?.scrollTop ?? 0;
    content.replaceChildren(...partsOf(student, this.#classes.now()));
    const text = content.querySelector(".text");
    if (text) text.scrollTop = scroll;
  }
}
