import { soon } from "../shared/soon.js";
import { difference } from "./edits.js";

const DOCUMENT = "essay";
const CURSOR_MS = 300;
const TITLE_MS = 600;
const RESYNC_MS = 60_000;

/** Logs what the student does to a stream: edits, title, cursor, hand, and whether the page is seen. */
export class EventLog {
  #fields;
  #mayWrite;
  #stream = null;
  // The text as it was logged last.
  #known = { title: "", text: "" };
  #cursor = { offset: 0, length: 0 };
  // Whether an event of the document could not be logged, so that the whole text must follow.
  #incomplete = false;
  #paused = false;
  #rejectedAt = Number.NEGATIVE_INFINITY;
  cursorMoved = soon(CURSOR_MS, () => this.#logCursor());
  titleChanged = soon(TITLE_MS, () => this.#logTitle());
  visibilityChanged = this.#changes("visibility", "visible", () => document.visibilityState === "visible");
  focusChanged = this.#changes("focus", "focused", () => document.hasFocus());

  /** @param {() => boolean} mayWrite whether this tab is the one that changes the document */
  constructor(fields, mayWrite) {
    this.#fields = fields;
    this.#mayWrite = mayWrite;
  }

  /** Title and text as they were logged last. */
  get known() {
    return this.#known;
  }

  /** The fields were filled with what is known elsewhere. */
  filled() {
    this.#known = this.#current();
  }

  /** Begin to log to a stream, with the state of the page. */
  begin(stream) {
    this.#stream = stream;
    this.#paused = stream.paused;
    stream.addEventListener("resync", () => this.logAll());
    stream.addEventListener("reject", () => this.#rejected());
    this.logWhole();
    if (this.#fields.raised && this.#mayWrite()) this.logHand();
    this.visibilityChanged();
    this.focusChanged();
  }

  #current() {
    const { title, text } = this.#fields.read();
    return { title, text };
  }

  #log(event) {
    if (!this.#stream || (event.document && !this.#mayWrite())) return;
    const changes = event.event === "edit" || event.event === "document";
    try {
      if (this.#incomplete && this.#mayWrite()) {
        this.#incomplete = false;
        this.#stream.log({ event: "document", document: DOCUMENT, ...this.#current() });
        if (changes) return;
      }
      this.#stream.log(event);
    } catch {
      this.#incomplete ||= changes;
    }
  }

  /** The text changed: log the difference. */
  logEdit() {
    if (!this.#mayWrite()) return;
    const { text } = this.#fields;
    const edit = difference(this.#known.text, text.value, text.selectionStart);
    if (!edit) return;
    this.#known.text = text.value;
    // A reader of the edit knows that the cursor is at its end.
    this.#cursor = { offset: edit.offset + edit.insert.length, length: 0 };
    this.#log({ event: "edit", document: DOCUMENT, ...edit });
  }

  /** Log the whole text. In a tab that may not write, what was typed early stays different from what is known. */
  logWhole() {
    if (!this.#mayWrite()) return;
    this.#known = this.#current();
    this.#log({ event: "document", document: DOCUMENT, ...this.#known });
  }

  logHand() {
    this.#log({ event: "help", raised: this.#fields.raised });
  }

  /** Log the whole state of the page, since some earlier events do not count at the server. */
  logAll() {
    this.logEdit();
    this.logWhole();
    if (this.#mayWrite()) this.logHand();
    this.visibilityChanged(true);
    this.focusChanged(true);
  }

  /** The state of the class may have changed: events of a pause do not count. */
  pauseChanged() {
    const before = this.#paused;
    this.#paused = this.#stream.paused;
    if (before && !this.#paused) this.logAll();
  }

  #logCursor() {
    const { text } = this.#fields;
    const now = { offset: text.selectionStart, length: text.selectionEnd - text.selectionStart };
    if (document.activeElement !== text) return;
    if (now.offset === this.#cursor.offset && now.length === this.#cursor.length) return;
    this.#cursor = now;
    this.#log({ event: "cursor", document: DOCUMENT, ...now });
  }

  #logTitle() {
    const title = this.#fields.title.value;
    if (title === this.#known.title || !this.#mayWrite()) return;
    this.#known.title = title;
    this.#log({ event: "document", document: DOCUMENT, title });
  }

  /** A rejected event leaves a hole, which the whole text closes; at most once a minute, should the text be the cause. */
  #rejected() {
    if (performance.now() - this.#rejectedAt < RESYNC_MS) return;
    this.#rejectedAt = performance.now();
    this.logWhole();
  }

  /** A function that logs a value if it differs from the last time, or if `again` is true. */
  #changes(name, key, read) {
    let last = null;
    return (again) => {
      const now = read();
      if (!this.#stream || (now === last && again !== true)) return;
      this.#log({ event: name, [key]: now });
      last = now;
    };
  }
}
