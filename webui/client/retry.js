import { backoff, reconnectWait, typingInterval, unusableWait } from "./backoff.js";
import { CLOSE } from "./protocol.js";

const BUSY = [CLOSE.later, CLOSE.crowded, CLOSE.backendAway];
const BUSY_MS = 5_000;
const BAD_HELLO_MS = 30_000;

/** When to connect again after a connection has ended. */
export class Retry {
  #connect;
  #timer = null;
  // Nothing shortens the wait before this time.
  #notBefore = 0;
  #hurried = false;
  #triedAt = 0;
  #interval = 0;
  // How often in a row: failed, with a bad hello, with events that the server cannot use.
  #attempts = 0;
  #badHellos = 0;
  #unusable = 0;

  /** @param {() => void} connect makes a connection, unless there is one */
  constructor(connect) {
    this.#connect = connect;
  }

  /** Connect now. */
  now() {
    this.stop();
    this.tried();
    this.#connect();
  }

  /** An attempt begins or ends now. */
  tried() {
    this.#triedAt = performance.now();
    this.#interval = typingInterval();
  }

  /** A connection lasted: earlier failures do not count any more. */
  reset() {
    this.#attempts = this.#badHellos = this.#unusable = 0;
  }

  /** How long to wait after a connection that ended for this reason: `[fixed, random]` in ms. */
  waitAfter(why) {
    if (why === CLOSE.unusable) return unusableWait(++this.#unusable);
    if (why === "asleep") return [0, reconnectWait()];
    const wait = backoff(++this.#attempts);
    if (BUSY.includes(why)) return [BUSY_MS, wait];
    // A single bad hello may be a hello that a slow server got too late.
    if (why === CLOSE.badHello && ++this.#badHellos > 1) return [BAD_HELLO_MS, wait];
    return [0, wait];
  }

  /** Connect after a wait. Events of the page shorten the random part, and never the fixed one. */
  schedule([fixed, random]) {
    if (this.#timer !== null) return;
    this.#notBefore = performance.now() + fixed;
    this.#timer = setTimeout(() => this.now(), fixed + random);
  }

  /** The server can probably be reached again. */
  hurry() {
    if (!this.#mayShorten() || this.#hurried) return;
    clearTimeout(this.#timer);
    // A second call must not put it off.
    this.#hurried = true;
    this.#timer = setTimeout(() => this.now(), reconnectWait());
  }

  /** The student is at work or comes back to the page: connect at once, unless the last attempt was very recent. */
  atWork() {
    if (this.#mayShorten() && performance.now() - this.#triedAt >= this.#interval) this.now();
  }

  #mayShorten() {
    return this.#timer !== null && performance.now() >= this.#notBefore;
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#hurried = false;
  }
}
