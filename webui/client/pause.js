/**
 * Whether the class is paused, and whether the page must log its whole state again, since events of a pause are not
 * counted by the server.
 */
export class Pause {
  paused = false;
  // What the page logged of its whole state has higher numbers than this one.
  #wholeAfter = 0;

  /**
   * The server named the state of the class.
   *
   * @param {string} state "open" or "paused"
   * @param {number} last number of the last event that was logged
   * @param {number} pausedTo number of the last event that the server took during a pause; 0 if there is none
   * @param {boolean} unusable whether the server could not use events of this stream
   * @returns {boolean} whether the page must log its whole state again; when it saw the end of the pause, it does so itself
   */
  heard(state, last, pausedTo = 0, unusable = false) {
    const before = this.paused;
    this.paused = state === "paused";
    if (this.paused) return false;
    if (!before && !unusable && pausedTo <= this.#wholeAfter) return false;
    this.wholeLogged(last, pausedTo);
    return !before;
  }

  /** The page logs its whole state now, and that counts for all events up to these numbers. */
  wholeLogged(last, pausedTo = 0) {
    this.#wholeAfter = Math.max(pausedTo, last);
  }

  /** The events go on in a new stream, with new numbers. */
  renumbered() {
    this.#wholeAfter = 0;
  }
}
