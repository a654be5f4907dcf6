import { element, find } from "../shared/page.js";
import { WORDS } from "./accounts-words.js";
import { ask, closed, openDialog } from "./dialogs.js";
import { withName } from "./name-search.js";

// More are searched by name.
const CLASSES_AT_ONCE = 12;

/** The dialog with which an administrator adds an account, changes or removes one. */
export class AccountForm {
  /** Called after a change, with the id of the account; "" if it was removed. */
  onChange = async () => {};
  #api;
  #said;
  // The account that is changed; null for a new one.
  #account = null;
  #dialog = find("account");
  #form = find("account-form");

  constructor(api, said, classes) {
    this.#api = api;
    this.#said = said;
    find("classes").append(...classes.map(classChoice));
    find("class-search-line").hidden = classes.length <= CLASSES_AT_ONCE;
    find("class-search").addEventListener("input", () => this.#drawChoices());
    this.#form.addEventListener("submit", (submitted) => {
      submitted.preventDefault();
      said.act(() => this.#save());
    });
    this.#form.addEventListener("change", () => this.#drawClasses());
    find("class-search").addEventListener("keydown", (pressed) => {
      if (pressed.key === "Enter") pressed.preventDefault();
    });
    find("delete").addEventListener("click", () => this.#askToRemove());
  }

  /** @param {object | null} account null for a new one */
  open(account) {
    this.#account = account;
    this.#form.reset();
    find("account-heading").textContent = account?.name ?? WORDS.addTitle;
    find("name").value = account?.name ?? "";
    find("login").value = account?.login ?? "";
    find("secret-label").textContent = account ? WORDS.resetPassword : WORDS.firstPassword;
    find("secret-note").textContent = account ? WORDS.resetPasswordNote : WORDS.firstPasswordNote;
    this.#form.elements.role.value = account?.role ?? "educator";
    for (const box of this.#boxes) box.checked = account?.class_ids.includes(box.value) ?? false;
    find("disabled").checked = account?.disabled ?? false;
    for (const id of ["disabled-line", "delete"]) find(id).hidden = account === null;
    find("save").textContent = account ? WORDS.save : WORDS.create;
    this.#drawClasses();
    this.#drawChoices();
    openDialog(this.#dialog, this.#said);
  }

  get #boxes() {
    return [...find("classes").querySelectorAll("input")];
  }

  /** Show the classes that are searched, and those that are chosen. */
  #drawChoices() {
    const typed = find("class-search").value;
    for (const box of this.#boxes)
      box.parentElement.hidden = !box.checked && !withName([{ name: box.parentElement.textContent }], typed).length;
  }

  /** An administrator has all classes. */
  #drawClasses() {
    find("classes-part").hidden = this.#form.elements.role.value === "administrator";
  }

  async #save() {
    const body = {
      name: find("name").value,
      login: find("login").value,
      role: this.#form.elements.role.value,
      class_ids: this.#boxes.filter((box) => box.checked).map((box) => box.value),
    };
    if (find("secret").value) body.password = find("secret").value;
    if (this.#account) body.disabled = find("disabled").checked;
    const path = this.#account ? `/${encodeURIComponent(this.#account.educator_id)}` : "";
    const saved = await this.#api.post(`/api/v1/educators${path}`, body);
    await this.#done(saved.educator_id, this.#account ? WORDS.saved(saved.name) : WORDS.added(saved.name));
  }

  async #askToRemove() {
    const { educator_id: id, name } = this.#account;
    const words = { title: WORDS.removeTitle(name), text: WORDS.removeText, yes: WORDS.remove, no: WORDS.cancel };
    if (!(await ask({ ...words, danger: true }))) return;
    await this.#said.act(async () => {
      await this.#api.post(`/api/v1/educators/${encodeURIComponent(id)}/remove`);
      await this.#done("", WORDS.removed(name));
    });
  }

  async #done(educatorId, text) {
    await closed(this.#dialog);
    await this.onChange(educatorId);
    this.#said.say(text);
  }
}

function classChoice(view) {
  const label = element("label");
  const box = element("input");
  box.type = "checkbox";
  box.value = view.class_id;
  label.append(box, ` ${view.title}`);
  return label;
}
