import { element, find } from "../shared/page.js";
import { WORDS } from "./accounts-words.js";
import { moment } from "./figures.js";
import { buttonOf } from "./said.js";

/** Where the account is signed in; for administrators on request all sessions. */
export class SessionList {
  #api;
  #said;

  constructor(api, said, administers) {
    this.#api = api;
    this.#said = said;
    find("all-line").hidden = !administers;
    find("all").addEventListener("change", () => said.run(() => this.load()));
  }

  async load() {
    const all = find("all").checked;
    const sessions = await this.#api.get(`/api/v1/sessions${all ? "?all=1" : ""}`);
    sessions.sort((a, b) => b.current - a.current || b.seen - a.seen);
    find("sessions").replaceChildren(...sessions.map((session) => this.#rowOf(session, all)));
  }

  #rowOf(session, all) {
    const line = element("li");
    const text = element("div", "row-text");
    const agent = session.agent || WORDS.unknownBrowser;
    const who = all ? `${session.name || WORDS.owner} · ` : "";
    const used = session.current ? [] : [WORDS.lastUsed(moment(session.seen))];
    const notes = [WORDS.since(moment(session.created)), ...used, WORDS.how[session.how]].filter(Boolean);
    text.append(element("span", "row-name", who + agent), element("span", "weak", notes.join(" · ")));
    line.append(text);
    if (session.current) {
      line.append(element("span", "mark is-success", WORDS.thisOne));
      return line;
    }
    const end = buttonOf(WORDS.end, "button is-small", () => this.#said.act(() => this.#end(session)));
    end.setAttribute("aria-label", WORDS.endOf(who + agent));
    line.append(end);
    return line;
  }

  async #end({ session_id: id }) {
    await this.#api.post(`/api/v1/sessions/${encodeURIComponent(id)}/end`);
    await this.load();
    (find("sessions").querySelector("button") ?? find("sign-out")).focus();
    this.#said.say(WORDS.ended);
  }
}
