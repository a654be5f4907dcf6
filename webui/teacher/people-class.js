import { find } from "../shared/page.js";
import { closed, openDialog } from "./dialogs.js";
import { WORDS } from "./people-words.js";

/** The dialog with which a class gets a name: one that exists, or a new one. */
export class ClassDialog {
  #api;
  #said;
  #changed;
  // The class that is renamed; null for a new one.
  #view = null;

  /** @param {(view: object) => Promise<void>} changed called with the class as it is now */
  constructor(api, said, changed) {
    this.#api = api;
    this.#said = said;
    this.#changed = changed;
    find("class-form").addEventListener("submit", (submitted) => {
      submitted.preventDefault();
      said.act(() => this.#save());
    });
  }

  /** @param {object | null} view the class; null for a new one */
  open(view) {
    this.#view = view;
    find("class-dialog-heading").textContent = view ? WORDS.retitle : WORDS.newClass;
    find("class-title").value = view?.title ?? "";
    openDialog(find("class-dialog"), this.#said);
  }

  async #save() {
    const title = find("class-title").value;
    const view = this.#view
      ? await this.#api.post("/api/v1/class/change", { class_id: this.#view.class_id, title })
      : await this.#api.post("/api/v1/classes", { title });
    await closed(find("class-dialog"));
    await this.#changed(view);
    this.#said.say(this.#view ? WORDS.classRenamed(view.title) : WORDS.classAdded(view.title, view.code));
  }
}
