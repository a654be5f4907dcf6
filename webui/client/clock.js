const SET_BACK_MS = 1_000;

/**
 * The device's clock in ms since the epoch, from which events get their time. When somebody sets it back while the page
 * is open, our time goes on as before: the server measured the clock's offset when it greeted us, and events that wait
 * here have times by the old setting too.
 */
export class Clock {
  #ahead = 0;
  #offset = null;

  now() {
    const read = Date.now();
    // Nobody can set `performance.now`, but it stops while the device sleeps.
    const offset = read - performance.now();
    if (this.#offset !== null && offset < this.#offset - SET_BACK_MS) this.#ahead += Math.round(this.#offset - offset);
    this.#offset = offset;
    return read + this.#ahead;
  }
}

/** The one clock of this page. */
export const clock = new Clock();
