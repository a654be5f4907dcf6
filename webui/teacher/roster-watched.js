import { element, find } from "../shared/page.js";
import { WORDS } from "./roster-words.js";
import { buttonOf } from "./said.js";

/** Lists in the watched folder that are not taken over before a person has said yes. */
export class WatchedLists {
  #api;
  #said;
  #show;

  /** @param {(preview: object) => void} show called with the preview of a list */
  constructor(api, said, show) {
    this.#api = api;
    this.#said = said;
    this.#show = show;
  }

  async load() {
    const lists = await this.#api.get("/api/v1/roster/questions");
    find("watched-part").hidden = !lists.length;
    find("watched").replaceChildren(...lists.map((list) => this.#boxOf(list)));
  }

  #boxOf(list) {
    const box = element("div", "question");
    box.append(element("h3", "", list.origin), ...list.questions.map(({ text }) => element("p", "", text)));
    const buttons = element("div", "dialog-buttons");
    const show = buttonOf(WORDS.watchedShow, "button is-link", () => this.#show(list));
    show.setAttribute("aria-label", WORDS.watchedShowOf(list.origin));
    const leave = buttonOf(WORDS.watchedNo, "button", () => this.#said.act(() => this.#leave(list)));
    leave.setAttribute("aria-label", `${WORDS.watchedNo}: ${list.origin}`);
    buttons.append(show, leave);
    box.append(buttons);
    return box;
  }

  async #leave({ origin, preview }) {
    await this.#api.post("/api/v1/roster/questions", { preview, answer: "no" });
    await this.load();
    this.#said.say(WORDS.left(origin));
  }
}
