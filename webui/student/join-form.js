import { find } from "../shared/page.js";
import { JoinNames } from "./join-names.js";

// Which field a refusal is about; other codes are about neither.
const FIELD_OF = {
  wrong_code: "code",
  unknown_class: "code",
  class_closed: "code",
  class_full: "code",
  unknown_student: "name",
  bad_name: "name",
  not_let_in: "name",
};

/** A code as the teacher shows it: capitals, with the dash if it was left out. */
export function tidyCode(text) {
  const plain = text.trim().toUpperCase();
  return /^[A-Z]{3}[0-9]{3}$/.test(plain) ? `${plain.slice(0, 3)}-${plain.slice(3)}` : plain;
}

/** The form with code and name, and what is said of mistakes. */
export class JoinForm {
  #form = find("form");
  #error = find("error");
  #button = find("join");
  #fields = { code: find("code"), name: find("name") };
  #waiting = null;
  #names = new JoinNames(this);

  /**
   * @param {(who: {code: string, name?: string, studentId?: string, shown: string}) => void} join called when the student
   *   has filled the form
   */
  constructor(join) {
    this.#form.addEventListener("submit", (submitted) => {
      submitted.preventDefault();
      if (!this.#button.disabled && this.#complete()) join(this.#who());
    });
    this.#fields.code.addEventListener("blur", () => this.#tidy());
  }

  get code() {
    return tidyCode(this.#fields.code.value);
  }

  set code(code) {
    this.#fields.code.value = code;
    this.#names.codeChanged();
  }

  get name() {
    return this.#fields.name.value.trim();
  }

  set name(name) {
    this.#fields.name.value = name;
  }

  get hidden() {
    return this.#form.hidden;
  }

  hide() {
    this.#form.hidden = true;
  }

  show() {
    this.#form.hidden = false;
    // On a phone the keyboard would hide half of the page; there the student taps the field.
    if (matchMedia("(hover: hover)").matches) (this.code ? this.#fields.name : this.#fields.code).focus();
  }

  #who() {
    const { code, name } = this;
    const chosen = this.#names.chosen;
    return chosen ? { code, studentId: chosen.student_id, shown: chosen.name } : { code, name, shown: name };
  }

  /** Show what was typed as it is sent. */
  #tidy() {
    const { code, name } = this;
    Object.assign(this, { code, name });
  }

  #complete() {
    this.#tidy();
    if (!this.code) this.complain("Type the code that your teacher shows, such as ABC-234.", "code");
    else if (!canRemember()) this.complain("This browser blocks storage for this page. Allow it, and try again.");
    else if (this.#names.chosen) return true;
    else if (!this.name)
      this.complain(
        this.#names.any
          ? "Choose your name from the list, or type it."
          : "Type your name, so that your teacher knows you.",
        "name",
      );
    else return true;
    return false;
  }

  /** Say what is wrong, below the field that it is about, and put the cursor there. */
  complain(message, about = null) {
    for (const [name, field] of Object.entries(this.#fields)) {
      field.classList.toggle("is-danger", name === about);
      if (name === about) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
    }
    const field = this.#fields[about];
    if (field) field.closest(".field").append(this.#error);
    else if (!this.#form.hidden) this.#button.before(this.#error);
    else find("waiting").after(this.#error);
    this.#error.textContent = message;
    field?.focus();
    field?.select();
  }

  /** Say why the server refused. */
  refused(failure) {
    if (failure.code === "cancelled") return this.complain("");
    if (!failure.retryAfter) return this.complain(failure.message, FIELD_OF[failure.code]);
    const codes = failure.code === "too_many_tries";
    this.complain(codes ? "Too many tries with wrong codes. Check the code while you wait." : failure.message);
    this.#wait(failure.retryAfter);
  }

  /** The button counts down. Screen readers announce only the sentence, and not each second. */
  #wait(seconds) {
    const until = performance.now() + seconds * 1000;
    clearInterval(this.#waiting);
    const show = () => {
      const left = Math.ceil((until - performance.now()) / 1000);
      this.#button.disabled = left > 0;
      this.#button.textContent = left > 0 ? `Wait ${left} s` : "Join";
      if (left > 0) return;
      clearInterval(this.#waiting);
      this.complain("");
    };
    this.#waiting = setInterval(show, 500);
    show();
  }
}

/** Whether this browser lets us remember from one page to the next who joined. */
function canRemember() {
  try {
    localStorage.setItem("classroom-observer try", "1");
    localStorage.removeItem("classroom-observer try");
    return true;
  } catch {
    return false;
  }
}
