import { uuid } from "./browser.js";
import { Outbox } from "./outbox.js";
import { CLOSE } from "./protocol.js";
import { StreamConnection } from "./stream-connection.js";

const WAIT_MS = 15_000;
const AGAIN_MS = 30_000;
const ABANDONED_MS = 60 * 24 * 3600 * 1000;

/**
 * Streams of this browser that no tab has any more, and whose events the server does not have yet.
 *
 * `page` has `isCurrent(connection)`; `acknowledged()`, whether the server has newer events of this page; `changed()`;
 * `stalled()`; and `outOfOrder()`, called when a closed tab's events came after newer ones of this page.
 */
export class Leftovers {
  #identity;
  #journal;
  #owners;
  #page;
  #owed = 0;
  #delivering = new Set();
  #again = null;

  constructor(identity, journal, owners, page) {
    this.#identity = identity;
    this.#journal = journal;
    this.#owners = owners;
    this.#page = page;
  }

  /** How many events of this student closed tabs have left. */
  get owed() {
    return this.#owed;
  }

  /** Ids of the streams that are being sent. */
  get delivering() {
    return [...this.#delivering];
  }

  async count() {
    try {
      const own = (await this.#find()).filter((record) => this.#identity.owns(record));
      this.#owed = own.reduce((sum, record) => sum + record.count, 0);
    } catch {
      this.#owed = 0;
    }
    this.#page.changed();
  }

  /** Streams of this server that no tab has, oldest first; those of this student before others'. */
  async #find() {
    const all = (await this.#journal.store?.streams(this.#identity.server)) ?? [];
    const others = all.filter((record) => record.id !== this.#journal.outbox.stream);
    const owned = await this.#owners.ask(others.map((record) => record.id));
    const owns = (record) => this.#identity.owns(record);
    return others
      .filter((record) => !owned.has(record.id))
      .sort((one, two) => owns(two) - owns(one) || one.touched - two.touched);
  }

  /** Send these streams, each on a connection of its own; then release the page's own connection, which waits so long. */
  async deliverBefore(connection) {
    clearTimeout(this.#again);
    const impatient = setTimeout(() => connection.release(), WAIT_MS);
    const found = { outOfOrder: false, complete: true };
    try {
      if (!(await this.#deliverAll(connection, found))) return;
      if (!found.complete)
        this.#again = setTimeout(() => {
          if (this.#page.isCurrent(connection)) this.deliverBefore(connection);
        }, AGAIN_MS);
    } catch {
      // The storage failed; the next page that can read it finds what it holds.
    } finally {
      clearTimeout(impatient);
      connection.release();
      if (found.outOfOrder) this.#page.outOfOrder();
      await this.count();
    }
  }

  /** Whether the connection is still the page's at the end; `found` is filled. */
  async #deliverAll(connection, found) {
    for (const record of await this.#find()) {
      const own = this.#identity.owns(record);
      if (!own) connection.release();
      if (!this.#page.isCurrent(connection)) return false;
      // The server has newer events of this student already, and those of the closed tab do not fit after them.
      if (own && record.count && (this.#page.acknowledged() || !connection.held)) found.outOfOrder = true;
      if (!(await this.#deliver(record))) found.complete = false;
    }
    return true;
  }

  /** Send one stream. Whether nothing of it is left to be tried again. */
  async #deliver(record, isFork = false) {
    const { store } = this.#journal;
    const own = this.#identity.owns(record);
    this.#delivering.add(record.id);
    try {
      const kept = await store.load(record.id);
      if (!kept) return true;
      const outbox = new Outbox(record.id, { next: kept.record.next, held: kept.held });
      const hello = { token: own ? this.#identity.token : record.token, source: record.source };
      const why = outbox.pending ? await this.#send(hello, outbox, own) : "done";
      if (why === "done") {
        await store.forget(record.id);
        return true;
      }
      if (why === "renumber") {
        const renewed = await moveToNewStream(store, kept.record, outbox);
        return isFork ? false : this.#deliver(renewed, true);
      }
      return this.#refused(store, record, why);
    } finally {
      this.#delivering.delete(record.id);
    }
  }

  /** Whether the server refuses these events. Nobody can send for a student who left, and a browser is no archive. */
  async #refused(store, record, why) {
    const refused = why === CLOSE.token || why === CLOSE.removed;
    if (refused && Date.now() - record.touched > ABANDONED_MS) await store.forget(record.id);
    return refused;
  }

  /** Send an outbox until it is empty; gives "done", or why the connection ended. */
  #send(hello, outbox, own) {
    const others = this.#owed - outbox.pending;
    return new Promise((resolve) => {
      const progress = () => {
        if (own) this.#owed = others + outbox.pending;
        this.#page.changed();
        if (!outbox.pending) connection.end("done");
      };
      const connection = new StreamConnection(this.#identity.server, hello, outbox, {
        welcome: progress,
        acked: progress,
        stalled: () => this.#page.stalled(),
        other: () => {},
        closed: resolve,
      });
    });
  }

  stop() {
    clearTimeout(this.#again);
  }
}

/** Gives the record of the new stream. */
async function moveToNewStream(store, record, outbox) {
  const fork = outbox.fork(uuid());
  const renewed = { ...record, id: fork.stream, next: fork.next };
  await store.move(renewed, fork.unstored(), record.id);
  return renewed;
}
