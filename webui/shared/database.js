// IndexedDB by promises (idb), for pages that must work without it too: no call waits for ever, none leaves a rejected
// promise unhandled.

import { openDB, unwrap } from "../vendor/idb/index.js";

// A broken browser profile can keep a request waiting for ever.
const ANSWER_MS = 5_000;

/**
 * Open a database of version 1.
 *
 * @param {string} name
 * @param {(database: IDBDatabase) => void} create makes the object stores of a new database
 * @param {() => void} [closed] called when the browser closes the database, as when the user clears the site's data
 * @returns {Promise<IDBDatabase | null>} null where the browser has no IndexedDB or denies it, as in some private windows
 */
export async function openDatabase(name, create, closed) {
  try {
    if (!globalThis.indexedDB) return null;
    const database = await inTime(openDB(name, 1, { upgrade: create, terminated: closed }));
    // Another program version, in another tab, must not wait for us.
    database.addEventListener("versionchange", () => database.close());
    return database;
  } catch {
    return null;
  }
}

/**
 * Run one transaction and wait for its end. When `act` fails, the transaction is undone and the error passed on.
 *
 * @param {IDBDatabase} database
 * @param {string[]} stores names of the object stores that it needs
 * @param {"readonly" | "relaxed" | "strict"} mode "strict" waits until the disk has the change
 * @param {(...stores: IDBObjectStore[]) => unknown} act gets the stores by promises; write with `plain(store)`
 * @returns what `act` returned
 */
export function transact(database, stores, mode, act) {
  return inTime(run(database, stores, mode, act));
}

async function run(database, names, mode, act) {
  const work =
    mode === "readonly"
      ? database.transaction(names, "readonly")
      : database.transaction(names, "readwrite", { durability: mode });
  work.done.catch(() => {});
  let result;
  try {
    result = await act(...names.map((name) => work.objectStore(name)));
  } catch (error) {
    abort(work);
    throw error;
  }
  await work.done;
  return result;
}

function abort(work) {
  try {
    work.abort();
  } catch {
    // The failure has ended it already.
  }
}

/**
 * An object store without promises, for writing: a write that fails ends the transaction, which reports it once, and no
 * promise per write is left unhandled.
 */
export function plain(store) {
  return unwrap(store);
}

function inTime(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("IndexedDB does not answer")), ANSWER_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
