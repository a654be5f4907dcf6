/**
 * The page on which a student joins a class. The code may come in the fragment, /join#ABC-234: a fragment is never sent
 * to a server, so it stands in nobody's log.
 */

import { ClassroomStream } from "../client/stream.js";
import { inheritText } from "./kept-text.js";

const find = (id) => document.getElementById(id);
const [again, form, error, button] = ["again", "form", "error", "join"].map(find);
const fields = { code: find("code"), name: find("name") };

// Which field a refusal is about; those that are not here are about neither.
const ABOUT = {
  wrong_code: "code",
  unknown_class: "code",
  class_closed: "code",
  class_full: "code",
  unknown_student: "name",
  bad_name: "name",
};

let waiting = null;
// Who this browser was, where the server does not know that student any more.
let forgotten = null;

function codeOfAddress() {
  let text = location.hash.slice(1);
  try {
    text = decodeURIComponent(text);
  } catch {
    // A stray percent sign; the text is shown as it stands.
  }
  return neat(text.slice(0, 40));
}

/** A code as it is written on the board: capitals, and the dash where it was left out. */
function neat(text) {
  const plain = text.trim().toUpperCase();
  return /^[A-Z]{3}[0-9]{3}$/.test(plain) ? `${plain.slice(0, 3)}-${plain.slice(3)}` : plain;
}

/** Say what is wrong, below the field that it is about, and put the cursor there. */
function complain(message, about = null) {
  for (const [name, field] of Object.entries(fields)) {
    field.classList.toggle("is-danger", name === about);
    if (name === about) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
  }
  if (about) fields[about].closest(".field").append(error);
  else if (!form.hidden) button.before(error);
  else again.after(error);
  error.textContent = message;
  if (about) {
    fields[about].focus();
    fields[about].select();
  }
}

function showForm() {
  again.hidden = true;
  form.hidden = false;
  // A phone's keyboard would hide half of the page; there the student touches the field.
  if (matchMedia("(hover: hover)").matches) (fields.code.value ? fields.name : fields.code).focus();
}

function showAgain(member) {
  find("who").textContent = member.name ? `, ${member.name}` : "";
  find("class").textContent = member.class_title ?? "";
  find("class").hidden = !member.class_title;
  form.hidden = true;
  again.hidden = false;
}

/** Whether this browser lets us remember from one page to the next who joined. */
function remembers() {
  try {
    localStorage.setItem("classroom-observer try", "1");
    localStorage.removeItem("classroom-observer try");
    return true;
  } catch {
    return false;
  }
}

function busy(yes) {
  for (const each of [button, find("go")]) {
    each.classList.toggle("is-loading", yes);
    each.disabled = yes;
  }
}

/** Where the server says how long to wait, as after too many wrong codes: the button counts down. Only the sentence is read aloud, not each second. */
function wait(seconds) {
  const until = performance.now() + seconds * 1000;
  clearInterval(waiting);
  const show = () => {
    const left = Math.ceil((until - performance.now()) / 1000);
    button.disabled = left > 0;
    button.textContent = left > 0 ? `Wait ${left} s` : "Join";
    if (left > 0) return;
    clearInterval(waiting);
    waiting = null;
    complain("");
  };
  waiting = setInterval(show, 500);
  show();
}

function refused(failure) {
  if (failure.retryAfter) {
    const codes = failure.code === "too_many_tries";
    complain(codes ? "Too many tries with wrong codes. Check the code while you wait." : failure.message);
    wait(failure.retryAfter);
  } else {
    complain(failure.message, ABOUT[failure.code]);
  }
}

async function join(code, name) {
  busy(true);
  complain("");
  try {
    const joined = await ClassroomStream.join({ code, name });
    if (forgotten?.name === joined.name) await inheritText(forgotten.student_id, joined.student_id);
    location.assign("/write");
  } catch (failure) {
    busy(false);
    throw failure;
  }
}

form.addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  if (button.disabled) return;
  fields.code.value = neat(fields.code.value);
  fields.name.value = fields.name.value.trim();
  if (!fields.code.value) return complain("Type the code that your teacher shows, such as ABC-234.", "code");
  if (!remembers()) return complain("This browser keeps no data of this page. Allow it to, and try again.");
  if (!fields.name.value) return complain("Type your name, so that your teacher knows you.", "name");
  try {
    await join(fields.code.value, fields.name.value);
  } catch (failure) {
    refused(failure);
  }
});

fields.code.addEventListener("blur", () => {
  fields.code.value = neat(fields.code.value);
});

find("go").addEventListener("click", async () => {
  const code = codeOfAddress();
  if (!code) return location.assign("/write");
  // The code may be another class's, into which the same person goes now.
  try {
    await join(code, (await ClassroomStream.member())?.name ?? "");
  } catch (failure) {
    // Whoever is in may go on, also where nobody may join or the server is out of reach just now.
    if (["class_closed", "class_full", "offline"].includes(failure.code)) return location.assign("/write");
    showForm();
    refused(failure);
  }
});

find("other").addEventListener("click", async () => {
  await ClassroomStream.forget();
  fields.name.value = "";
  complain("");
  showForm();
});

// Coming back by the browser's own button shows the page as it was left, with the button at work.
window.addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
window.addEventListener("hashchange", () => {
  fields.code.value = codeOfAddress();
});

async function begin() {
  fields.code.value = codeOfAddress();
  const member = await ClassroomStream.member();
  if (!member) return showForm();
  fields.name.value = member.name ?? "";
  showAgain(member);
  try {
    const student = await ClassroomStream.me();
    if (again.hidden) return;
    if (student) return showAgain(student);
    forgotten = member;
    showForm();
    complain("Please join again.");
  } catch {
    // The server cannot be asked just now. The writing page waits for it.
  }
}

begin();
