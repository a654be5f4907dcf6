/**
 * A student's text in the browser. It is stored twice: IndexedDB is on the disk soon, also if the battery dies a moment
 * later; localStorage takes a text at once while the page is being closed, when IndexedDB is too late. The newer counts.
 */

import { openDatabase, plain, transact } from "../shared/database.js";

const STORES = ["texts"];

function keyOf(studentId) {
  return `classroom-observer text ${studentId}`;
}

let opening = null;

/** The database of this page; null where the browser has none. */
function database() {
  opening ??= openDatabase("classroom-observer-text", (database) => database.createObjectStore("texts"));
  return opening;
}

function recallAtOnce(studentId) {
  try {
    return JSON.parse(localStorage.getItem(keyOf(studentId)) ?? "{}") ?? {};
  } catch {
    // Nothing is stored, or not by us, or the browser stores nothing.
    return {};
  }
}

/** A student's text: `{title, text, raised}`, or `{}`. */
export async function recallText(studentId) {
  const one = recallAtOnce(studentId);
  let two = {};
  try {
    two = (await transact(await database(), STORES, "readonly", (texts) => texts.get(studentId))) ?? {};
  } catch {
    // No database here.
  }
  return (two.at ?? 0) > (one.at ?? 0) ? two : one;
}

/** Keep a student's text; where the browser cannot, the server still has it. */
export async function keepText(studentId, text, { strict = false } = {}) {
  const value = { ...text, at: Date.now() };
  try {
    const mode = strict ? "strict" : "relaxed";
    await transact(await database(), STORES, mode, (texts) => plain(texts).put(value, studentId));
  } catch {
    // No database here.
  }
}

/** Keep it without waiting, for a page that is about to close. */
export function keepTextAtOnce(studentId, text) {
  try {
    localStorage.setItem(keyOf(studentId), JSON.stringify({ ...text, at: Date.now() }));
  } catch {
    // The storage is full or switched off.
  }
}

/** A student who has a new id, since the server lost the old one, continues with the same text. */
export async function inheritText(fromId, toId) {
  if ((await recallText(toId)).text) return;
  const { title, text } = await recallText(fromId);
  if (!title && !text) return;
  keepTextAtOnce(toId, { title, text });
  await keepText(toId, { title, text }, { strict: true });
}
