/**
 * The page on which a student writes. Every change of the text is logged as one edit; the text itself is kept in the
 * browser too, so that a reload shows it with the server in reach or not.
 */

import { ClassroomStream } from "../client/stream.js";
import { counted } from "../shared/text.js";
import { countWords, difference, merge } from "./edits.js";
import { keepText, keepTextAtOnce, recallText } from "./kept-text.js";
import { Tabs } from "./tabs.js";

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
  return call;
}

async function start() {
  const member = await ClassroomStream.member();
  if (member) begin(member, await recallText(member.student_id));
  else location.replace("/join");
}

start();

function begin(member, kept) {
  let stream = null;
  let known = { title: "", text: "" };
  let cursor = { offset: 0, length: 0 };
  let raised = false;
  let behind = false;
  let paused = false;
  let alarmed = false;
  let resynced = Number.NEGATIVE_INFINITY;
  let messages = [];
  // Whether this tab leads the tabs of this student, and what the others know of its text.
  let leading = false;
  let told = { title: "", text: "" };
  // Whether this tab led, and has not delivered everything that it logged then.
  let owes = false;
  let shownAt = 0;
  const tabs = new Tabs(`classroom-observer tabs ${member.student_id} ${DOCUMENT}`, {
    read: () => ({ ...all(), at: Date.now(), base: told.text }),
    lead,
    follow,
    show: showLeaders,
    merge: mergeIn,
    settled: () => logWhole(),
    hand: (up) => raise(up),
  });

  // ---- The text in the browser ----

  function fill(from) {
    title.value = from.title ?? "";
    text.value = from.text ?? "";
    raised = from.raised === true;
    known = told = { title: title.value, text: text.value };
    showTitle();
    showWords();
    showHand();
  }

  const all = () => ({ title: title.value, text: text.value, raised });
  const keepSoon = soon(KEEP_MS, () => keepText(member.student_id, all(), { strict: stream?.connection !== "online" }));
  const keepToo = soon(KEEP_TOO_MS, () => {
    keepTextAtOnce(member.student_id, all());
    tell();
  });

  function tell() {
    tabs.tell();
    told = { title: title.value, text: text.value };
  }

  // Only the tab that leads has the newest text.
  function keep() {
    if (!leading) return;
    keepSoon();
    keepToo();
  }

  keep.now = () => {
    keepSoon.now();
    keepToo.now();
  };

  // ---- Other tabs of this student ----

  function showTabs() {
    title.readOnly = text.readOnly = tabs.follows;
    find("elsewhere").hidden = !tabs.follows;
    document.body.classList.toggle("is-elsewhere", tabs.follows);
    showState();
  }

  /** What was typed before it was known which tab leads; null where nothing was. */
  function early() {
    const typed = { title: title.value, text: text.value };
    return typed.title === known.title && typed.text === known.text ? null : typed;
  }

  async function lead(given) {
    // A tab that is gone left its text in the browser.
    const kept = given ?? (await recallText(member.student_id));
    if (!tabs.leads) return;
    const [typed, before, cursor] = [early(), known, text.selectionStart];
    if (kept.text !== undefined && (given || (kept.at ?? 0) >= shownAt)) fill(kept);
    if (typed) {
      text.value = merge(before.text, typed.text, known.text);
      if (typed.title !== before.title) title.value = typed.title;
      text.setSelectionRange(cursor, cursor);
      showTitle();
      showWords();
    }
    leading = true;
    owes = false;
    logWhole();
    if (raised || given) log({ event: "help", raised });
    if (given || typed) keep();
    showTabs();
  }

  /** Another tab leads; it has asked for what is here after the last change. */
  function follow() {
    keep.now();
    owes ||= leading && stream !== null && stream.pending > 0;
    leading = false;
    showTabs();
  }

  function showLeaders(state) {
    shownAt = state.at;
    fill(state);
  }

  /** Another tab led at the same time, and what was typed there is not to be lost. */
  function mergeIn(state) {
    if (!leading) return;
    const merged = merge(state.base ?? told.text, text.value, state.text);
    if (merged === text.value) return;
    const cursor = text.selectionStart;
    text.value = merged;
    if (title.value === told.title) title.value = state.title;
    text.setSelectionRange(cursor, cursor);
    logWhole();
    keep();
    tell();
    showTitle();
    showWords();
  }

  find("write-here").addEventListener("click", async () => {
    await tabs.take();
    text.focus();
  });

  // ---- What is logged ----

  /** Log an event; where it cannot be, the whole text follows as soon as it can. */
  function log(event) {
    if (!stream || (event.document && !leading)) return;
    try {
      if (behind && leading) {
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
    if (!leading) return;
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
    if (title.value === known.title || !leading) return;
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
    if (leading) log({ event: "help", raised });
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
    const { pending, connection } = stream;
    if (connection === "refused") {
      if (stream.refused === "removed") return ["refused", "Your teacher removed you. What you write now is not sent."];
      return [
        "refused",
        pending ? `${counted(pending, "change")} not sent yet.` : "You are not in the class any more.",
      ];
    }
    if (!leading && !tabs.follows) return ["saving", "Saving…"];
    if (stream.resending)
      return ["waiting", "Something of your last changes could not be used. Your text is sent again."];
    const safe = stream.durable
      ? "Your work is safe on this device and is sent later. Keep writing; do not close this page."
      : "Your work is only in this page, and is sent later. Keep writing; do not close this page.";
    if (connection === "waiting")
      return ["waiting", pending ? `No connection. ${safe}` : "Saved. No connection right now. Keep writing."];
    if (connection === "online" && !pending)
      return tabs.follows ? ["elsewhere", "Shown from another tab"] : ["saved", "Saved"];
    if (stream.stalled && pending) return ["waiting", `Saving takes longer than usual. ${safe}`];
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
    tabs.insist();
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
    tabs.insist();
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

  function raise(up) {
    raised = up;
    showHand();
    log({ event: "help", raised });
    keep();
  }

  hand.addEventListener("click", () => {
    if (leading) return raise(!raised);
    raised = !raised;
    showHand();
    tabs.hand(raised);
  });

  find("dismiss").addEventListener("click", () => {
    messages = [];
    find("message").hidden = true;
    text.focus();
  });

  function leave() {
    if (!leading && !tabs.follows && early()) keepTextAtOnce(member.student_id, all());
    logEdit();
    logTitle.now();
    keep.now();
  }

  // These come before the stream's own listeners, which write down what was logged.
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "hidden") leave();
    else tabs.check();
    logVisibility();
  });
  document.addEventListener("resume", () => tabs.check());
  window.addEventListener("pagehide", () => {
    leave();
    tabs.leave();
    follow();
  });
  window.addEventListener("focus", logFocus);
  window.addEventListener("blur", () => {
    keep.now();
    logFocus();
  });
  window.addEventListener("beforeunload", (leaving) => {
    if (stream && !stream.durable && stream.pending) leaving.preventDefault();
  });

  window.addEventListener("storage", async (event) => {
    if (event.key !== "classroom-observer") return;
    if ((await ClassroomStream.member())?.student_id === member.student_id) return;
    leave();
    location.reload();
  });
  window.addEventListener("pageshow", ({ persisted }) => persisted && tabs.begin());

  async function open() {
    stream = await ClassroomStream.open({ source: SOURCE });
    stream.addEventListener("status", () => {
      logAfterPause();
      showState();
      if (!owes || stream.pending) return;
      owes = false;
      tabs.settled();
    });
    stream.addEventListener("message", ({ detail }) => showMessage(detail.text));
    stream.addEventListener("reject", () => {
      // What could not be used leaves a hole; the whole text closes it. Not in a circle, should that be the trouble.
      if (performance.now() - resynced < RESYNC_MS) return;
      resynced = performance.now();
      logWhole();
    });
    stream.addEventListener("resync", logAnew);
    logWhole();
    if (raised && leading) log({ event: "help", raised });
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
  tabs.begin();
  open();
}
