import { clock } from "./clock.js";
import { ClassroomError } from "./errors.js";
import { DEFAULT_LIMITS } from "./protocol.js";

// What surrounds the events of a frame: {"type":"events","first":9007199254740991,"events":[]}
const ENVELOPE_BYTES = 60;

const encoder = new TextEncoder();

/**
 * The events of one stream that the server has not acknowledged, and the frames that carry them.
 *
 * It knows no socket, no storage and no time. An event is logged (it gets its number), then stored, then sent, then
 * acknowledged. It is never sent before it is stored: after a crash its number could be given to another event, and the
 * server would take that one for a repetition.
 */
export class Outbox {
  #items = [];
  // How many items, from the first, are on their way.
  #sent = 0;
  #storedTo;
  #order = 0;
  // Our own limits, below the server's, after it could not use a frame.
  #maxBytes = Number.POSITIVE_INFINITY;
  #maxEvents = Number.POSITIVE_INFINITY;
  #largestFrame = 0;

  /**
   * @param {string} stream its id
   * @param {{next?: number, held?: {seq: number, text: string}[]}} [kept] what an earlier page of this stream stored
   */
  constructor(stream, { next = 1, held = [] } = {}) {
    this.stream = stream;
    this.limits = { ...DEFAULT_LIMITS };
    /** The number that the next event gets. */
    this.next = next;
    for (const { seq, text } of held) {
      this.#push(seq, text, true);
      this.next = Math.max(this.next, seq + 1);
    }
    this.#storedTo = this.next - 1;
    /** `next` in the storage. When the storage has another value, another tab uses this stream too. */
    this.storedNext = next;
  }

  #push(seq, text, known, order = ++this.#order) {
    this.#items.push({ seq, text, bytes: encoder.encode(text).length, order, known });
  }

  /** How many events are not acknowledged. */
  get pending() {
    return this.#items.length;
  }

  /** The number of the last event. */
  get last() {
    return this.next - 1;
  }

  /** Whether something was sent and is not acknowledged. */
  get waiting() {
    return this.#sent > 0;
  }

  /** A mark for what was logged so far; see `settled`. */
  get mark() {
    return this.#order;
  }

  /** Whether all that was logged up to a mark is acknowledged. */
  settled(mark) {
    return !this.#items.length || this.#items[0].order > mark;
  }

  /**
   * Give an event its number, and return the number.
   *
   * @throws {ClassroomError} for what can never be sent: no object, no string `event`, not JSON, or too large
   */
  add(event) {
    if (typeof event !== "object" || event === null || Array.isArray(event))
      throw new ClassroomError("not_an_object", "An event must be an object.");
    if (typeof event.event !== "string" || !event.event)
      throw new ClassroomError("no_event_name", 'An event must have a name, a string, as its "event".');
    const text = asJson(event);
    const limit = this.limits.frame_bytes;
    const bytes = text.length > limit / 3 ? encoder.encode(text).length : 0;
    if (bytes + ENVELOPE_BYTES > limit)
      throw new ClassroomError("too_large", `An event may have ${limit} bytes; this one has ${bytes}.`);
    this.#push(this.next, text, false);
    return this.next++;
  }

  /** The events that are not stored yet, oldest first: `{seq, text}`. */
  unstored() {
    let first = this.#items.length;
    while (first > 0 && this.#items[first - 1].seq > this.#storedTo) first--;
    return this.#items.slice(first);
  }

  /** All events up to a number are stored, and may be sent. */
  stored(seq) {
    this.#storedTo = Math.max(this.#storedTo, seq);
    this.storedNext = this.#storedTo + 1;
  }

  /** The next frame to send, as text; null when there is none, or too many events are on their way. */
  frame() {
    const maxBytes = Math.min(this.limits.frame_bytes, this.#maxBytes);
    const first = this.#items[this.#sent];
    const texts = [];
    let bytes = ENVELOPE_BYTES;
    for (const item of this.#sendable()) {
      if (bytes + item.bytes + 1 > maxBytes) {
        if (texts.length) break;
        this.#replace(item, "too_large");
      }
      bytes += item.bytes + 1;
      texts.push(item.text);
      item.known = true;
    }
    if (!texts.length) return null;
    this.#sent += texts.length;
    this.#largestFrame = Math.max(this.#largestFrame, texts.length);
    return `{"type":"events","first":${first.seq},"events":[${texts.join(",")}]}`;
  }

  /** The items that one frame may hold by their numbers, whatever their size: stored, and without a gap between them. */
  #sendable() {
    const { events_per_frame, unacked } = this.limits;
    const end = Math.min(this.#sent + Math.min(events_per_frame, this.#maxEvents), unacked, this.#items.length);
    const first = this.#items[this.#sent]?.seq;
    let at = this.#sent;
    while (at < end && this.#items[at].seq <= this.#storedTo && this.#items[at].seq === first + at - this.#sent) at++;
    return this.#items.slice(this.#sent, at);
  }

  /** An event that can never be sent must not block those after it: a small one takes its number. */
  #replace(item, name) {
    item.text = JSON.stringify({ event: name, bytes: item.bytes, t: JSON.parse(item.text).t });
    item.bytes = item.text.length;
    this.replaced?.(item.seq, name);
  }

  /**
   * The server's welcome: drop what it has, send all else.
   *
   * @returns {"go" | "renumber"} "renumber" when the server and we do not mean the same events by these numbers
   */
  welcome(ack, limits = {}) {
    this.limits = { ...DEFAULT_LIMITS, ...limits };
    this.#sent = 0;
    if (this.ack(ack) === "renumber") return "renumber";
    if (ack >= this.next) {
      // It has more of this stream than we know of: our storage was set back, for example by a power cut.
      this.next = ack + 1;
      this.#storedTo = Math.max(this.#storedTo, ack);
    }
    const lowest = this.#items.length ? this.#items[0].seq : this.next;
    // It has less: its data was lost or set back, and it would wait for numbers that nobody has any more.
    return ack < lowest - 1 ? "renumber" : "go";
  }

  /**
   * All events up to a number are durable at the server.
   *
   * @returns {"go" | "renumber"} "renumber" when one of these numbers belongs to an event that was never sent
   */
  ack(seq) {
    let count = 0;
    while (count < this.#items.length && this.#items[count].seq <= seq) count++;
    if (!count) return "go";
    if (this.#items.slice(0, count).some((item) => !item.known)) {
      this.#items = this.#items.filter((item) => item.seq > seq || !item.known);
      this.#sent = 0;
      return "renumber";
    }
    this.#items.splice(0, count);
    this.#sent = Math.max(0, this.#sent - count);
    return "go";
  }

  /**
   * The server expects another number than the one that came.
   *
   * @returns {"go" | "renumber"} "renumber" when we do not have that event any more
   */
  gap(expected) {
    const at = this.#items.findIndex((item) => item.seq === expected);
    if (at < 0 && expected !== this.next) return "renumber";
    this.#sent = Math.min(this.#sent, at < 0 ? this.#items.length : at);
    return "go";
  }

  /** The connection ended: send again what was not acknowledged. */
  disconnected() {
    this.#sent = 0;
  }

  /** A frame was too large for the server, in spite of the limit that it had named. */
  shrink() {
    this.#maxBytes = Math.max(1024, Math.floor(Math.min(this.limits.frame_bytes, this.#maxBytes) / 2));
  }

  /** The server cannot use a frame: try smaller ones until the one event is found that causes it. */
  unusable() {
    if (this.#maxEvents === 1 && this.#items.length) this.#replace(this.#items[0], "unsendable");
    else this.#maxEvents = Math.max(1, Math.floor(Math.min(this.#maxEvents, this.#largestFrame || 1) / 2));
  }

  /**
   * The same events in a new stream, numbered from 1 in the same order.
   *
   * @param {string} stream the new id
   * @param {"all" | "unstored"} which "unstored" leaves stored events behind; they are sent under the old id
   */
  fork(stream, which = "all") {
    const forked = new Outbox(stream);
    forked.limits = this.limits;
    forked.replaced = this.replaced;
    forked.#maxBytes = this.#maxBytes;
    forked.#maxEvents = this.#maxEvents;
    const items = which === "all" ? this.#items : this.unstored();
    for (const { text, order } of items) forked.#push(forked.next++, text, false, order);
    forked.#order = this.#order;
    return forked;
  }
}

function asJson(event) {
  try {
    return JSON.stringify({ ...event, t: event.t ?? clock.now() });
  } catch {
    throw new ClassroomError("not_json", "The event cannot be written as JSON.");
  }
}
