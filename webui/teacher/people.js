// The page with a class's students: find, rename, merge, remove, bring back.

import { element, find, setText } from "../shared/page.js";
import { soon } from "../shared/soon.js";
import { moment } from "./figures.js";
import { startPage } from "./frame.js";
import { byName, withName } from "./name-search.js";
import { ClassDialog } from "./people-class.js";
import { StudentDialog } from "./people-dialog.js";
import { WORDS } from "./people-words.js";
import { buttonOf } from "./said.js";

// More classes are searched by the server: their students would be too many for a page.
const CLASSES_AT_ONCE = 12;
const SEARCH_MS = 250;
const SERVER_FINDS = 50;
const ALL = "";

class People {
  #api;
  #said;
  #changes;
  #administers;
  #classes = [];
  #students = [];
  #removed = [];
  #dialog;
  // The number of the newest search, since answers may come in another order.
  #asked = 0;
  #searchSoon = soon(SEARCH_MS, () => this.#said.run(() => this.#load()));

  constructor({ api, said, account }) {
    this.#api = api;
    this.#said = said;
    this.#changes = account.role !== "assistant";
    this.#administers = account.role === "administrator";
    this.#dialog = new StudentDialog(api, said, {
      others: (student) => this.#othersOf(student),
      changed: (id) => this.#changed(id),
      undo: (student) => this.#undo(student),
    });
  }

  async start() {
    find("read-only").hidden = this.#changes;
    this.#listen();
    await this.#readClasses("");
  }

  /** Read the classes, and show one of them; the first if there is none of this id. */
  async #readClasses(wanted) {
    this.#classes = await this.#api.get("/api/v1/classes");
    const options = this.#classes.map((view) => new Option(view.title, view.class_id));
    if (this.#classes.length > 1) options.push(new Option(WORDS.allClasses, ALL));
    find("class").replaceChildren(...options);
    if (this.#classes.some((view) => view.class_id === wanted)) find("class").value = wanted;
    find("search").value = "";
    await this.#load();
  }

  #listen() {
    find("class").addEventListener("change", () => this.#said.run(() => this.#load()));
    find("search").addEventListener("input", () => (this.#onServer ? this.#searchSoon() : this.#draw()));
    find("approval").addEventListener("change", () => this.#setApproval());
    const dialog = new ClassDialog(this.#api, this.#said, (view) => this.#readClasses(view.class_id));
    find("retitle").addEventListener("click", () => dialog.open(this.#class));
    find("new-class").addEventListener("click", () => dialog.open(null));
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible" && !document.querySelector("dialog[open]"))
        this.#load().catch(() => {});
    });
  }

  get #class() {
    return this.#classes.find((view) => view.class_id === find("class").value) ?? null;
  }

  /** Whether the server searches, in all classes. */
  get #onServer() {
    return this.#class === null && this.#classes.length > CLASSES_AT_ONCE;
  }

  async #load() {
    const number = ++this.#asked;
    const classId = this.#class?.class_id;
    const only = classId === undefined ? "" : `class_id=${encodeURIComponent(classId)}`;
    const search = `/api/v1/search?q=${encodeURIComponent(find("search").value)}`;
    const inClass = (student) => classId === undefined || student.class_id === classId;
    const [students, removed] = await Promise.all([
      this.#api.get(this.#onServer ? search : `/api/v1/students?${only}`),
      this.#onServer ? [] : this.#api.get(`/api/v1/students?removed=1&${only}`),
    ]);
    if (number !== this.#asked) return;
    this.#students = students.filter(inClass).sort(byName);
    this.#removed = removed.filter((student) => student.removed_at && inClass(student));
    this.#draw();
  }

  #draw() {
    const shown = this.#onServer ? this.#students : withName(this.#students, find("search").value);
    setText(find("count"), this.#countOf(shown.length));
    find("students").replaceChildren(...shown.map((student) => this.#rowOf(student)));
    find("removed-part").hidden = !this.#removed.length;
    find("removed").replaceChildren(...this.#removed.map((student) => this.#removedRow(student)));
    this.#drawClass();
  }

  #drawClass() {
    const changes = this.#class !== null && this.#changes;
    find("approval-line").hidden = !changes;
    find("approval").checked = this.#class?.approval === true;
    find("class-buttons").hidden = !changes && !this.#administers;
    find("retitle").hidden = !changes;
    find("new-class").hidden = !this.#administers;
  }

  #countOf(shown) {
    if (!this.#classes.length) return WORDS.noClass;
    const searched = find("search").value.trim() !== "";
    if (this.#onServer && !searched) return WORDS.typeToSearch;
    if (searched && !shown) return WORDS.nobodyFound;
    if (this.#onServer) return shown < SERVER_FINDS ? WORDS.found(shown) : WORDS.foundMany(shown);
    return this.#students.length ? WORDS.count(shown, this.#students.length) : WORDS.nobody;
  }

  #rowOf(student) {
    const line = element("li");
    const row = element(this.#changes ? "button" : "div", this.#changes ? "row" : "row-text");
    const name = element("span", "row-name", student.name);
    name.dir = "auto";
    row.append(name, element("span", "weak", this.#notesOf(student)));
    if (student.online) row.append(element("span", "mark is-success", WORDS.online));
    if (this.#changes) {
      line.className = "pressable";
      row.type = "button";
      row.dataset.student = student.student_id;
      row.addEventListener("click", () => this.#open(student));
    }
    line.append(row);
    return line;
  }

  #notesOf({ class_id: classId, listed, last_event_at: at }) {
    const notes = [];
    if (this.#class === null) notes.push(this.#titleOf(classId));
    // What a search finds has only name and class.
    if (listed !== undefined) notes.push(listed ? WORDS.listed : WORDS.typed);
    if (at) notes.push(WORDS.seen(moment(at)));
    else if (listed) notes.push(WORDS.never);
    return notes.join(" · ");
  }

  #removedRow(student) {
    const line = element("li");
    const text = element("div", "row-text");
    const name = element("span", "row-name", student.name);
    name.dir = "auto";
    const notes = [WORDS.removedAt(moment(student.removed_at))];
    if (this.#class === null) notes.unshift(this.#titleOf(student.class_id));
    if ((student.barred_until ?? 0) * 1000 > Date.now()) notes.push(WORDS.barred);
    text.append(name, element("span", "weak", notes.join(" · ")));
    line.append(text);
    if (this.#changes) {
      const undo = buttonOf(WORDS.undo, "button is-small", () => this.#undo(student));
      undo.setAttribute("aria-label", WORDS.undoOf(student.name));
      line.append(undo);
    }
    return line;
  }

  #titleOf(classId) {
    return this.#classes.find((view) => view.class_id === classId)?.title ?? "";
  }

  #open(student) {
    return this.#said.act(() => this.#dialog.open(student));
  }

  /** The other students of the class, for merging. */
  async #othersOf({ student_id: id, class_id: classId }) {
    const students = this.#onServer
      ? await this.#api.get(`/api/v1/students?class_id=${encodeURIComponent(classId)}`)
      : this.#students;
    return students.filter((one) => one.class_id === classId && one.student_id !== id).sort(byName);
  }

  /** Show what was changed; the focus goes back to where it was. */
  async #changed(studentId) {
    await this.#load();
    const rows = [...find("students").querySelectorAll("button")];
    (rows.find((row) => row.dataset.student === studentId) ?? find("search")).focus();
  }

  #undo(student) {
    return this.#said.act(async () => {
      await this.#api.post(`/api/v1/students/${encodeURIComponent(student.student_id)}/undo-remove`);
      await this.#changed(student.student_id);
      this.#said.say(WORDS.undone(student.name));
    });
  }

  async #setApproval() {
    const approval = find("approval").checked;
    const done = await this.#said.act(async () => {
      const view = this.#class;
      await this.#api.post("/api/v1/class/change", { class_id: view.class_id, approval });
      view.approval = approval;
      this.#said.say(approval ? WORDS.approvalOn : WORDS.approvalOff);
    });
    if (!done) find("approval").checked = !approval;
  }
}

startPage(WORDS, (page) => new People(page).start());
