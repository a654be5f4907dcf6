import { find } from "../shared/page.js";
import { Columns } from "./roster-columns.js";
import { changesOf, groupsOf } from "./roster-items.js";
import { Questions } from "./roster-questions.js";
import { WORDS } from "./roster-words.js";

/** What the import of a list would change, and the button that does it. */
export class Preview {
  #api;
  #said;
  #page;
  #questions;
  #columns;
  #preview = null;

  /** @param {{readAgain: (options: object) => Promise<void>, ended: () => Promise<void>}} page */
  constructor(api, said, page) {
    this.#api = api;
    this.#said = said;
    this.#page = page;
    const again = (options) => said.run(() => page.readAgain(options));
    this.#questions = new Questions(find("questions"), again);
    this.#columns = new Columns(again);
    find("import").addEventListener("click", () => said.run(() => this.#takeOver()));
    find("discard").addEventListener("click", () => said.run(() => this.#end(WORDS.discarded)));
  }

  /** @param {object} preview the server's answer */
  show(preview) {
    this.#preview = preview;
    find("preview-heading").textContent = WORDS.previewTitle(preview.origin);
    this.#questions.show(preview.questions);
    this.#columns.show(
      preview.columns ?? [],
      preview.questions.some(({ key }) => ["columns", "headings", "no_headings"].includes(key)),
    );
    find("items").replaceChildren(...groupsOf(preview));
    find("import").textContent = WORDS.importNow(changesOf(preview));
    find("import").disabled = changesOf(preview) === 0 && !preview.questions.length;
    find("preview").hidden = false;
    find("preview-heading").focus();
    find("preview").scrollIntoView({ block: "start" });
  }

  async #takeOver() {
    if (!this.#questions.complete) {
      this.#said.fail(WORDS.answerFirst);
      this.#questions.focus();
      return;
    }
    const body = { preview: this.#preview.preview, answered: this.#questions.answered };
    const done = await this.#api.post("/api/v1/roster/import", body);
    await this.#end(WORDS.imported(changesOf(done)));
  }

  async #end(text) {
    find("preview").hidden = true;
    this.#preview = null;
    await this.#page.ended();
    find("file").focus();
    this.#said.say(text);
  }
}
