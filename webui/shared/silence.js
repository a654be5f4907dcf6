// The server sends something at least every 5 s. A connection that is silent for so long is dead.
export const SILENT_MS = 12_000;
// A page that checks so late was blocked itself: frames that came meanwhile may not be read yet.
const BLOCKED_MS = 4_000;

/** How often to call `isDead`, in ms. */
export const CHECK_MS = 1_000;

/**
 * Finds connections that are dead though they seem open. Over a lost network a WebSocket says nothing, and does not
 * close by itself for minutes.
 */
export class SilenceWatch {
  #clock;
  #heardAt;
  #checkedAt;
  #doubted = false;

  /** @param {() => number} clock ms by a clock that nobody sets */
  constructor(clock = () => performance.now()) {
    this.#clock = clock;
    this.#checkedAt = clock();
    this.heard();
  }

  /** Something came from the server, or a new connection begins. */
  heard() {
    this.#heardAt = this.#clock();
    this.#doubted = false;
  }

  /** Whether nothing came for too long. */
  get silent() {
    return this.#clock() - this.#heardAt > SILENT_MS;
  }

  /** Whether the connection is dead. The first check after the page was blocked waits for one more. */
  isDead() {
    const now = this.#clock();
    const blocked = now - this.#checkedAt > BLOCKED_MS;
    this.#checkedAt = now;
    if (!this.silent) return false;
    if (!blocked || this.#doubted) return true;
    this.#doubted = true;
    return false;
  }
}
