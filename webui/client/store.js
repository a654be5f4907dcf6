import { openDatabase, plain, transact } from "../shared/database.js";
import { STORAGE_NAME } from "./browser.js";

/** Two tabs number one stream. */
export const COLLISION = Symbol("another tab numbers this stream");

const BOTH = ["streams", "events"];

/** What the browser keeps: streams, their events that are not acknowledged, and who joined. */
export class Store {
  #database;

  /**
   * @param {() => void} [closed] called when the browser closes the storage
   * @returns {Promise<Store | null>} null where the browser has no storage
   */
  static async open(closed) {
    const database = await openDatabase(STORAGE_NAME, createStores, closed);
    return database && new Store(database);
  }

  /** Open the storage for one act; null where there is none, or the act fails. */
  static async use(act) {
    const store = await Store.open();
    try {
      return store ? await act(store) : null;
    } catch {
      return null;
    } finally {
      store?.close();
    }
  }

  constructor(database) {
    this.#database = database;
  }

  close() {
    this.#database.close();
  }

  /** A stream's record and events; null if there is no such stream. */
  load(id) {
    return transact(this.#database, BOTH, "readonly", async (streams, events) => {
      const [record, keys, texts] = await Promise.all([
        streams.get(id),
        events.getAllKeys(eventsOf(id)),
        events.getAll(eventsOf(id)),
      ]);
      return record ? { record, held: keys.map((key, at) => ({ seq: key[1], text: texts[at] })) } : null;
    });
  }

  /** All streams of a server, each with the `count` of its events. */
  streams(server) {
    return transact(this.#database, BOTH, "readonly", async (streams, events) => {
      const ours = (await streams.getAll()).filter((record) => record.server === server);
      const counts = await Promise.all(ours.map((record) => events.count(eventsOf(record.id))));
      return ours.map((record, at) => ({ ...record, count: counts[at] }));
    });
  }

  /**
   * Store events and the record of their stream.
   *
   * @param {boolean} strict wait until the disk has it, which matters only while the server has not
   * @throws COLLISION when the stored record is not at `expected`: another tab numbers this stream, and was faster
   */
  write(record, expected, items, strict) {
    return transact(this.#database, BOTH, strict ? "strict" : "relaxed", async (streams, events) => {
      const kept = await streams.get(record.id);
      if ((kept?.next ?? 1) !== expected) throw COLLISION;
      // Another tab may have given the stream to another student id; see `inherit`.
      const renewed = kept ? { ...record, token: kept.token, student: kept.student ?? record.student } : record;
      putStream(streams, events, renewed, items);
    });
  }

  /** Put events into a new stream and delete an old one, in one step. */
  move(record, items, old) {
    return transact(this.#database, BOTH, "strict", (streams, events) => {
      putStream(streams, events, record, items);
      if (old) deleteStream(streams, events, old);
    });
  }

  /** Give a student's streams to another student id, under which the server knows the same person now. */
  inherit(server, before, member) {
    return transact(this.#database, ["streams"], "strict", async (streams) => {
      for (const record of await streams.getAll()) {
        if (record.server !== server) continue;
        if (record.token !== before.token && record.student !== before.student_id) continue;
        plain(streams).put({ ...record, token: member.token, student: member.student_id });
      }
    });
  }

  /** Who joined a server in this browser: `{server, member}`, with null when nobody is to be remembered. */
  member(server) {
    return transact(this.#database, ["members"], "readonly", (members) => members.get(server));
  }

  keepMember(kept) {
    return transact(this.#database, ["members"], "strict", (members) => plain(members).put(kept));
  }

  /** Delete a stream's events up to a number. */
  drop(id, seq) {
    return transact(this.#database, ["events"], "relaxed", (events) =>
      plain(events).delete(IDBKeyRange.bound([id], [id, seq])),
    );
  }

  /** Delete a stream. */
  forget(id) {
    return transact(this.#database, BOTH, "relaxed", (streams, events) => deleteStream(streams, events, id));
  }
}

function createStores(database) {
  database.createObjectStore("streams", { keyPath: "id" });
  database.createObjectStore("events");
  database.createObjectStore("members", { keyPath: "server" });
}

function putStream(streams, events, record, items) {
  plain(streams).put(record);
  for (const { seq, text } of items) plain(events).put(text, [record.id, seq]);
}

function deleteStream(streams, events, id) {
  plain(streams).delete(id);
  plain(events).delete(eventsOf(id));
}

function eventsOf(id) {
  return IDBKeyRange.bound([id], [id, []]);
}
