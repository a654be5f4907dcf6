import { element, find } from "../shared/page.js";
import { WORDS } from "./accounts-words.js";
import { byName } from "./name-search.js";

/** All accounts, for administrators. */
export class AccountList {
  #api;
  #said;
  #titles;
  #form;

  constructor(api, said, classes, form) {
    this.#api = api;
    this.#said = said;
    this.#titles = new Map(classes.map((view) => [view.class_id, view.title]));
    this.#form = form;
    form.onChange = (id) => this.#changed(id);
    find("add").addEventListener("click", () => form.open(null));
  }

  async load() {
    const accounts = (await this.#api.get("/api/v1/educators")).sort(byName);
    find("no-accounts").hidden = accounts.length > 0;
    find("accounts").replaceChildren(...accounts.map((account) => this.#rowOf(account)));
  }

  async #changed(educatorId) {
    await this.load();
    const rows = [...find("accounts").querySelectorAll("button")];
    (rows.find((row) => row.dataset.account === educatorId) ?? find("add")).focus();
  }

  #rowOf(account) {
    const line = element("li", "pressable");
    const row = element("button", "row");
    row.type = "button";
    row.dataset.account = account.educator_id;
    const name = element("span", "row-name", account.name);
    name.dir = "auto";
    row.append(name, element("span", "weak", this.#notesOf(account)));
    if (account.disabled) row.append(element("span", "mark is-danger", WORDS.disabled));
    else if (!account.has_password) row.append(element("span", "mark is-warning", WORDS.noPassword));
    row.addEventListener("click", () => this.#said.run(async () => this.#form.open(account)));
    line.append(row);
    return line;
  }

  #notesOf({ login, role, class_ids: ids }) {
    const notes = [WORDS.roleOf(role)];
    if (role !== "administrator") {
      const titles = ids.map((id) => this.#titles.get(id)).filter(Boolean);
      notes.push(titles.join(", ") || WORDS.noClass);
    }
    return [...notes, login].join(" · ");
  }
}
