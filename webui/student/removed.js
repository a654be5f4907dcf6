import { ClassroomStream } from "../client/stream.js";
import { find } from "../shared/page.js";

const ASK_MS = 10_000;

/** What the writing page does once the teacher has removed the student: it says so, and changes nothing any more. */
export class Removed {
  #asking = null;

  /** Whether the student was removed. */
  get is() {
    return this.#asking !== null;
  }

  /** @param {() => void} lock makes the text read-only */
  show(lock) {
    if (this.is) return;
    find("removed").hidden = false;
    document.body.classList.add("is-removed");
    find("hand").disabled = true;
    lock();
    // The teacher may take it back.
    this.#asking = setInterval(() => this.#ask(), ASK_MS);
  }

  async #ask() {
    if (document.visibilityState === "hidden") return;
    const student = await ClassroomStream.me().catch(() => null);
    if (student?.removed === false) location.reload();
  }
}
