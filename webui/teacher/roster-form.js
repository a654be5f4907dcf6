import { find } from "../shared/page.js";
import { WORDS } from "./roster-words.js";

const PREVIEW = "/api/v1/roster/preview";

/** The form in which a list is chosen or pasted. */
export class ListForm {
  #api;
  #form = find("list-form");

  /** @param {(preview: object, options: object) => void} show called with the preview, and how the list was read */
  constructor(api, said, show) {
    this.#api = api;
    this.#form.addEventListener("submit", (submitted) => {
      submitted.preventDefault();
      said.act(async () => {
        const options = { scope: this.#form.elements.scope.value };
        show(await this.#send(options), options);
      });
    });
    const part = find("list-part");
    part.addEventListener("dragover", (dragged) => dragged.preventDefault());
    part.addEventListener("drop", (dropped) => {
      if (!dropped.dataTransfer.files.length) return;
      dropped.preventDefault();
      find("file").files = dropped.dataTransfer.files;
      find("text").value = "";
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
  }

  #send(options) {
    const [file] = find("file").files;
    const text = find("text").value;
    if (!file && !text.trim()) throw new Error(WORDS.nothing);
    if (!file) return this.#api.post(PREVIEW, { name: WORDS.pasted, text, ...options });
    const form = new FormData();
    form.append("options", JSON.stringify(options));
    form.append("file", file);
    return this.#api.upload(PREVIEW, form);
  }
}
