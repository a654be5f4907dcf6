import { find } from "../shared/page.js";
import { sorted } from "./order.js";
import { handUp, neverCame } from "./presence.js";
import { Tile } from "./tile.js";

/** The tiles of a class, a student each. */
export class Tiles {
  #tiles = new Map();
  // Tiles with an excerpt that may be longer than its box.
  #unfitted = new Set();
  #order = "";
  #open;

  /** @param {(id: string) => void} open shows a student whole */
  constructor(open) {
    this.#open = open;
  }

  /**
   * @param {object[]} students of the class
   * @param {number} now in seconds by the server's clock
   */
  draw(students, now) {
    this.#removeAllBut(new Set(students.map((student) => student.student_id)));
    for (const student of students) {
      const tile = this.#tileOf(student.student_id);
      if (tile.draw(student, now)) this.#unfitted.add(tile);
    }
    this.#arrange(students);
    for (const tile of this.#unfitted) if (tile.fitExcerpt()) this.#unfitted.delete(tile);
  }

  /** The window has another size: excerpts are fitted again by the next `draw`. */
  resized() {
    for (const tile of this.#tiles.values()) {
      tile.drawExcerpt();
      this.#unfitted.add(tile);
    }
  }

  #tileOf(id) {
    if (!this.#tiles.has(id)) this.#tiles.set(id, new Tile(id, () => this.#open(id)));
    return this.#tiles.get(id);
  }

  #removeAllBut(ids) {
    for (const [id, tile] of this.#tiles) {
      if (ids.has(id)) continue;
      tile.node.remove();
      this.#unfitted.delete(tile);
      this.#tiles.delete(id);
    }
  }

  /** Tiles move only when the order was chosen anew, a student came or left, or a hand was raised or lowered. */
  #arrange(students) {
    const by = find("sort").value;
    const wanted = find("filter").value.trim().toLocaleLowerCase();
    const key = JSON.stringify([by, wanted, students.map((s) => [s.student_id, s.name, handUp(s), neverCame(s)])]);
    if (key === this.#order) return;
    this.#order = key;
    const focused = document.activeElement;
    const nodes = sorted(students, by).map((student) => {
      const { node } = this.#tiles.get(student.student_id);
      node.hidden = !student.name.toLocaleLowerCase().includes(wanted);
      return node;
    });
    find("tiles").replaceChildren(...nodes);
    if (focused?.isConnected) focused.focus();
  }
}
