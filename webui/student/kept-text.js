/**
 * What the students' pages share: where the browser keeps a student's text.
 *
 * It is kept twice. IndexedDB is on the disk soon, also where the battery ends a moment later; localStorage takes a text
 * at once while the page is being closed, when nobody waits for IndexedDB any more. The newer one counts.
 */

const DATABASE = "classroom-observer-text";

function place(studentId) {
  return `classroom-observer text ${studentId}`;
}

let opening = null;

function database() {
  opening ??= new Promise((resolve) => {
    try {
      const request = indexedDB.open(DATABASE, 1);
      request.onupgradeneeded = () => request.result.createObjectStore("texts");
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => resolve(null);
      setTimeout(resolve, 3000, null);
    } catch {
      resolve(null);
    }
  });
  return opening;
}

function recallAtOnce(studentId) {
  try {
    return JSON.parse(localStorage.getItem(place(studentId)) ?? "{}") ?? {};
  } catch {
    // Nothing is kept, or not by us, or the browser keeps nothing.
    return {};
  }
}

/** What is kept of a student's text: `{title, text, raised}`, or `{}`. */
export async function recallText(studentId) {
  const one = recallAtOnce(studentId);
  const kept = await database();
  const two = await new Promise((resolve) => {
    try {
      const request = kept.transaction("texts").objectStore("texts").get(studentId);
      request.onsuccess = () => resolve(request.result ?? {});
      request.onerror = () => resolve({});
    } catch {
      resolve({});
    }
  });
  return (two.at ?? 0) > (one.at ?? 0) ? two : one;
}

/** Keep a student's text; where the browser cannot, the server still has it. */
export async function keepText(studentId, text, { strict = false } = {}) {
  const kept = await database();
  try {
    const work = kept.transaction("texts", "readwrite", { durability: strict ? "strict" : "relaxed" });
    work.objectStore("texts").put({ ...text, at: Date.now() }, studentId);
    await new Promise((resolve) => {
      work.oncomplete = resolve;
      work.onabort = resolve;
    });
  } catch {
    // No database here.
  }
}

/** Keep it without waiting, as is needed when the page is about to go. */
export function keepTextAtOnce(studentId, text) {
  try {
    localStorage.setItem(place(studentId), JSON.stringify({ ...text, at: Date.now() }));
  } catch {
    // Full or switched off.
  }
}

/** A student who is known by a new id, since the class computer forgot the old one, goes on with the same text. */
export async function inheritText(fromId, toId) {
  if ((await recallText(toId)).text) return;
  const { title, text } = await recallText(fromId);
  if (!title && !text) return;
  keepTextAtOnce(toId, { title, text });
  await keepText(toId, { title, text }, { strict: true });
}
