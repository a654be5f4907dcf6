import { CHECK_MS, SilenceWatch } from "../shared/silence.js";

const STEADY_MS = 22_000;
const BACKOFF_MS = 1_000;
const BACKOFF_MAX_MS = 15_000;
const LEAST_MS = 200;
// Close codes by which the server says that it cannot serve us now.
const BUSY = [1013, 4429, 4503];
const BUSY_MS = 2_000;
const RECONNECT_MS = 1_000;

/** Wait before the n-th attempt, in ms; random, so that all dashboards do not come back in one moment. */
export function waitBefore(attempt, code, random = Math.random) {
  const most = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** (attempt - 1));
  return (BUSY.includes(code) ? BUSY_MS : LEAST_MS) + random() * most;
}

/** The dashboard's connection. It is opened again however it ended, and given up when it is silent. */
export class DashboardConnection {
  #url;
  #page;
  #clock;
  #silence;
  #socket = null;
  #beganAt = 0;
  #attempts = 0;
  #retry = null;
  #notBefore = 0;
  #check = null;

  /**
   * @param {string} url
   * @param {{heard: (frame: object) => void, lost: (reason: string) => void}} page gets each frame, and each end of the
   *   connection with the server's sentence why, or ""
   * @param {() => number} clock ms by a clock that nobody sets
   */
  constructor(url, page, clock = () => performance.now()) {
    this.#url = url;
    this.#page = page;
    this.#clock = clock;
    this.#silence = new SilenceWatch(clock);
  }

  start() {
    this.#silence = new SilenceWatch(this.#clock);
    this.#check ??= setInterval(() => {
      if (this.#silence.isDead() && this.#socket) this.#end(0, "");
    }, CHECK_MS);
    this.#connect();
  }

  stop() {
    clearInterval(this.#check);
    clearTimeout(this.#retry);
    this.#check = null;
    this.#discard();
  }

  send(text) {
    if (this.#socket?.readyState === 1) this.#socket.send(text);
  }

  /** The server can probably be reached now, or the connection may be dead. */
  hurry() {
    if (this.#check === null) return;
    if (this.#socket && this.#silence.silent) return this.#end(0, "");
    if (this.#retry === null || this.#clock() < this.#notBefore) return;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#connect(), Math.random() * RECONNECT_MS);
    // A second call must not put it off.
    this.#notBefore = Number.POSITIVE_INFINITY;
  }

  #connect() {
    this.#retry = null;
    this.#beganAt = this.#clock();
    this.#silence.heard();
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#received(data);
    socket.onclose = ({ code, reason }) => this.#end(code, reason ?? "");
  }

  #received(data) {
    this.#silence.heard();
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      // The next snapshot has it all.
      return this.#end(0, "");
    }
    this.#page.heard(frame);
  }

  #discard() {
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #end(code, reason) {
    this.#discard();
    if (this.#check === null) return;
    const now = this.#clock();
    if (now - this.#beganAt >= STEADY_MS) this.#attempts = 0;
    this.#attempts++;
    this.#notBefore = now + (BUSY.includes(code) ? BUSY_MS : 0);
    this.#retry = setTimeout(() => this.#connect(), waitBefore(this.#attempts, code));
    this.#page.lost(reason);
  }
}
