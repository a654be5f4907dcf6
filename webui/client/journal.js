import { browserStorage, STORAGE_NAME, uuid } from "./browser.js";
import { Outbox } from "./outbox.js";
import { COLLISION } from "./store.js";

const GATHER_MS = 100;
const DROP_MS = 250;

/**
 * Stores the events of this page's stream before they are sent, and deletes what is acknowledged. When the storage
 * fails, it goes on in memory.
 *
 * `page` has `online()`, whether events reach the server now; `stored()`, called when events may be sent; `renumbering()`
 * before and `renumbered(which)` after the events have moved to a new stream; `storageFailed()`; and
 * `replaced(seq, code)` for an event that could never be sent.
 */
export class Journal {
  #store = null;
  #outbox = null;
  #identity;
  #page;
  #queue = Promise.resolve();
  #gathering = null;
  #dropping = null;
  #dropTo = 0;

  constructor(identity, page) {
    this.#identity = identity;
    this.#page = page;
  }

  /** The events that are not acknowledged. A new stream has another outbox. */
  get outbox() {
    return this.#outbox;
  }

  /** The storage; null when there is none, or it failed. */
  get store() {
    return this.#store;
  }

  /** Settled when all that was begun is done. */
  get idle() {
    return this.#queue;
  }

  /** Continue the stream that this tab had before a reload, or begin a new one. */
  async begin(store, owners) {
    this.#store = store;
    this.#outbox = (await this.#resumed(owners)) ?? new Outbox(uuid());
    this.#outbox.replaced = (seq, code) => this.#page.replaced(seq, code);
    this.#keepId();
  }

  async #resumed(owners) {
    const id = browserStorage("sessionStorage")?.getItem(this.#idKey());
    if (!id || !this.#store) return null;
    try {
      const kept = await this.#store.load(id);
      if (kept?.record.source !== this.#identity.source || !this.#identity.owns(kept.record)) return null;
      // A duplicated tab has a copy of the id; the first tab answers, and keeps the stream.
      if ((await owners.ask([id])).has(id)) return null;
      return new Outbox(id, { next: kept.record.next, held: kept.held });
    } catch {
      this.#store = null;
      return null;
    }
  }

  #idKey() {
    return `${STORAGE_NAME} ${this.#identity.server} ${this.#identity.source}`;
  }

  #keepId() {
    try {
      // Without a storage the numbers are not kept, and a page after a reload must not continue this stream.
      if (this.#store) browserStorage("sessionStorage")?.setItem(this.#idKey(), this.#outbox.stream);
      else browserStorage("sessionStorage")?.removeItem(this.#idKey());
    } catch {
      // Then a page after a reload takes a new stream, and sends the events of this one first.
    }
  }

  /** Store soon, once for many events. */
  saveSoon() {
    this.#gathering ??= setTimeout(() => this.save(), GATHER_MS);
  }

  /** Store what was logged, then let it be sent. */
  save() {
    clearTimeout(this.#gathering);
    this.#gathering = null;
    this.#enqueue(() => this.#save());
  }

  async #save() {
    const outbox = this.#outbox;
    const items = outbox.unstored();
    if (!items.length) return;
    if (this.#store) {
      try {
        await this.#store.write(this.#identity.record(outbox), outbox.storedNext, items, !this.#page.online());
      } catch (error) {
        if (error === COLLISION) return this.#renumber("unstored");
        this.storageFailed();
      }
    }
    outbox.stored(items.at(-1).seq);
    this.#page.stored();
  }

  /** Go on in memory. */
  storageFailed() {
    if (!this.#store) return;
    this.#store = null;
    if (!this.#outbox) return;
    this.#keepId();
    this.#page.storageFailed();
    this.save();
  }

  /**
   * Continue in a new stream.
   *
   * @param {"all" | "unstored"} which "all" when the server does not know the old stream as we do; "unstored" when
   *   another tab has taken the old stream over
   */
  renumber(which) {
    this.#enqueue(() => this.#renumber(which));
  }

  async #renumber(which) {
    const old = this.#outbox;
    const moved = this.#store ? which : "all";
    this.#outbox = old.fork(uuid(), moved);
    this.#dropTo = 0;
    this.#page.renumbering();
    this.#keepId();
    const items = this.#outbox.unstored();
    if (this.#store) {
      try {
        await this.#store.move(this.#identity.record(this.#outbox), items, moved === "all" ? old.stream : null);
      } catch {
        this.storageFailed();
      }
    }
    if (items.length) this.#outbox.stored(items.at(-1).seq);
    await this.#page.renumbered(moved);
  }

  /** All events up to a number are durable at the server: delete them here, soon and many at once. */
  acknowledged(seq) {
    if (!this.#store) return;
    this.#dropTo = Math.max(this.#dropTo, seq);
    this.#dropping ??= setTimeout(() => {
      this.#dropping = null;
      const [id, upTo] = [this.#outbox.stream, this.#dropTo];
      this.#enqueue(() => this.#store?.drop(id, upTo));
    }, DROP_MS);
  }

  /** Do things with the storage one after the other. */
  #enqueue(act) {
    this.#queue = this.#queue.then(act).catch(() => this.storageFailed());
  }

  /** Stop. What is not acknowledged stays in the storage. */
  async close() {
    clearTimeout(this.#dropping);
    if (!this.#store) return;
    await this.#store.drop(this.#outbox.stream, this.#dropTo).catch(() => {});
    this.#store.close();
  }
}
