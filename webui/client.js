/**
 * Streams events from any web page to Classroom Observer.
 *
 *     await ClassroomStream.join({ server, code: "ABC-234", name: "Ada L." });
 *     const stream = await ClassroomStream.open({ source: "org.example.app", server });
 *     stream.log({ event: "edit", document: "essay", offset: 0, insert: "x" });
 *
 * What was logged is kept in the browser (IndexedDB) until the server says that it is durable there: through lost
 * networks, reloads, crashes and power cuts, of either side. The wire is described in docs/protocol.md.
 *
 * This file stands alone and ends with its one export, because the server also makes a classic script of it.
 */

const PROTOCOL = 1;
const KEPT = "classroom-observer";

const GATHER_MS = 100;
const DROP_MS = 250;
const ANSWER_MS = 10_000;
// The server says something every 5 s, if only that it is alive. A connection that is silent for so long is dead.
const SILENT_MS = 12_000;
const STEADY_MS = 10_000;
const WATCH_MS = 1_000;
// A page that checks so late was held up itself: what came meanwhile may not be read yet.
const HELD_UP_MS = 4_000;
// Spread over so long, 1,000 clients that were all cut off at once are some 250 a second when they come back.
const BACKOFF_MS = 4_000;
const BACKOFF_MOST_MS = 30_000;
const HURRY_MS = 3_000;
// Between two tries of a page whose student is at work; the more of it is random, the less do 1,000 come at once.
const EAGER_MS = 1_000;
const EAGER_SPREAD_MS = 2_000;
const STALLED_MS = 3_000;
// Longer than between two looks of a page in the background, which browsers let look once a minute.
const ASLEEP_MS = 90_000;
const SET_BACK_MS = 1_000;
const CROWDED_MS = 5_000;
const MISTAKEN_MS = 30_000;
const UNUSABLE_MS = 4_000;
const OWNERS_MS = 80;
const DRAIN_MS = 15_000;
const AGAIN_MS = 30_000;
const STORAGE_MS = 5_000;
const ABANDONED_MS = 60 * 24 * 3600 * 1000;

// What may be sent before a welcome has told the server's own limits.
const ASSUMED = { frame_bytes: 1024 * 1024, events_per_frame: 2000, unacked: 1000 };
// What is around the events of a frame: {"type":"events","first":9007199254740991,"events":[]}
const ENVELOPE_BYTES = 60;
const SOCKET_BYTES = 1024 * 1024;
// Frames that the server cannot use, or gaps, before the connection is given up and opened again later.
const TROUBLES = 3;

const CLOSE = {
  later: 1013,
  mistaken: 4400,
  token: 4401,
  removed: 4403,
  elsewhere: 4409,
  frameTooLarge: 4413,
  unusable: 4422,
  crowded: 4429,
  backendAway: 4503,
};
const BUSY = [CLOSE.later, CLOSE.crowded, CLOSE.backendAway];

const COLLISION = Symbol("another tab numbers this stream");

// A page of another site uses the classic script from our server; its own origin is not the server then.
const SCRIPT = typeof document === "undefined" ? null : document.currentScript?.src;

const encoder = new TextEncoder();

/** What went wrong, with the server's stable code, or one of ours: offline, not_joined, refused, closed, too_large. */
class ClassroomError extends Error {
  constructor(code, message, more = {}) {
    super(message);
    this.name = "ClassroomError";
    this.code = code;
    Object.assign(this, more);
  }
}

/** A random UUID; `crypto.randomUUID` is missing on pages that come over plain HTTP, as ours do. */
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** For how long to wait before the n-th try to connect again, in ms: at random, so that a class does not come at once. */
function backoff(attempt, random = Math.random) {
  return random() * Math.min(BACKOFF_MOST_MS, BACKOFF_MS * 2 ** (attempt - 1));
}

/** For how long to wait where there is reason to think that the server can be reached now; for the same reason. */
function hurry(random = Math.random) {
  return random() * HURRY_MS;
}

/** The least time between two tries of a page whose student is at work, in ms; for the same reason. */
function eager(random = Math.random) {
  return EAGER_MS + random() * EAGER_SPREAD_MS;
}

/** For how long to wait, `[least, random]` in ms, where the server could not use what we sent for the n-th time. */
function setAside(times, random = Math.random) {
  const most = Math.min(BACKOFF_MOST_MS, UNUSABLE_MS * 2 ** (times - 1));
  return [most / 2, random() * most];
}

/**
 * The device's clock in ms since the epoch, which events are stamped by. Where it is set back while the page is open we
 * go on as before: the server knows how far off the clock was when it greeted us, and what is held has those times too.
 */
class Clock {
  #ahead = 0;
  #since = null;

  now() {
    const read = Date.now();
    // `performance.now` is never set; it stands still while the device sleeps.
    const since = read - performance.now();
    if (this.#since !== null && since < this.#since - SET_BACK_MS) this.#ahead += Math.round(this.#since - since);
    this.#since = since;
    return read + this.#ahead;
  }
}

const clock = new Clock();

/** The server's origin, from what the caller gave, or the script, or the page. */
function originOf(server) {
  const page = typeof location === "undefined" ? undefined : location.href;
  return new URL(server ?? SCRIPT ?? page, page).origin;
}

/** One of the browser's storages; null where it is switched off, which throws. */
function browserStorage(name) {
  try {
    return globalThis[name] ?? null;
  } catch {
    return null;
  }
}

// Where the browser keeps nothing, at least this page knows who joined.
const membersHere = {};

function members() {
  try {
    const kept = JSON.parse(browserStorage("localStorage")?.getItem(KEPT) ?? "{}");
    return { ...membersHere, ...kept };
  } catch {
    return { ...membersHere };
  }
}

function keepMemberHere(server, member) {
  const all = members();
  if (member) {
    all[server] = member;
    membersHere[server] = member;
  } else {
    delete all[server];
    delete membersHere[server];
  }
  try {
    browserStorage("localStorage")?.setItem(KEPT, JSON.stringify(all));
  } catch {
    // Full or switched off: membersHere has it while the page is open.
  }
}

/**
 * Keep who joined, or that nobody did. Browsers write localStorage to the disk at leisure, and after a power cut it may
 * still name the student before this one; the database is written at once, and its word counts.
 */
async function keepMember(server, member) {
  keepMemberHere(server, member);
  await withStore((store) => store.keepMember({ server, member }));
}

async function memberOf(server) {
  const kept = await withStore((store) => store.member(server));
  const here = members()[server] ?? null;
  if (!kept || kept.member?.token === here?.token) return here;
  keepMemberHere(server, kept.member);
  return kept.member;
}

async function withStore(act) {
  const store = await Store.open();
  try {
    return store ? await act(store) : null;
  } catch {
    return null;
  } finally {
    store?.database.close();
  }
}

async function ask(server, path, init) {
  let response;
  try {
    response = await fetch(server + path, {
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout?.(ANSWER_MS),
      ...init,
    });
  } catch {
    throw new ClassroomError("offline", "No connection. Is this device on the class network?");
  }
  let answer = null;
  try {
    answer = await response.json();
  } catch {
    // Not ours: the code below says so.
  }
  if (response.ok && answer !== null) return answer;
  const wait = Number.parseInt(response.headers?.get("Retry-After") ?? "", 10);
  throw new ClassroomError(
    answer?.error?.code ?? "bad_answer",
    answer?.error?.message ?? "The class computer gave an answer that cannot be understood.",
    { status: response.status, ...(wait > 0 ? { retryAfter: wait } : {}) },
  );
}

/**
 * The events of one stream that the server has not acknowledged, and what to do with each frame it sends.
 *
 * Nothing here knows of sockets, storage or time. An event is first logged (it gets its number), then written down,
 * then sent, then acknowledged. It is never sent before it is written down: else a number could be given to another
 * event after a crash, and the server would take that one for a repetition.
 */
class Outbox {
  #items = [];
  #cursor = 0;
  #written;
  #order = 0;
  #bytes = Number.POSITIVE_INFINITY;
  #events = Number.POSITIVE_INFINITY;
  #frameEvents = 0;

  /**
   * @param {string} stream its id
   * @param {{next?: number, held?: {seq: number, text: string}[]}} [kept] what was written down in an earlier life
   */
  constructor(stream, { next = 1, held = [] } = {}) {
    this.stream = stream;
    this.limits = { ...ASSUMED };
    /** The number that the next event gets. */
    this.next = next;
    for (const { seq, text } of held) {
      this.#push(seq, text, true);
      this.next = Math.max(this.next, seq + 1);
    }
    this.#written = this.next - 1;
    /** `next` as it stands in the storage; another value found there means that another tab numbers this stream. */
    this.storedNext = next;
  }

  #push(seq, text, known) {
    this.#items.push({ seq, text, bytes: encoder.encode(text).length, order: ++this.#order, known });
  }

  /** How many events are not acknowledged. */
  get pending() {
    return this.#items.length;
  }

  /** Whether something was sent and is not acknowledged. */
  get waiting() {
    return this.#cursor > 0;
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
   * Give an event its number.
   *
   * Throws where it could never be sent: not an object, without a string `event`, not JSON, or too large.
   */
  add(event) {
    if (typeof event !== "object" || event === null || Array.isArray(event))
      throw new ClassroomError("not_an_object", "An event must be an object.");
    if (typeof event.event !== "string" || !event.event)
      throw new ClassroomError("no_event_name", 'An event must have a name, a string, as its "event".');
    let text;
    try {
      text = JSON.stringify({ ...event, t: event.t ?? clock.now() });
    } catch {
      throw new ClassroomError("not_json", "The event cannot be written as JSON.");
    }
    const bytes = text.length > this.limits.frame_bytes / 3 ? encoder.encode(text).length : 0;
    if (bytes + ENVELOPE_BYTES > this.limits.frame_bytes)
      throw new ClassroomError(
        "too_large",
        `An event may have ${this.limits.frame_bytes} bytes; this one has ${bytes}.`,
      );
    this.#push(this.next, text, false);
    return this.next++;
  }

  /** The events that are not written down yet, oldest first: `{seq, text}`. */
  unwritten() {
    let first = this.#items.length;
    while (first > 0 && this.#items[first - 1].seq > this.#written) first--;
    return this.#items.slice(first);
  }

  /** All events up to a number are written down, and may be sent. */
  written(seq) {
    this.#written = Math.max(this.#written, seq);
    this.storedNext = this.#written + 1;
  }

  /** The next frame to send, as text; null where there is none, or too many are on their way. */
  frame() {
    const { frame_bytes, events_per_frame, unacked } = this.limits;
    const mostBytes = Math.min(frame_bytes, this.#bytes);
    const mostEvents = Math.min(events_per_frame, this.#events);
    const first = this.#items[this.#cursor];
    const texts = [];
    let bytes = ENVELOPE_BYTES;
    for (let at = this.#cursor; at < this.#items.length; at++) {
      const item = this.#items[at];
      if (item.seq > this.#written || item.seq !== first.seq + texts.length) break;
      if (at >= unacked || texts.length >= mostEvents) break;
      if (bytes + item.bytes + 1 > mostBytes) {
        if (texts.length) break;
        this.#replace(item, "too_large");
      }
      bytes += item.bytes + 1;
      texts.push(item.text);
      item.known = true;
    }
    if (!texts.length) return null;
    this.#cursor += texts.length;
    this.#frameEvents = Math.max(this.#frameEvents, texts.length);
    return `{"type":"events","first":${first.seq},"events":[${texts.join(",")}]}`;
  }

  /** An event that can never be sent must not hold up those after it; a small one takes its number. */
  #replace(item, name) {
    item.text = JSON.stringify({ event: name, bytes: item.bytes, t: JSON.parse(item.text).t });
    item.bytes = item.text.length;
    this.replaced?.(item.seq, name);
  }

  /**
   * The server greets: what it has is dropped, all else is to be sent.
   *
   * @returns {"go" | "renumber"} "renumber" where the server and we do not mean the same events by these numbers
   */
  welcome(ack, limits = {}) {
    this.limits = { ...ASSUMED, ...limits };
    this.#cursor = 0;
    if (this.ack(ack) === "renumber") return "renumber";
    if (ack >= this.next) {
      // It has more of this stream than we know of: our storage was set back, by a power cut for instance.
      this.next = ack + 1;
      this.#written = Math.max(this.#written, ack);
    }
    const lowest = this.#items.length ? this.#items[0].seq : this.next;
    // It has less: its data was lost or set back, and it would wait for numbers that nobody holds.
    return ack < lowest - 1 ? "renumber" : "go";
  }

  /**
   * All up to a number is durable.
   *
   * @returns {"go" | "renumber"} "renumber" where that number was given to an event that was never sent
   */
  ack(seq) {
    let count = 0;
    let stranger = false;
    while (count < this.#items.length && this.#items[count].seq <= seq) {
      if (!this.#items[count].known) stranger = true;
      count++;
    }
    if (stranger) {
      this.#items = this.#items.filter((item) => item.seq > seq || !item.known);
      this.#cursor = 0;
      return "renumber";
    }
    if (count) {
      this.#items.splice(0, count);
      this.#cursor = Math.max(0, this.#cursor - count);
    }
    return "go";
  }

  /**
   * The server expects another number than the one that came.
   *
   * @returns {"go" | "renumber"} "renumber" where that one is not held any more
   */
  gap(expected) {
    const at = this.#items.findIndex((item) => item.seq === expected);
    if (at < 0 && expected !== this.next) return "renumber";
    this.#cursor = Math.min(this.#cursor, at < 0 ? this.#items.length : at);
    return "go";
  }

  /** The connection is gone; what was not acknowledged is to be sent again. */
  disconnected() {
    this.#cursor = 0;
  }

  /** A frame was too large for the server, whatever it had told. */
  shrink() {
    this.#bytes = Math.max(1024, Math.floor(Math.min(this.limits.frame_bytes, this.#bytes) / 2));
  }

  /** The server cannot use a frame: try smaller ones, until the one event is found that does it. */
  trouble() {
    if (this.#events === 1 && this.#items.length) this.#replace(this.#items[0], "unsendable");
    else this.#events = Math.max(1, Math.floor(Math.min(this.#events, this.#frameEvents || 1) / 2));
  }

  /**
   * The same events in a new stream, numbered from 1 in the same order.
   *
   * @param {string} stream the new id
   * @param {"all" | "unwritten"} which "unwritten" leaves those behind that the storage has; they go under the old id
   */
  fork(stream, which = "all") {
    const forked = new Outbox(stream);
    forked.limits = this.limits;
    forked.replaced = this.replaced;
    forked.#bytes = this.#bytes;
    forked.#events = this.#events;
    for (const { text, order } of which === "all" ? this.#items : this.unwritten()) {
      forked.#push(forked.next++, text, false);
      forked.#items.at(-1).order = order;
    }
    forked.#order = this.#order;
    return forked;
  }
}

/** The browser's storage: streams, and their events that are not acknowledged. */
class Store {
  /** The storage, or null where the browser has none or keeps it shut, as in some private windows. */
  static async open() {
    try {
      if (!globalThis.indexedDB) return null;
      const opening = indexedDB.open(KEPT, 1);
      opening.onupgradeneeded = () => {
        opening.result.createObjectStore("streams", { keyPath: "id" });
        opening.result.createObjectStore("events");
        opening.result.createObjectStore("members", { keyPath: "server" });
      };
      return new Store(await inTime(done(opening)));
    } catch {
      return null;
    }
  }

  constructor(database) {
    this.database = database;
    database.onversionchange = () => database.close();
  }

  /** A stream's record and events; null where there is no such stream. */
  async load(id) {
    const work = this.database.transaction(["streams", "events"], "readonly");
    const [record, keys, texts] = await inTime(
      Promise.all([
        done(work.objectStore("streams").get(id)),
        done(work.objectStore("events").getAllKeys(eventsOf(id))),
        done(work.objectStore("events").getAll(eventsOf(id))),
      ]),
    );
    return record ? { record, held: keys.map((key, at) => ({ seq: key[1], text: texts[at] })) } : null;
  }

  /** All streams of a server, each with the number of its events. */
  async streams(server) {
    const work = this.database.transaction(["streams", "events"], "readonly");
    const records = await inTime(done(work.objectStore("streams").getAll()));
    const ours = records.filter((record) => record.server === server);
    const counts = await inTime(
      Promise.all(
        ours.map((record) =>
          done(this.database.transaction("events").objectStore("events").count(eventsOf(record.id))),
        ),
      ),
    );
    return ours.map((record, at) => ({ ...record, count: counts[at] }));
  }

  /**
   * Write events down, and what their stream is at now.
   *
   * Rejects with COLLISION where the stream is not at `expected`: two tabs number it, and this one came later.
   */
  write(record, expected, items, strict) {
    return this.#change(strict, (streams, events, fail) => {
      const asked = streams.get(record.id);
      asked.onsuccess = () => {
        const kept = asked.result;
        if ((kept?.next ?? 1) !== expected) return fail(COLLISION);
        // Another tab may have given the stream to another student id; see `inherit`.
        streams.put(kept ? { ...record, token: kept.token, student: kept.student ?? record.student } : record);
        for (const { seq, text } of items) events.put(text, [record.id, seq]);
      };
    });
  }

  /** Put events into a new stream, and take all of an old one away, in one step. */
  move(record, items, old) {
    return this.#change(true, (streams, events) => {
      streams.put(record);
      for (const { seq, text } of items) events.put(text, [record.id, seq]);
      if (old) {
        streams.delete(old);
        events.delete(eventsOf(old));
      }
    });
  }

  /** Streams of a student go on as those of another id, under which the server knows the same person now. */
  inherit(server, before, member) {
    return this.#change(true, (streams) => {
      const asked = streams.getAll();
      asked.onsuccess = () => {
        for (const record of asked.result) {
          if (record.server !== server) continue;
          if (record.token !== before.token && record.student !== before.student_id) continue;
          streams.put({ ...record, token: member.token, student: member.student_id });
        }
      };
    });
  }

  /** Who joined a server in this browser: `{server, member}`, with null where nobody is to be remembered. */
  member(server) {
    return inTime(done(this.database.transaction("members").objectStore("members").get(server)));
  }

  keepMember(kept) {
    const work = this.database.transaction("members", "readwrite", { durability: "strict" });
    work.objectStore("members").put(kept);
    return inTime(
      new Promise((resolve, reject) => {
        work.oncomplete = () => resolve();
        work.onabort = () => reject(work.error);
      }),
    );
  }

  /** Forget a stream's events up to a number. */
  drop(id, seq) {
    return this.#change(false, (_, events) => events.delete(IDBKeyRange.bound([id], [id, seq])));
  }

  /** Forget a stream. */
  forget(id) {
    return this.#change(false, (streams, events) => {
      streams.delete(id);
      events.delete(eventsOf(id));
    });
  }

  #change(strict, act) {
    return inTime(
      new Promise((resolve, reject) => {
        // Strict waits until the disk has it, which matters only while the server has not.
        const durability = strict ? "strict" : "relaxed";
        const work = this.database.transaction(["streams", "events"], "readwrite", { durability });
        let why = null;
        work.oncomplete = () => resolve();
        work.onabort = () => reject(why ?? work.error ?? new Error("aborted"));
        act(work.objectStore("streams"), work.objectStore("events"), (reason) => {
          why = reason;
          work.abort();
        });
      }),
    );
  }
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** A broken profile can keep a storage request waiting for ever; nobody should wait for it. */
function inTime(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("the storage does not answer")), STORAGE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function eventsOf(id) {
  return IDBKeyRange.bound([id], [id, []]);
}

/** Tells the tabs of this browser which of them has which stream; locks are missing on pages over plain HTTP. */
class Owners {
  constructor(owned) {
    this.owned = owned;
    this.asking = null;
    try {
      this.channel = new BroadcastChannel(KEPT);
      this.channel.onmessage = ({ data }) => this.#hear(data);
      // Node keeps running for an open channel; browsers have no such thing.
      this.channel.unref?.();
    } catch {
      this.channel = null;
    }
  }

  #hear(data) {
    if (Array.isArray(data?.ask)) {
      const mine = data.ask.filter((id) => this.owned().includes(id));
      if (mine.length) this.channel.postMessage({ own: mine });
    } else if (Array.isArray(data?.own)) {
      for (const id of data.own) this.asking?.add(id);
    }
  }

  /** Which of these streams another tab has. */
  async ask(ids) {
    if (!this.channel || !ids.length) return new Set();
    const found = new Set();
    this.asking = found;
    this.channel.postMessage({ ask: ids });
    await sleep(OWNERS_MS);
    this.asking = null;
    return found;
  }

  close() {
    this.channel?.close();
    this.channel = null;
  }
}

/**
 * One connection for one stream, from hello to its end. It never comes back; whoever made it makes another.
 *
 * `report` has `welcome(frame)`, `acked(seq)`, `stalled()` where an acknowledgement is long in coming, `heard(frame)` for
 * all else that a page may want to know, and `closed(why)`, called once at the end: a close code, "renumber", "trouble",
 * "lost", "asleep", or what `end` was given.
 */
class Line {
  #socket = null;
  #report;
  #outbox;
  #greeted = false;
  #troubles = 0;
  #began = performance.now();
  #heard = performance.now();
  #sent = performance.now();
  #looked = Date.now();
  #checked = performance.now();
  #doubted = false;
  #stalled = false;
  #watch;
  #later = null;

  constructor(server, hello, outbox, report) {
    this.#report = report;
    this.#outbox = outbox;
    this.held = false;
    this.#watch = setInterval(() => this.#look(), WATCH_MS);
    try {
      const socket = new WebSocket(`${server.replace(/^http/, "ws")}/ws/events`);
      this.#socket = socket;
      socket.onopen = () =>
        socket.send(
          JSON.stringify({ type: "hello", protocol: PROTOCOL, stream: outbox.stream, ...hello, now: clock.now() }),
        );
      socket.onmessage = ({ data }) => this.#hear(data);
      socket.onclose = ({ code }) => this.end(code);
      // The close event follows and tells more.
      socket.onerror = () => {};
    } catch {
      queueMicrotask(() => this.end("lost"));
    }
  }

  /** For how long the server has been heard on this connection. */
  get steady() {
    return this.#greeted && performance.now() - this.#began >= STEADY_MS;
  }

  get greeted() {
    return this.#greeted;
  }

  /** Send what may be sent. */
  pump() {
    if (!this.#greeted || this.held || this.#socket?.readyState !== 1 || this.#later !== null) return;
    for (;;) {
      if (this.#socket.bufferedAmount > SOCKET_BYTES) {
        this.#later = setTimeout(() => {
          this.#later = null;
          this.pump();
        }, 50);
        return;
      }
      const idle = !this.#outbox.waiting;
      const frame = this.#outbox.frame();
      if (frame === null) return;
      if (idle) this.#sent = performance.now();
      this.#socket.send(frame);
    }
  }

  /** Close, and report why. */
  end(why) {
    const socket = this.#socket;
    if (this.#watch === null) return;
    clearInterval(this.#watch);
    clearTimeout(this.#later);
    this.#watch = null;
    this.#socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
      try {
        socket.close(1000);
      } catch {
        // It was closed already.
      }
    }
    this.#outbox.disconnected();
    this.#report.closed(why);
  }

  #hear(data) {
    this.#heard = performance.now();
    this.#doubted = false;
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (frame?.type === "welcome" && !this.#greeted && Number.isInteger(frame.ack)) {
      this.#greeted = true;
      this.#began = performance.now();
      if (this.#outbox.welcome(frame.ack, frame.limits) === "renumber") return this.end("renumber");
      this.#report.welcome(frame);
      this.pump();
    } else if (!this.#greeted) {
      // An error that answers a hello is followed by a close code, which says the same.
    } else if (frame?.type === "ack" && Number.isInteger(frame.seq)) {
      this.#troubles = 0;
      this.#sent = performance.now();
      this.#stalled = false;
      if (this.#outbox.ack(frame.seq) === "renumber") return this.end("renumber");
      this.#report.acked(frame.seq);
      this.pump();
    } else if (frame?.type === "gap") {
      if (this.#outbox.gap(frame.expected) === "renumber") return this.end("renumber");
      if (++this.#troubles > TROUBLES) return this.end("trouble");
      this.pump();
    } else if (frame?.type === "error") {
      this.#outbox.trouble();
      this.end("trouble");
    } else {
      this.#report.heard(frame);
    }
  }

  /** The device slept, and nobody knows what became of the connection meanwhile: it may look open and be dead. */
  wake() {
    if (this.#greeted) this.end("asleep");
  }

  /** There is reason to check at once whether the connection is dead: the page is seen again, or has a network again. */
  check() {
    if (this.#greeted && performance.now() - this.#heard > SILENT_MS) this.end("asleep");
  }

  /** A connection over a lost network says nothing and does not end by itself for minutes. */
  #look() {
    const slept = Date.now() - this.#looked;
    this.#looked = Date.now();
    if (slept > ASLEEP_MS) return this.wake();
    const now = performance.now();
    const heldUp = now - this.#checked > HELD_UP_MS;
    this.#checked = now;
    const waits = this.#outbox.waiting ? now - this.#sent : 0;
    if (!this.#greeted) {
      if (now - this.#began > ANSWER_MS) this.end("lost");
    } else if (now - this.#heard > SILENT_MS) {
      if (heldUp && !this.#doubted) this.#doubted = true;
      else this.end("lost");
    } else if (waits > STALLED_MS && !this.#stalled) {
      this.#stalled = true;
      this.#report.stalled();
    }
  }
}

/**
 * A student's stream of events. Made by `ClassroomStream.open`.
 *
 * Its events: "status" (something of what the properties tell has changed), "message" (`detail.text`, words from the
 * educator), "reject" (`detail.seq`, `detail.code`, `detail.message`: the server cannot use an event), "refused"
 * (`detail.reason`, "token": join again, or "removed": the student was taken out of the class), "resync" (events that
 * the server had acknowledged do not count there, since it was set back and has lost them, or since the class was paused
 * when they came and this page could not hear of it, or since it could not use them, see `resending`: a page that knows
 * the whole state should log it again. Where it could hear of the pause, it should do so when `paused` is no longer set,
 * and no "resync" comes).
 */
class ClassroomStream extends EventTarget {
  static Outbox = Outbox;
  static backoff = backoff;
  static hurry = hurry;
  static eager = eager;
  static setAside = setAside;

  #server;
  #source;
  #token;
  #member;
  #store;
  #outbox;
  #owners;
  #line = null;
  #connection = "connecting";
  #paused = false;
  // What the page was told to log again, after a pause or on "resync", has higher numbers than this one.
  #wholeAfter = 0;
  #refused = null;
  #closed = false;
  #chain = Promise.resolve();
  #gather = null;
  #dropping = null;
  #dropTo = 0;
  #retry = null;
  #attempts = 0;
  #ackedTo = 0;
  #stalled = false;
  #notBefore = 0;
  #hurrying = false;
  #tried = 0;
  #patience = 0;
  #mistakes = 0;
  #unusable = 0;
  #resending = false;
  #owed = 0;
  #draining = new Set();
  #again = null;
  #told = false;
  #flushes = new Set();
  #listening = new AbortController();

  /**
   * Join a class. Gives `{token, student_id, name, class_id}` and keeps it in the browser.
   *
   * A browser that has joined before is the same student again; call `forget` first where it is somebody else.
   *
   * @param {{server?: string, code: string, name?: string, studentId?: string}} how with a name, or the `student_id`
   *   of the class list
   * @throws {Error} with the server's `code` and `message`, and `retryAfter` in seconds; or with the code "offline"
   */
  static async join({ server, code, name, studentId }) {
    const origin = originOf(server);
    const before = await memberOf(origin);
    const who = studentId === undefined ? { name } : { student_id: studentId };
    const { token, student_id, ...more } = await ask(origin, "/api/v1/join", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ code, ...who, ...(before ? { token: before.token } : {}) }),
    });
    const member = { token, student_id, name: more.name, class_id: more.class_id };
    if (before && before.student_id !== student_id && before.name === member.name)
      // The server does not know the student of that token any more: its data are gone, and so is what it had
      // acknowledged. What is held here is the same person's.
      await withStore((store) => store.inherit(origin, before, member));
    await keepMember(origin, member);
    return { ...member };
  }

  /** Who this browser has joined as, without asking the server; null where it has not. */
  static async member({ server } = {}) {
    const member = await memberOf(originOf(server));
    return member ? { student_id: member.student_id, name: member.name, class_id: member.class_id } : null;
  }

  /**
   * Who this browser has joined as, by the server's word; null where it has not, or was taken out.
   *
   * @throws {Error} with the code "offline" where the server cannot be asked
   */
  static async me({ server } = {}) {
    const origin = originOf(server);
    const token = (await memberOf(origin))?.token;
    if (!token) return null;
    try {
      return await ask(origin, "/api/v1/me", { headers: { Authorization: `Bearer ${token}` } });
    } catch (error) {
      if (error.status === 401) return null;
      throw error;
    }
  }

  /**
   * Forget who joined, so that somebody else can. Events that are still owed are not forgotten: they keep the token
   * that they were logged under until the server has them.
   */
  static async forget({ server } = {}) {
    await keepMember(originOf(server), null);
  }

  /**
   * Open a stream. It can be logged to at once, with the server in reach or not.
   *
   * @param {{source: string, server?: string, token?: string}} how `source` names what sends, as "org.example.app";
   *   without a token the one that `join` kept is used
   * @throws {Error} with the code "not_joined" where there is no token
   */
  static async open({ source, server, token }) {
    const origin = originOf(server);
    const kept = await memberOf(origin);
    const member = token === undefined || token === kept?.token ? kept : { token };
    if (!member?.token) throw new ClassroomError("not_joined", "This browser has not joined a class.");
    const stream = new ClassroomStream(origin, source, member, await Store.open());
    await stream.#begin();
    return stream;
  }

  /** Not for use; see `open`. */
  constructor(server, source, member, store) {
    super();
    this.#server = server;
    this.#source = source;
    this.#member = member;
    this.#token = member.token;
    this.#store = store;
    this.#owners = new Owners(() => [...(this.#outbox ? [this.#outbox.stream] : []), ...this.#draining]);
  }

  /** "connecting" at first, "online", "waiting" for the server to come back, "refused", or "closed". */
  get connection() {
    return this.#connection;
  }

  /** Whether the educator has paused the class. Events are taken and kept all the same. */
  get paused() {
    return this.#paused;
  }

  /** Whether what was sent waits for long to be acknowledged, though the server is there: its disk may be full. */
  get stalled() {
    return this.#stalled;
  }

  /** Whether the server could not use some of what was sent, and what it needs instead is not acknowledged yet. */
  get resending() {
    return this.#resending;
  }

  /** Whether what is not acknowledged outlives this page: false where the browser has no storage for it. */
  get durable() {
    return this.#store !== null;
  }

  /** How many events are not acknowledged, those that closed tabs left behind included. */
  get pending() {
    return this.#outbox.pending + this.#owed;
  }

  /** Why the server refused: "token", "removed", or null. */
  get refused() {
    return this.#refused;
  }

  /** Who streams: `{student_id, name, class_id}`, as far as it is known. */
  get student() {
    const { student_id, name, class_id } = this.#member;
    return { student_id, name, class_id };
  }

  /**
   * Log an event. It is kept and sent; nothing needs to be waited for.
   *
   * @throws {Error} only where the event itself can never be sent, or the stream was closed
   */
  log(event) {
    if (this.#closed) throw new ClassroomError("closed", "This stream was closed.");
    this.#outbox.add(event);
    this.#gather ??= setTimeout(() => this.#save(), GATHER_MS);
    this.#strive();
    this.#changed();
  }

  /** Wait until everything that was logged so far is acknowledged. */
  flush() {
    this.#save();
    return new Promise((resolve, reject) => {
      this.#flushes.add({ mark: this.#outbox.mark, resolve, reject });
      this.#settle();
    });
  }

  /** Stop. What is not acknowledged after two seconds stays in the browser for the next page of this student. */
  async close() {
    if (this.#closed) return;
    this.#save();
    if (this.#line?.greeted && this.#outbox.pending) await Promise.race([this.flush().catch(() => {}), sleep(2000)]);
    this.#closed = true;
    await this.#chain;
    clearTimeout(this.#retry);
    clearTimeout(this.#dropping);
    clearTimeout(this.#again);
    this.#line?.end("closed");
    this.#listening.abort();
    this.#owners.close();
    if (this.#store) {
      await this.#store.drop(this.#outbox.stream, this.#dropTo).catch(() => {});
      this.#store.database.close();
    }
    this.#show("closed");
    this.#settle();
  }

  async #begin() {
    this.#outbox = await this.#resume();
    this.#watchReplaced();
    this.#keepId();
    if (this.#store) {
      this.#store.database.onclose = () => this.#withoutStore();
      await this.#count();
    }
    const signal = this.#listening.signal;
    const listen = (target, name, act) => target?.addEventListener?.(name, act, { signal });
    // Where the school's network comes back, every page hears of it at the same moment.
    const check = () => {
      this.#line?.check();
      this.#hurry();
    };
    listen(globalThis, "online", check);
    listen(globalThis, "pageshow", check);
    listen(globalThis, "pagehide", () => this.#save());
    // A page that the browser had frozen goes on.
    listen(globalThis.document, "resume", () => this.#line?.wake());
    listen(globalThis.document, "visibilitychange", () => {
      if (document.visibilityState === "hidden") return this.#save();
      check();
      this.#strive();
    });
    this.#connect();
  }

  /** The stream that this tab had before a reload, or a new one. */
  async #resume() {
    const id = browserStorage("sessionStorage")?.getItem(this.#idKey());
    if (id && this.#store) {
      try {
        const kept = await this.#store.load(id);
        const same =
          kept?.record.source === this.#source &&
          (kept.record.token === this.#token ||
            (kept.record.student !== null && kept.record.student === this.#member.student_id));
        // A duplicated tab has a copy of the id; the first tab answers, and keeps it.
        if (same && !(await this.#owners.ask([id])).has(id))
          return new Outbox(id, { next: kept.record.next, held: kept.held });
      } catch {
        this.#store = null;
      }
    }
    return new Outbox(uuid());
  }

  #idKey() {
    return `${KEPT} ${this.#server} ${this.#source}`;
  }

  #keepId() {
    try {
      // Without a storage the numbers are not kept, and a reload must not go on with this stream.
      if (this.#store) browserStorage("sessionStorage")?.setItem(this.#idKey(), this.#outbox.stream);
      else browserStorage("sessionStorage")?.removeItem(this.#idKey());
    } catch {
      // Then a reload takes a new stream, and delivers this one's events first.
    }
  }

  #watchReplaced() {
    this.#outbox.replaced = (seq, code) =>
      this.#dispatch("reject", { seq, code, message: "This event could not be sent." });
  }

  #record(outbox) {
    return {
      id: outbox.stream,
      server: this.#server,
      source: this.#source,
      student: this.#member.student_id ?? null,
      token: this.#token,
      next: outbox.next,
      touched: Date.now(),
    };
  }

  /** Do things with the storage one after the other. */
  #serially(act) {
    this.#chain = this.#chain.then(act).catch(() => this.#withoutStore());
    return this.#chain;
  }

  /** Write down what was logged, then send it. */
  #save() {
    clearTimeout(this.#gather);
    this.#gather = null;
    this.#serially(async () => {
      const outbox = this.#outbox;
      const items = outbox.unwritten();
      if (!items.length) return;
      if (this.#store) {
        try {
          await this.#store.write(this.#record(outbox), outbox.storedNext, items, this.#connection !== "online");
        } catch (error) {
          if (error === COLLISION) return this.#fork("unwritten");
          this.#withoutStore();
        }
      }
      outbox.written(items.at(-1).seq);
      this.#line?.pump();
    });
  }

  /** The storage failed: go on in memory. */
  #withoutStore() {
    if (!this.#store) return;
    this.#store = null;
    this.#keepId();
    this.#changed();
    this.#save();
  }

  /**
   * Go on in a new stream: with everything, where the server does not know the old one as we do, or with what is not
   * written down, where another tab has taken the old one over.
   */
  async #fork(which) {
    const old = this.#outbox;
    if (!this.#store) which = "all";
    this.#outbox = old.fork(uuid(), which);
    this.#wholeAfter = 0;
    this.#dropTo = 0;
    this.#ackedTo = 0;
    this.#line?.end("forked");
    this.#keepId();
    const outbox = this.#outbox;
    const items = outbox.unwritten();
    if (this.#store) {
      try {
        await this.#store.move(this.#record(outbox), items, which === "all" ? old.stream : null);
      } catch {
        this.#withoutStore();
      }
    }
    if (items.length) outbox.written(items.at(-1).seq);
    // What was left behind has an owner, or is found when we look for streams without one.
    await this.#count();
    this.#line?.pump();
    if (which === "all") this.#resync();
  }

  #connect() {
    clearTimeout(this.#retry);
    this.#retry = null;
    this.#hurrying = false;
    if (this.#line || this.#closed || this.#refused) return;
    this.#triedNow();
    const line = new Line(this.#server, { token: this.#token, source: this.#source }, this.#outbox, {
      welcome: (frame) => this.#welcomed(frame),
      acked: (seq) => this.#acked(seq),
      stalled: () => this.#stall(),
      heard: (frame) => this.#heard(frame),
      closed: (why) => this.#lost(line, why),
    });
    this.#line = line;
    // What this student's other, closed tabs left behind is older, and goes first.
    line.held = this.#store !== null;
  }

  #welcomed(frame) {
    this.#member = { ...this.#member, student_id: frame.student_id, name: frame.name };
    this.#hearState(frame.state, frame.paused_to ?? 0, this.#resending || frame.resync === true);
    this.#show("online");
    this.#acked(frame.ack);
    if (this.#line.held) this.#drain(this.#line);
  }

  /**
   * @param {string} state of the class
   * @param {number} pausedTo the last event that the server took while the class was paused, where it tells that
   * @param {boolean} anew whether the server could not use events of this stream
   */
  #hearState(state, pausedTo = 0, anew = false) {
    const before = this.#paused;
    this.#paused = state === "paused";
    if (this.#paused) return;
    // Whoever knew of the pause sees now that it is over.
    if (before) this.#wholeAfter = Math.max(pausedTo, this.#outbox.next - 1);
    else if (anew || pausedTo > this.#wholeAfter) this.#resync(pausedTo);
  }

  #resync(upTo = 0) {
    this.#wholeAfter = Math.max(upTo, this.#outbox.next - 1);
    this.#dispatch("resync", {});
  }

  #stall() {
    this.#stalled = true;
    this.#changed();
  }

  #acked(seq) {
    if (seq > this.#ackedTo || !this.#outbox.pending) this.#stalled = false;
    if (!this.#outbox.pending) this.#resending = false;
    this.#ackedTo = Math.max(this.#ackedTo, seq);
    if (this.#store) {
      this.#dropTo = Math.max(this.#dropTo, seq);
      this.#dropping ??= setTimeout(() => {
        this.#dropping = null;
        const [id, upTo] = [this.#outbox.stream, this.#dropTo];
        this.#serially(() => this.#store?.drop(id, upTo));
      }, DROP_MS);
    }
    this.#settle();
    this.#changed();
  }

  #heard(frame) {
    if (frame?.type === "state") {
      this.#hearState(frame.state);
      this.#changed();
    } else if (frame?.type === "message") {
      this.#dispatch("message", { text: String(frame.text) });
    } else if (frame?.type === "reject") {
      this.#dispatch("reject", { seq: frame.seq, code: frame.code, message: frame.message });
    }
  }

  #lost(line, why) {
    if (this.#line !== line) return;
    this.#line = null;
    if (line.steady) this.#attempts = this.#mistakes = this.#unusable = 0;
    if (why === "closed" || this.#closed) return;
    this.#triedNow();
    if (why === CLOSE.token && !this.#renewed()) return this.#refuse("token");
    if (why === CLOSE.removed) return this.#refuse("removed");
    if (why === "renumber") this.#serially(() => this.#fork("all"));
    if (why === CLOSE.elsewhere) this.#serially(() => this.#fork("unwritten"));
    if (why === CLOSE.frameTooLarge) this.#outbox.shrink();
    if (why === CLOSE.unusable) this.#resending = true;
    const [least, after] = this.#waitAfter(why);
    // Forking gives the next connection another outbox, so it must be through before.
    this.#chain.then(() => this.#later(least, after));
  }

  /** How long to wait after a connection that ended: `[least, random]` in ms. */
  #waitAfter(why) {
    if (why === CLOSE.unusable) return setAside(++this.#unusable);
    if (why === "asleep") return [0, hurry()];
    const after = backoff(++this.#attempts);
    if (BUSY.includes(why)) return [CROWDED_MS, after];
    // Once, it may have been the server that was slow.
    if (why === CLOSE.mistaken && ++this.#mistakes > 1) return [MISTAKEN_MS, after];
    return [0, after];
  }

  /** Connect again after a while: `least` is not shortened by whatever happens meanwhile, `after` is. */
  #later(least, after) {
    if (this.#line || this.#retry !== null || this.#closed || this.#refused) return;
    this.#notBefore = performance.now() + least;
    this.#retry = setTimeout(() => this.#connect(), least + after);
    this.#show("waiting");
  }

  /** There is reason to think that the server can be reached now. */
  #hurry() {
    if (this.#retry === null || performance.now() < this.#notBefore || this.#hurrying) return;
    clearTimeout(this.#retry);
    // Whoever tells us once more must not put it off.
    this.#hurrying = true;
    this.#retry = setTimeout(() => this.#connect(), hurry());
  }

  /** The student is at work, or comes back to this page: try again at once, though not more often than `eager` allows. */
  #strive() {
    if (this.#retry === null || performance.now() < this.#notBefore) return;
    if (performance.now() - this.#tried >= this.#patience) this.#connect();
  }

  #triedNow() {
    this.#tried = performance.now();
    this.#patience = eager();
  }

  /** Whether this student has joined again in another tab, and so has another token. */
  #renewed() {
    const kept = members()[this.#server];
    if (!kept || kept.token === this.#token || kept.student_id !== this.#member.student_id) return false;
    this.#token = kept.token;
    return true;
  }

  #refuse(reason) {
    this.#refused = reason;
    this.#show("refused");
    this.#save();
    this.#settle();
    this.#dispatch("refused", { reason });
  }

  /** Streams of this server that no tab has, oldest first; those of this student before others'. */
  async #leftovers() {
    const all = (await this.#store?.streams(this.#server)) ?? [];
    const others = all.filter((record) => record.id !== this.#outbox.stream);
    const owned = await this.#owners.ask(others.map((record) => record.id));
    return others
      .filter((record) => !owned.has(record.id))
      .sort((one, two) => this.#isOurs(two) - this.#isOurs(one) || one.touched - two.touched);
  }

  #isOurs(record) {
    return record.token === this.#token || (record.student !== null && record.student === this.#member.student_id);
  }

  async #count() {
    try {
      const ours = (await this.#leftovers()).filter((record) => this.#isOurs(record));
      this.#owed = ours.reduce((sum, record) => sum + record.count, 0);
    } catch {
      this.#owed = 0;
    }
    this.#changed();
    this.#settle();
  }

  /** Deliver what closed tabs left behind, each stream on a connection of its own, then let our own events go. */
  async #drain(line) {
    const release = () => {
      if (!line.held) return;
      line.held = false;
      line.pump();
    };
    clearTimeout(this.#again);
    const impatient = setTimeout(release, DRAIN_MS);
    let outOfOrder = false;
    try {
      let complete = true;
      for (const record of await this.#leftovers()) {
        if (!this.#isOurs(record)) release();
        if (this.#line !== line) return;
        // The server has newer events of this stream already, and those of the closed tab do not fit after them.
        if (this.#isOurs(record) && record.count && (this.#ackedTo || !line.held)) outOfOrder = true;
        complete = (await this.#deliver(record)) && complete;
      }
      if (!complete) this.#again = setTimeout(() => this.#line === line && this.#drain(line), AGAIN_MS);
    } catch {
      // The storage failed; what it holds is found by the next page that can read it.
    } finally {
      clearTimeout(impatient);
      release();
      if (outOfOrder && !this.#paused) this.#resync();
      await this.#count();
    }
  }

  /** Send a stream that has no tab any more. Gives whether nothing of it is left to be tried again. */
  async #deliver(record, twice = false) {
    const store = this.#store;
    const token = this.#isOurs(record) ? this.#token : record.token;
    this.#draining.add(record.id);
    try {
      const kept = await store.load(record.id);
      if (!kept) return true;
      const outbox = new Outbox(record.id, { next: kept.record.next, held: kept.held });
      const owed = this.#isOurs(record) ? this.#owed - outbox.pending : null;
      const why = outbox.pending ? await this.#send(record.source, token, outbox, owed) : "done";
      if (why === "done") {
        await store.forget(record.id);
        return true;
      }
      if (why === "renumber") {
        const fork = outbox.fork(uuid());
        const items = fork.unwritten();
        const renewed = { ...kept.record, id: fork.stream, next: fork.next };
        await store.move(renewed, items, record.id);
        return twice ? false : this.#deliver(renewed, true);
      }
      // Nobody can send for a student who left, and the browser is not an archive.
      const refused = why === CLOSE.token || why === CLOSE.removed;
      if (refused && Date.now() - record.touched > ABANDONED_MS) await store.forget(record.id);
      return refused;
    } finally {
      this.#draining.delete(record.id);
    }
  }

  #send(source, token, outbox, owed) {
    return new Promise((resolve) => {
      const step = () => {
        if (owed !== null) this.#owed = owed + outbox.pending;
        this.#changed();
        if (!outbox.pending) line.end("done");
      };
      const line = new Line(this.#server, { token, source }, outbox, {
        welcome: step,
        acked: step,
        stalled: () => this.#stall(),
        heard: () => {},
        closed: resolve,
      });
    });
  }

  #settle() {
    for (const flush of this.#flushes) {
      if (this.#outbox.settled(flush.mark) && !this.#owed) flush.resolve();
      else if (this.#refused) flush.reject(new ClassroomError("refused", "The class takes no events of this student."));
      else if (this.#closed) flush.reject(new ClassroomError("closed", "This stream was closed."));
      else continue;
      this.#flushes.delete(flush);
    }
  }

  #show(connection) {
    this.#connection = connection;
    this.#changed();
  }

  /** Tell that something has changed, once for all that changes in one go. */
  #changed() {
    if (this.#told) return;
    this.#told = true;
    queueMicrotask(() => {
      this.#told = false;
      this.dispatchEvent(new CustomEvent("status"));
    });
  }

  #dispatch(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

export { ClassroomStream };
