import { find } from "../shared/page.js";
import { WORDS } from "./roster-words.js";

/** The form in which a list is chosen or pasted. */
export class ListForm {
  /** Called with each preview. */
  onPreview = () => {};
  #api;
  #form = find("list-form");
  // What is read: a copy, as the file may change or go while its preview is on the page.
  #list = null;
  #options = {};

  constructor(api, said) {
    this.#api = api;
    this.#form.addEventListener("submit", (submitted) => {
      submitted.preventDefault();
      said.run(() => this.#start());
    });
    const part = find("list-part");
    part.addEventListener("dragover", (dragged) => dragged.preventDefault());
    part.addEventListener("drop", (dropped) => {
      if (!dropped.dataTransfer.files.length) return;
      dropped.preventDefault();
      find("file").files = dropped.dataTransfer.files;
    });
    // One of the two counts, so that nobody wonders which.
    find("file").addEventListener("change", () => {
      if (find("file").files.length) find("text").value = "";
    });
    find("text").addEventListener("input", () => {
      if (find("text").value) find("file").value = "";
    });
  }

  reset() {
    this.#form.reset();
    this.#list = null;
  }

  async #start() {
    const [file] = find("file").files;
    const text = find("text").value;
    if (file) this.#list = { name: file.name, content: new Blob([await file.arrayBuffer()]) };
    else if (text.trim()) this.#list = { name: WORDS.pasted, text };
    else throw new Error(WORDS.nothing);
    this.#options = {};
    await this.read({ scope: this.#form.elements.scope.value });
  }

  /** Read the list, with further options besides those of before. */
  async read(options) {
    this.#options = { ...this.#options, ...options };
    const { name, text, content } = this.#list;
    const path = "/api/v1/roster/preview";
    if (content === undefined) {
      this.onPreview(await this.#api.post(path, { name, text, ...this.#options }));
      return;
    }
    const form = new FormData();
    form.append("options", JSON.stringify(this.#options));
    form.append("file", content, name);
    this.onPreview(await this.#api.upload(path, form));
  }
}
