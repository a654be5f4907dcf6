// The dashboard's connection: opened again by itself, however it ended, and never believed where it is silent.

// The server says something every 5 s, if only that it is alive.
const SILENT_MS = 12_000;
const WATCH_MS = 1_000;
// A page that checks so late was held up itself: what came meanwhile may not be read yet.
const HELD_UP_MS = 4_000;
const STEADY_MS = 10_000;
const BACKOFF_MS = 1_000;
const BACKOFF_MOST_MS = 15_000;
// Where the server says that it cannot serve us now.
const BUSY_MS = 2_000;
const BUSY = [1013, 4429, 4503];
const HURRY_MS = 1_000;

// How long to wait before the n-th try, in ms: at random, so that all dashboards do not come at once.
export function waitBefore(attempt, code, random = Math.random) {
  const most = Math.min(BACKOFF_MOST_MS, BACKOFF_MS * 2 ** (attempt - 1));
  return (BUSY.includes(code) ? BUSY_MS : 200) + random() * most;
}

export class Link {
  #url;
  #page;
  #clock;
  #socket = null;
  #heard = 0;
  #began = 0;
  #checked = 0;
  #doubted = false;
  #attempts = 0;
  #retry = null;
  #notBefore = 0;
  #watch = null;

  // `page.heard(frame)` gets each frame; `page.lost(reason)` is called each time the connection ends, with the sentence
  // in which the server says why, or "".
  constructor(url, page, clock = () => performance.now()) {
    this.#url = url;
    this.#page = page;
    this.#clock = clock;
  }

  start() {
    this.#watch ??= setInterval(() => this.#look(), WATCH_MS);
    this.#checked = this.#clock();
    this.#connect();
  }

  stop() {
    clearInterval(this.#watch);
    clearTimeout(this.#retry);
    this.#watch = null;
    this.#forget();
  }

  send(text) {
    if (this.#socket?.readyState === 1) this.#socket.send(text);
  }

  // There is reason to think that the server can be reached now, or that the connection died unseen.
  hurry() {
    if (this.#watch === null) return;
    if (this.#socket && this.#clock() - this.#heard > SILENT_MS) return this.#end(0, "");
    if (this.#retry === null || this.#clock() < this.#notBefore) return;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#connect(), Math.random() * HURRY_MS);
    // Whoever comes once more does not put it off.
    this.#notBefore = Number.POSITIVE_INFINITY;
  }

  #connect() {
    this.#retry = null;
    this.#began = this.#heard = this.#clock();
    this.#doubted = false;
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = ({ code, reason }) => this.#end(code, reason ?? "");
  }

  #hear(data) {
    this.#heard = this.#clock();
    this.#doubted = false;
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      // The next snapshot has it all.
      return this.#end(0, "");
    }
    this.#page.heard(frame);
  }

  #look() {
    const now = this.#clock();
    const heldUp = now - this.#checked > HELD_UP_MS;
    this.#checked = now;
    if (!this.#socket || now - this.#heard <= SILENT_MS) return;
    if (heldUp && !this.#doubted) this.#doubted = true;
    else this.#end(0, "");
  }

  #forget() {
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #end(code, reason) {
    this.#forget();
    if (this.#watch === null) return;
    const now = this.#clock();
    if (now - this.#began >= STEADY_MS + SILENT_MS) this.#attempts = 0;
    this.#attempts++;
    this.#notBefore = now + (BUSY.includes(code) ? BUSY_MS : 0);
    this.#retry = setTimeout(() => this.#connect(), waitBefore(this.#attempts, code));
    this.#page.lost(reason);
  }
}
