import { CHECK_MS, SilenceWatch } from "../shared/silence.js";
import { clock } from "./clock.js";
import { PROTOCOL_VERSION } from "./protocol.js";

const WELCOME_MS = 10_000;
const STEADY_MS = 10_000;
const STALLED_MS = 3_000;
// Longer than between two checks of a page in the background, to which browsers give one timer a minute.
const ASLEEP_MS = 90_000;
const SOCKET_BYTES = 1024 * 1024;
const SOCKET_FULL_MS = 50;
// So many gaps without an acknowledgement end the connection, which is opened again later.
const MAX_GAPS = 3;

/**
 * One connection for one stream, from its hello to its end. It is never opened again; its owner makes another one.
 *
 * `report` has `welcome(frame)`; `acked(seq)`; `stalled()` when an acknowledgement takes long; `other(frame)` for frames
 * that concern the page; and `closed(why)`, called once: a close code, "renumber", "trouble", "lost", "asleep", or what
 * `end` was given.
 */
export class StreamConnection {
  /** Nothing is sent while this is set. */
  held = false;
  #socket = null;
  #report;
  #outbox;
  #greeted = false;
  #gaps = 0;
  #beganAt = performance.now();
  #sentAt = performance.now();
  #checkedDate = Date.now();
  #silence = new SilenceWatch();
  #stalled = false;
  #check;
  #later = null;

  /**
   * @param {string} server its origin
   * @param {{token: string, source: string}} hello
   */
  constructor(server, hello, outbox, report) {
    this.#report = report;
    this.#outbox = outbox;
    this.#check = setInterval(() => this.#checkHealth(), CHECK_MS);
    try {
      const socket = new WebSocket(`${server.replace(/^http/, "ws")}/ws/events`);
      this.#socket = socket;
      const fields = { type: "hello", protocol: PROTOCOL_VERSION, stream: outbox.stream, ...hello };
      socket.onopen = () => socket.send(JSON.stringify({ ...fields, now: clock.now() }));
      socket.onmessage = ({ data }) => this.#received(data);
      socket.onclose = ({ code }) => this.end(code);
      // A close event with the code follows.
      socket.onerror = () => {};
    } catch {
      queueMicrotask(() => this.end("lost"));
    }
  }

  /** Whether the server has sent its welcome. */
  get greeted() {
    return this.#greeted;
  }

  /** Whether the connection has lasted for so long that earlier failures do not count any more. */
  get steady() {
    return this.#greeted && performance.now() - this.#beganAt >= STEADY_MS;
  }

  /** Send what may be sent. */
  pump() {
    if (!this.#greeted || this.held || this.#socket?.readyState !== 1 || this.#later !== null) return;
    for (;;) {
      if (this.#socket.bufferedAmount > SOCKET_BYTES) return this.#pumpLater();
      const idle = !this.#outbox.waiting;
      const frame = this.#outbox.frame();
      if (frame === null) return;
      if (idle) this.#sentAt = performance.now();
      this.#socket.send(frame);
    }
  }

  #pumpLater() {
    this.#later = setTimeout(() => {
      this.#later = null;
      this.pump();
    }, SOCKET_FULL_MS);
  }

  /** Stop holding back, and send. */
  release() {
    if (!this.held) return;
    this.held = false;
    this.pump();
  }

  /** Close, and report why. */
  end(why) {
    const socket = this.#socket;
    if (this.#check === null) return;
    clearInterval(this.#check);
    clearTimeout(this.#later);
    this.#check = null;
    this.#socket = null;
    if (socket) closeSilently(socket);
    this.#outbox.disconnected();
    this.#report.closed(why);
  }

  /** The device slept, and the connection may be dead though it seems open. */
  wake() {
    if (this.#greeted) this.end("asleep");
  }

  /** Check at once whether the connection is dead, since the page is seen again or the network came back. */
  checkNow() {
    if (this.#greeted && this.#silence.silent) this.end("asleep");
  }

  #received(data) {
    this.#silence.heard();
    const frame = parsed(data);
    if (!frame) return;
    if (!this.#greeted) {
      // An error that answers the hello is followed by a close code with the same meaning.
      if (frame.type === "welcome" && Number.isInteger(frame.ack)) this.#welcomed(frame);
    } else if (frame.type === "ack" && Number.isInteger(frame.seq)) this.#acked(frame.seq);
    else if (frame.type === "gap") this.#gap(frame.expected);
    else if (frame.type === "error") {
      this.#outbox.unusable();
      this.end("trouble");
    } else this.#report.other(frame);
  }

  #welcomed(frame) {
    this.#greeted = true;
    this.#beganAt = performance.now();
    if (this.#outbox.welcome(frame.ack, frame.limits) === "renumber") return this.end("renumber");
    this.#report.welcome(frame);
    this.pump();
  }

  #acked(seq) {
    this.#gaps = 0;
    this.#sentAt = performance.now();
    this.#stalled = false;
    if (this.#outbox.ack(seq) === "renumber") return this.end("renumber");
    this.#report.acked(seq);
    this.pump();
  }

  #gap(expected) {
    if (this.#outbox.gap(expected) === "renumber") return this.end("renumber");
    if (++this.#gaps > MAX_GAPS) return this.end("trouble");
    this.pump();
  }

  #checkHealth() {
    const passed = Date.now() - this.#checkedDate;
    this.#checkedDate = Date.now();
    if (passed > ASLEEP_MS) return this.wake();
    const dead = this.#silence.isDead();
    const now = performance.now();
    if (!this.#greeted) {
      if (now - this.#beganAt > WELCOME_MS) this.end("lost");
    } else if (dead) {
      this.end("lost");
    } else if (this.#outbox.waiting && now - this.#sentAt > STALLED_MS && !this.#stalled && !this.#silence.silent) {
      this.#stalled = true;
      this.#report.stalled();
    }
  }
}

/** A frame; null for what is no JSON object. */
function parsed(data) {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}

function closeSilently(socket) {
  socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
  try {
    socket.close(1000);
  } catch {
    // It was closed already.
  }
}
