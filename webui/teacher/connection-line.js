import { find, setText } from "../shared/page.js";
import { moment } from "./figures.js";

const AGAIN = "This page tries again by itself.";

/** What the page says of its connection: the line in the header, the reason below it, and grey for what is old. */
export class ConnectionLine {
  #saving = true;

  /** Whether the server saves what students do. */
  set saving(saving) {
    this.#saving = saving;
  }

  /** The page shows what happens now. */
  live() {
    this.#show(this.#saving ? "live" : "unsaved", this.#saving ? "Live" : "Live, not saving");
  }

  /** The connection is back. */
  found() {
    this.live();
    this.#markOld(false);
    find("why").hidden = true;
    find("student-lost").hidden = true;
  }

  /**
   * The connection is lost.
   *
   * @param {string} reason the server's sentence, or ""
   * @param {number | null} since when, in seconds; null when there was none so far
   */
  lost(reason, since) {
    const words = since === null ? "No connection yet." : `Connection lost. Showing ${moment(since)}.`;
    this.#show("reconnecting", words, AGAIN);
    this.#markOld(since !== null);
    find("why").textContent = `${reason} ${AGAIN}`;
    find("why").hidden = !reason;
    find("student-lost").textContent = words;
    find("student-lost").hidden = false;
  }

  signedOut() {
    this.#show("signed-out", "Signed out");
  }

  stopped() {
    this.#show("stopped", "Stopped");
  }

  #markOld(old) {
    for (const id of ["tiles", "student-content"]) find(id).classList.toggle("stale", old);
  }

  #show(state, words, title = "") {
    const line = find("connection");
    line.dataset.state = state;
    setText(line, words);
    line.title = title;
  }
}
