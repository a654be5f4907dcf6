import { element, find } from "../shared/page.js";

/** Says which classes went away while the page was open, and that somebody has no class. */
export class OwnClasses {
  #classes;
  #drawn = "";

  /** @param {LiveClasses} classes */
  constructor(classes) {
    this.#classes = classes;
  }

  /** Draw the notes; after the class was drawn, since parts of it are hidden where there is none. */
  draw() {
    this.#drawGone();
    const none = this.#classes.current() === null && this.#classes.version !== null;
    find("no-class").hidden = !none;
    for (const id of ["pause", "message-open", "join-toggle"]) find(id).disabled = none;
    if (!none) return;
    find("class-title").textContent = "No class";
    find("class-title").hidden = false;
    for (const id of ["class-choice", "join", "empty", "paused"]) find(id).hidden = true;
  }

  #drawGone() {
    const { gone } = this.#classes;
    // Screen readers announce what is put there, so only what differs is.
    if (this.#drawn === JSON.stringify(gone)) return;
    this.#drawn = JSON.stringify(gone);
    find("gone").replaceChildren(...gone.map((title, index) => this.#note(title, index)));
  }

  #note(title, index) {
    const note = element("p", "notification is-info");
    const button = element("button", "delete");
    button.type = "button";
    button.setAttribute("aria-label", "Close");
    button.addEventListener("click", () => {
      this.#classes.gone.splice(index, 1);
      this.#drawGone();
    });
    note.append(button, sentence(title));
    return note;
  }
}

function sentence(title) {
  return `The class “${title}” has ended, or is no longer one of yours. Its students' work is kept.`;
}
