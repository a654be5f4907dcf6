import { find, setText } from "../shared/page.js";
import { onClick, run } from "./actions.js";
import { handUp, neverCame } from "./presence.js";
import { removeIdle } from "./student-menu.js";

/** The class in the header (choice, counts, pause) and the panel with the address and the code to join. */
export class ClassPanel {
  #classes;
  #api;
  #drawSoon;
  // Whether the teacher opened or closed the join panel; before, it is open until somebody has joined.
  #joinChosen = false;
  // What each list of options was made from.
  #options = new Map();

  /** @param {() => void} draw draws the page soon */
  constructor(classes, api, draw) {
    this.#classes = classes;
    this.#api = api;
    this.#drawSoon = draw;
    this.#listen();
  }

  #listen() {
    find("class").addEventListener("change", () => {
      this.#classes.choose(find("class").value);
      this.#drawSoon();
    });
    find("address").addEventListener("change", () => {
      const url = find("address").value;
      find("address").blur();
      run(() => this.#api.post("/api/v1/address", { url }));
    });
    find("join-toggle").addEventListener("click", () => {
      this.#joinChosen = true;
      this.#toggleJoin(find("join").hidden);
    });
    onClick("pause", () => {
      const { class_id, state } = this.#classes.current();
      return this.#api.post(`/api/v1/class/${state === "paused" ? "resume" : "pause"}`, { class_id });
    });
    onClick("open", () => this.#change({ open: find("open").checked }));
    onClick("approval", () => this.#change({ approval: find("approval").checked }));
    find("remove-idle").addEventListener("click", () => removeIdle(this.#classes, this.#api));
    onClick("new-code", () => {
      if (confirm("Create a new code? The old code stops working. Students already in the class stay."))
        return this.#change({ new_code: true });
    });
  }

  #change(fields) {
    return this.#api.post("/api/v1/class/change", { class_id: this.#classes.current().class_id, ...fields });
  }

  /** Show the join panel, as the tray icon's menu asks. */
  openJoin() {
    this.#joinChosen = true;
    this.#toggleJoin(true);
  }

  #toggleJoin(open) {
    find("join").hidden = !open;
    find("join-toggle").setAttribute("aria-expanded", String(open));
    // The page may be scrolled.
    if (open) find("join").scrollIntoView({ block: "nearest" });
  }

  /** @param {object[]} students of the class */
  draw(students) {
    const view = this.#classes.current();
    if (view) this.#drawClass(view);
    const online = students.filter((student) => student.online).length;
    const hands = students.filter(handUp).length;
    setText(find("counts"), `${online} of ${students.length} online${hands ? ` · ✋ ${hands}` : ""}`);
    find("empty").hidden = students.length > 0;
    if (!this.#joinChosen) this.#toggleJoin(students.every(neverCame));
  }

  #drawClass(view) {
    const several = this.#classes.classes.length > 1;
    find("class-title").textContent = view.title;
    find("class-title").hidden = several;
    find("class-choice").hidden = !several;
    const entries = this.#classes.classes.map((one) => [one.class_id, one.title]);
    this.#drawOptions(find("class"), entries, view.class_id);
    const paused = view.state === "paused";
    find("pause").setAttribute("aria-pressed", String(paused));
    find("pause").textContent = paused ? "Resume" : "Pause";
    find("paused").hidden = !paused;
    this.#drawJoin(view);
  }

  #drawJoin(view) {
    const address = view.join_url;
    find("join-url").textContent = address;
    find("address-choice").hidden = view.addresses.length < 2;
    const entries = view.addresses.map((one) => [one, one]);
    this.#drawOptions(find("address"), entries, address);
    find("code").textContent = view.code;
    find("name-address").hidden = !view.name_url || view.name_url === address;
    find("name-url").textContent = view.name_url.replace(/^http:\/\//, "");
    find("hint").textContent = view.hint;
    find("hint").hidden = !view.hint;
    const picture = `${view.qr}?address=${encodeURIComponent(address)}&v=${encodeURIComponent(view.code)}`;
    if (find("qr").getAttribute("src") !== picture) find("qr").src = picture;
    find("open").checked = view.open;
    find("approval").checked = view.approval === true;
  }

  /** Change a list only if it differs, since somebody may be choosing from it. */
  #drawOptions(select, entries, chosen) {
    const key = JSON.stringify(entries);
    if (this.#options.get(select) !== key) {
      this.#options.set(select, key);
      select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
    }
    if (select.value !== chosen) select.value = chosen;
  }
}
