import { find } from "../shared/page.js";
import { Columns } from "./roster-columns.js";
import { changesOf, groupsOf } from "./roster-items.js";
import { Questions } from "./roster-questions.js";
import { WORDS } from "./roster-words.js";

const ABOUT_COLUMNS = ["columns", "headings", "no_headings"];

/** What the import of a list would change, and the button that does it. */
export class Preview {
  #api;
  #said;
  #ended;
  #questions;
  #columns;
  #preview = null;
  // How the list was read.
  #options = {};
  // Whether the list is in the watched folder.
  #watched = false;

  /** @param {() => Promise<void>} ended called after an import, or when there is none */
  constructor(api, said, ended) {
    this.#api = api;
    this.#said = said;
    this.#ended = ended;
    const again = (options) => said.act(() => this.#readAgain(options));
    this.#questions = new Questions(find("questions"), again);
    this.#columns = new Columns(again);
    find("import").addEventListener("click", () => said.act(() => this.#takeOver()));
    find("discard").addEventListener("click", () => said.act(() => this.#end(WORDS.discarded)));
  }

  /** Show the preview of a list that was sent. */
  show(preview, options) {
    this.#questions.clear();
    this.#options = options;
    this.#watched = false;
    this.#draw(preview);
  }

  /** Show the preview of a list in the watched folder. */
  showWatched(preview) {
    this.#questions.clear();
    this.#options = {};
    this.#watched = true;
    this.#draw(preview);
  }

  #draw(preview) {
    const { origin, questions, columns } = preview;
    this.#preview = preview;
    const changes = changesOf(preview);
    find("preview-heading").textContent = WORDS.previewTitle(origin);
    this.#questions.show(questions);
    this.#columns.show(
      columns,
      questions.some(({ key }) => ABOUT_COLUMNS.includes(key)),
    );
    find("items").replaceChildren(...groupsOf(preview));
    find("import").textContent = WORDS.importNow(changes);
    find("import").hidden = changes === 0 && !questions.length;
    find("preview").hidden = false;
    find("preview-heading").focus();
    find("preview").scrollIntoView({ block: "start" });
  }

  /** Read the list in another way. */
  async #readAgain(options) {
    const { preview } = this.#preview;
    const all = { ...this.#options, ...options };
    if (this.#watched) {
      const body = { preview, answer: "yes", options: all };
      const { question } = await this.#api.post("/api/v1/roster/questions", body);
      if (question === null) return this.#end(WORDS.taken);
      this.#draw(question);
    } else {
      this.#draw(await this.#api.post("/api/v1/roster/preview", { preview, ...all }));
    }
    this.#options = all;
  }

  async #takeOver() {
    if (!this.#questions.complete) {
      this.#said.fail(WORDS.answerFirst);
      this.#questions.focus();
      return;
    }
    const body = { preview: this.#preview.preview, answered: this.#questions.answered };
    try {
      const done = await this.#api.post("/api/v1/roster/import", body);
      await this.#end(WORDS.imported(changesOf(done)));
    } catch (error) {
      // The roster has changed meanwhile; the answer has what would happen now.
      if (error.content?.preview) this.#draw(error.content.preview);
      throw error;
    }
  }

  async #end(text) {
    find("preview").hidden = true;
    this.#preview = null;
    await this.#ended();
    find("file").focus();
    this.#said.say(text);
  }
}
