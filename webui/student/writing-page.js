import { ClassroomStream } from "../client/stream.js";
import { find } from "../shared/page.js";
import { soon } from "../shared/soon.js";
import { merge } from "./edits.js";
import { EventLog } from "./event-log.js";
import { Fields } from "./fields.js";
import { inheritText, keepText, keepTextAtOnce, recallText } from "./kept-text.js";
import { Messages } from "./messages.js";
import { Removed } from "./removed.js";
import { SaveStatusLine } from "./save-status.js";
import { Tabs } from "./tabs.js";

const SOURCE = "classroom-observer.write";
export const DOCUMENT = "essay";
const KEEP_MS = 150;
const KEEP_AT_ONCE_MS = 2_000;

/** The page of a student who writes. Of several tabs one leads: it changes the document, and the others show it. */
export class WritingPage {
  #member;
  #fields = new Fields();
  #status = new SaveStatusLine();
  #log = new EventLog(this.#fields, () => this.#leading);
  #stream = null;
  #tabs;
  #removed = new Removed();
  #leading = false;
  // Title and text that the other tabs have.
  #shared = { title: "", text: "" };
  // Whether this tab led, and the server does not have all of it yet.
  #owes = false;
  // When the text was shown that the leader has sent, in ms since the epoch.
  #shownAt = 0;
  #keepSoon = soon(KEEP_MS, () => this.#keepText());
  #keepAtOnceSoon = soon(KEEP_AT_ONCE_MS, () => {
    keepTextAtOnce(this.#member.student_id, this.#fields.read());
    this.#share();
  });

  constructor(member) {
    this.#member = member;
    this.#tabs = new Tabs(`classroom-observer tabs ${member.student_id} ${DOCUMENT}`, {
      read: () => ({ ...this.#fields.read(), at: Date.now(), base: this.#shared.text }),
      lead: (given) => this.#lead(given),
      follow: () => this.#follow(),
      show: (state) => this.#showLeaders(state),
      merge: (state) => this.#mergeIn(state),
      settled: () => this.#log.logWhole(),
      hand: (up) => this.#raise(up),
    });
  }

  /** @param {{title?: string, text?: string, raised?: boolean}} kept what the browser has of the text */
  start(kept) {
    this.#fill(kept);
    this.#fields.showWords.now();
    find("who").textContent = this.#member.name ?? "";
    const { text } = this.#fields;
    if (matchMedia("(hover: hover)").matches) text.focus();
    text.setSelectionRange(text.value.length, text.value.length);
    this.#listenToFields();
    this.#listenToPage();
    this.#tabs.begin();
    this.#openStream();
  }

  async #openStream() {
    const stream = await ClassroomStream.open({ source: SOURCE });
    const messages = new Messages(() => this.#fields.text.focus());
    stream.addEventListener("message", ({ detail }) => messages.show(detail.text));
    stream.addEventListener("status", () => this.#statusChanged());
    this.#stream = stream;
    this.#log.begin(stream);
    this.#showStatus();
  }

  #statusChanged() {
    this.#log.pauseChanged();
    this.#checkStudent(this.#stream.student);
    this.#showStatus();
    if (this.#stream.refused === "removed") this.#removed.show(() => this.#fields.lock(true));
    if (!this.#owes || this.#stream.pending) return;
    this.#owes = false;
    this.#tabs.settled();
  }

  /** The teacher may have merged this student into another one, or changed the name. */
  #checkStudent({ student_id: id, name }) {
    if (name && name !== this.#member.name) find("who").textContent = name;
    const before = this.#member.student_id;
    this.#member = { ...this.#member, name: name ?? this.#member.name, student_id: id ?? before };
    // The text here is this student's, and the newest.
    if (id && id !== before) inheritText(before, id);
  }

  #showStatus() {
    this.#status.show(this.#stream, { leads: this.#leading, follows: this.#tabs.follows });
  }

  #fill(from) {
    this.#fields.fill(from);
    this.#log.filled();
    this.#shared = { ...this.#log.known };
  }

  // ---- The text in the browser ----

  #keepText() {
    const strict = this.#stream?.connection !== "online";
    return keepText(this.#member.student_id, this.#fields.read(), { strict });
  }

  /** Keep the text, in the tab that leads: it alone has the newest. */
  #keep() {
    if (!this.#leading) return;
    this.#keepSoon();
    this.#keepAtOnceSoon();
  }

  #keepNow() {
    this.#keepSoon.now();
    this.#keepAtOnceSoon.now();
  }

  /** The page may be closed. */
  #leave() {
    if (!this.#leading && !this.#tabs.follows && this.#typedEarly())
      keepTextAtOnce(this.#member.student_id, this.#fields.read());
    this.#log.logEdit();
    this.#log.titleChanged.now();
    this.#keepNow();
  }

  // ---- Other tabs of this student ----

  #share() {
    this.#tabs.share();
    const { title, text } = this.#fields.read();
    this.#shared = { title, text };
  }

  #showTabs() {
    const { follows } = this.#tabs;
    this.#fields.lock(follows || this.#removed.is);
    find("elsewhere").hidden = !follows;
    document.body.classList.toggle("is-elsewhere", follows);
    this.#showStatus();
  }

  /** Whether the student typed before it was known which tab leads. */
  #typedEarly() {
    return this.#fields.differFrom(this.#log.known);
  }

  /** This tab leads, from what the leader before it has given, or null. */
  async #lead(given) {
    // A tab that is gone left its text in the browser.
    const kept = given ?? (await recallText(this.#member.student_id));
    if (!this.#tabs.leads) return;
    const typed = this.#takeOver(kept, given !== null);
    this.#leading = true;
    this.#owes = false;
    this.#log.logWhole();
    if (this.#fields.raised || given) this.#log.logHand();
    if (given || typed) this.#keep();
    this.#showTabs();
  }

  /** Show the newest text, with what was typed here meanwhile; whether something was. */
  #takeOver(kept, given) {
    const before = { ...this.#log.known };
    const typed = this.#typedEarly() ? this.#fields.read() : null;
    const cursor = this.#fields.text.selectionStart;
    if (kept.text !== undefined && (given || (kept.at ?? 0) >= this.#shownAt)) this.#fill(kept);
    if (!typed) return false;
    const { title, text } = this.#log.known;
    this.#fields.replace(
      merge(before.text, typed.text, text),
      typed.title === before.title ? title : typed.title,
      cursor,
    );
    return true;
  }

  /** Another tab leads, and has asked for what this one has after the last change. */
  #follow() {
    this.#keepNow();
    this.#owes ||= this.#leading && this.#stream !== null && this.#stream.pending > 0;
    this.#leading = false;
    this.#showTabs();
  }

  #showLeaders(state) {
    this.#shownAt = state.at;
    this.#fill(state);
  }

  /** Another tab led at the same time; what was typed there must not be lost. */
  #mergeIn(state) {
    if (!this.#leading) return;
    const { title, text } = this.#fields.read();
    const merged = merge(state.base ?? this.#shared.text, text, state.text);
    if (merged === text) return;
    this.#fields.replace(merged, title === this.#shared.title ? state.title : title);
    this.#log.logWhole();
    this.#keep();
    this.#share();
  }

  // ---- What the student does ----

  #raise(up) {
    this.#fields.raise(up);
    this.#log.logHand();
    this.#keep();
  }

  #textChanged() {
    this.#log.logEdit();
    this.#keep();
  }

  #listenToFields() {
    const { title, text, hand } = this.#fields;
    text.addEventListener("input", () => {
      this.#tabs.insist();
      this.#textChanged();
      this.#fields.showWords();
    });
    // Some input methods change the text once more when they end, without an input event.
    text.addEventListener("compositionend", () => this.#textChanged());
    title.addEventListener("input", () => {
      this.#tabs.insist();
      this.#log.titleChanged();
      this.#keep();
      this.#fields.showTitle();
    });
    title.addEventListener("keydown", (pressed) => {
      if (pressed.key !== "Enter" || pressed.isComposing) return;
      pressed.preventDefault();
      text.focus();
    });
    title.addEventListener("blur", () => this.#log.titleChanged.now());
    for (const target of [document, text]) target.addEventListener("selectionchange", this.#log.cursorMoved);
    hand.addEventListener("click", () => {
      if (this.#leading) return this.#raise(!this.#fields.raised);
      this.#fields.raise(!this.#fields.raised);
      this.#tabs.hand(this.#fields.raised);
    });
    find("write-here").addEventListener("click", async () => {
      await this.#tabs.take();
      text.focus();
    });
  }

  /** These listeners run before the stream's own, which store what was logged. */
  #listenToPage() {
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "hidden") this.#leave();
      else this.#tabs.check();
      this.#log.visibilityChanged();
    });
    document.addEventListener("resume", () => this.#tabs.check());
    window.addEventListener("pagehide", () => {
      this.#leave();
      this.#tabs.leave();
      this.#follow();
    });
    window.addEventListener("pageshow", ({ persisted }) => persisted && this.#tabs.begin());
    window.addEventListener("focus", () => this.#log.focusChanged());
    window.addEventListener("blur", () => {
      this.#keepNow();
      this.#log.focusChanged();
    });
    window.addEventListener("beforeunload", (leaving) => {
      if (this.#stream && !this.#stream.durable && this.#stream.pending) leaving.preventDefault();
    });
    window.addEventListener("storage", ({ key }) => this.#checkMember(key));
  }

  /** Another student joined in another tab: show that student's text. */
  async #checkMember(key) {
    if (key !== "classroom-observer") return;
    if ((await ClassroomStream.member())?.student_id === this.#member.student_id) return;
    this.#leave();
    location.reload();
  }
}
