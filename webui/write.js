/**
 * The page on which a student writes. Every change of the text is logged as one edit; the text itself is kept in the
 * browser too, so that a reload shows it with the server in reach or not.
 */

import { ClassroomStream } from "/client.js";
import { countWords, difference } from "/static/edits.js";
import { keepText, keepTextAtOnce, recallText, textOfEvent } from "/static/session.js";
import { counted } from "/static/wording.js";

const SOURCE = "classroom-observer.write";
const DOCUMENT = "essay";
const CURSOR_MS = 300;
const TITLE_MS = 600;
const KEEP_MS = 150;
const KEEP_TOO_MS = 2000;
const WORDS_MS = 200;
const RESYNC_MS = 60_000;
const MESSAGES = 3;

const find = (id) => document.getElementById(id);
const [title, text, hand] = ["title", "text", "hand"].map(find);

/** Run soon, once for many calls; `now` runs it at once where it was due. */
function soon(ms, act) {
  let timer = null;
  const run = () => {
    clearTimeout(timer);
    timer = null;
    act();
  };
  const call = () => {
    timer ??= setTimeout(run, ms);
  };
  call.now = () => timer !== null && run();
  call.isDue = () => timer !== null;
  return call;
}

const member = await ClassroomStream.member();
if (member) begin(await recallText(member.student_id));
else location.replace("/join");

function begin(kept) {
  let stream = null;
  let known = { title: "", text: "" };
  let cursor = { offset: 0, length: 0 };
  let raised = false;
  let behind = false;
  let paused = false;
  let alarmed = false;
  let resynced = 0;
  let messages = [];

  // ---- The text in the browser ----

  function fill(from) {
    title.value = from.title ?? "";
    text.value = from.text ?? "";
    raised = from.raised === true;
    known = { title: title.value, text: text.value };
    showTitle();
    showWords();
    showHand();
  }

  const all = () => ({ title: title.value, text: text.value, raised });
  const keepSoon = soon(KEEP_MS, () => keepText(member.student_id, all(), { strict: stream?.connection !== "online" }));
  const keepToo = soon(KEEP_TOO_MS, () => keepTextAtOnce(member.student_id, all()));

  function keep() {
    keepSoon();
    keepToo();
  }

  keep.now = () => {
    keepSoon.now();
    keepToo.now();
  };

  // ---- What is logged ----

  /** Log an event; where it cannot be, the whole text follows as soon as it can. */
  function log(event) {
    if (!stream) return;
    try {
      if (behind) {
        behind = false;
        stream.log({ event: "document", document: DOCUMENT, title: title.value, text: text.value });
        if (event.event === "edit" || event.event === "document") return;
      }
      stream.log(event);
    } catch {
      behind ||= event.event === "edit" || event.event === "document";
    }
  }

  function logWhole() {
    known = { title: title.value, text: text.value };
    log({ event: "document", document: DOCUMENT, ...known });
  }

  function logEdit() {
    const edit = difference(known.text, text.value, text.selectionStart);
    if (!edit) return;
    known.text = text.value;
    // Whoever reads the edit knows that the cursor stands at its end.
    cursor = { offset: edit.offset + edit.insert.length, length: 0 };
    log({ event: "edit", document: DOCUMENT, ...edit });
  }

  const logCursor = soon(CURSOR_MS, () => {
    const now = { offset: text.selectionStart, length: text.selectionEnd - text.selectionStart };
    if (document.activeElement !== text || (now.offset === cursor.offset && now.length === cursor.length)) return;
    cursor = now;
    log({ event: "cursor", document: DOCUMENT, ...now });
  });

  const logTitle = soon(TITLE_MS, () => {
    if (title.value === known.title) return;
    known.title = title.value;
    log({ event: "document", document: DOCUMENT, title: title.value });
  });

  function logChanges(name, key, read) {
    let last = null;
    return (anew) => {
      const now = read();
      if (stream && (now !== last || anew === true)) log({ event: name, [key]: now });
      if (stream) last = now;
    };
  }

  const logVisibility = logChanges("visibility", "visible", () => document.visibilityState === "visible");
  const logFocus = logChanges("focus", "focused", () => document.hasFocus());

  /** Some of what was logged does not count at the server, and what comes after it would not fit: all is told anew. */
  function logAnew() {
    logEdit();
    logWhole();
    log({ event: "help", raised });
    logVisibility(true);
    logFocus(true);
  }

  /** What was logged during a pause does not count. */
  function logAfterPause() {
    const before = paused;
    paused = stream.paused;
    if (before && !paused) logAnew();
  }

  // ---- What is shown ----

  const showWords = soon(WORDS_MS, () => {
    const words = countWords(text.value);
    find("words").textContent = counted(words, "word");
    find("full").hidden = text.value.length < text.maxLength;
  });

  function showTitle() {
    document.title = title.value.trim() || "Write";
  }

  function showHand() {
    hand.setAttribute("aria-pressed", String(raised));
    hand.textContent = raised ? "Hand is up" : "Raise hand";
    hand.classList.toggle("is-warning", raised);
  }

  /** Where the text is, in words that are true: `[state, sentence]`. */
  function whereItIs() {
    if (!stream) return ["saving", "Saving…"];
    const { pending } = stream;
    const changes = counted(pending, "change");
    if (stream.connection === "refused") {
      if (stream.refused === "removed") return ["refused", "You were taken out of the class."];
      return ["refused", pending ? `${changes} not sent yet.` : "You are not in the class any more."];
    }
    if (stream.connection === "waiting") {
      if (!pending) return ["waiting", "Saved. The class computer is out of reach just now; keep writing."];
      if (stream.durable)
        return ["waiting", `${changes} on this device, waiting for the class computer. Keep writing.`];
      return ["waiting", `${changes} waiting for the class computer. Keep this page open until it says “Saved”.`];
    }
    if (stream.connection === "online" && !pending) return ["saved", "Saved"];
    if (stream.stalled && pending) {
      if (stream.durable) return ["waiting", `${changes} on this device, waiting to be saved. Keep writing.`];
      return ["waiting", `${changes} waiting to be saved. Keep this page open until it says “Saved”.`];
    }
    return ["saving", "Saving…"];
  }

  function showState() {
    const [state, sentence] = whereItIs();
    const saved = find("saved");
    saved.dataset.state = state;
    if (find("saved-text").textContent !== sentence) find("saved-text").textContent = sentence;
    find("rejoin").hidden = state !== "refused" || stream.refused === "removed";
    const pauses = stream?.paused === true && state !== "refused";
    if (find("paused").hidden === pauses) find("paused").hidden = !pauses;
    sayAloud(state, sentence);
  }

  /** Only what a person must know is read aloud; "Saving" and "Saved" alternate, and counts change, with every word. */
  function sayAloud(state, sentence) {
    let words = find("aloud").textContent;
    if (state === "waiting" || state === "refused") {
      words = sentence.replace(/^[\d,]+ changes?/, "Changes");
      alarmed = true;
    } else if (state === "saving") {
      words = "";
    } else if (alarmed) {
      words = "Saved";
      alarmed = false;
    }
    if (find("aloud").textContent !== words) find("aloud").textContent = words;
  }

  function showMessage(words) {
    messages = [...messages, words].slice(-MESSAGES);
    find("words-of-teacher").textContent = messages.join("\n");
    find("message").hidden = false;
  }

  // ---- What happens ----

  text.addEventListener("input", () => {
    logEdit();
    keep();
    showWords();
  });
  // Some input methods change the text once more when they end, without an input event.
  text.addEventListener("compositionend", () => {
    logEdit();
    keep();
  });
  title.addEventListener("input", () => {
    logTitle();
    keep();
    showTitle();
  });
  title.addEventListener("keydown", (pressed) => {
    if (pressed.key !== "Enter" || pressed.isComposing) return;
    pressed.preventDefault();
    text.focus();
  });
  title.addEventListener("blur", () => logTitle.now());
  document.addEventListener("selectionchange", logCursor);
  text.addEventListener("selectionchange", logCursor);

  hand.addEventListener("click", () => {
    raised = !raised;
    showHand();
    log({ event: "help", raised });
    keep();
  });

  find("dismiss").addEventListener("click", () => {
    messages = [];
    find("message").hidden = true;
    text.focus();
  });

  function leave() {
    logEdit();
    logTitle.now();
    keep.now();
  }

  // These come before the stream's own listeners, which write down what was logged.
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "hidden") leave();
    logVisibility();
  });
  window.addEventListener("pagehide", leave);
  window.addEventListener("focus", logFocus);
  window.addEventListener("blur", () => {
    keep.now();
    logFocus();
  });
  window.addEventListener("beforeunload", (leaving) => {
    if (stream && !stream.durable && stream.pending) leaving.preventDefault();
  });

  window.addEventListener("storage", async (event) => {
    const elsewhere = textOfEvent(member.student_id, event);
    // The student writes in another tab, which logs it; here it is only shown.
    if (elsewhere && !keepToo.isDue()) fill(elsewhere);
    if (event.key !== "classroom-observer") return;
    if ((await ClassroomStream.member())?.student_id === member.student_id) return;
    leave();
    location.reload();
  });

  async function open() {
    stream = await ClassroomStream.open({ source: SOURCE });
    stream.addEventListener("status", () => {
      logAfterPause();
      showState();
    });
    stream.addEventListener("message", ({ detail }) => showMessage(detail.text));
    stream.addEventListener("reject", () => {
      // What could not be used leaves a hole; the whole text closes it. Not in a circle, should that be the trouble.
      if (Date.now() - resynced < RESYNC_MS) return;
      resynced = Date.now();
      logWhole();
    });
    stream.addEventListener("resync", logAnew);
    logWhole();
    if (raised) log({ event: "help", raised });
    logVisibility();
    logFocus();
    paused = stream.paused;
    showState();
  }

  fill(kept);
  showWords.now();
  find("who").textContent = member.name ?? "";
  if (matchMedia("(hover: hover)").matches) text.focus();
  text.setSelectionRange(text.value.length, text.value.length);
  open();
}
