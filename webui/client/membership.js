// Who has joined in this browser, per server: `{token, student_id, name, class_id}`.

import { browserStorage, STORAGE_NAME } from "./browser.js";
import { Store } from "./store.js";

// When the browser stores nothing, at least this page knows.
const inMemory = {};

function readAll() {
  try {
    const kept = JSON.parse(browserStorage("localStorage")?.getItem(STORAGE_NAME) ?? "{}");
    return { ...inMemory, ...kept };
  } catch {
    return { ...inMemory };
  }
}

function keepAtOnce(server, member) {
  const all = readAll();
  if (member) {
    all[server] = member;
    inMemory[server] = member;
  } else {
    delete all[server];
    delete inMemory[server];
  }
  try {
    browserStorage("localStorage")?.setItem(STORAGE_NAME, JSON.stringify(all));
  } catch {
    // The storage is full or switched off: the memory has it while the page is open.
  }
}

/** Who joined, by what can be read at once; null if nobody did. */
export function memberAtOnce(server) {
  return readAll()[server] ?? null;
}

/**
 * Keep who joined; null forgets. Browsers write localStorage to the disk late, and after a power cut it may still have
 * the student before this one. The database is written at once, and has the last word.
 */
export async function keepMember(server, member) {
  keepAtOnce(server, member);
  await Store.use((store) => store.keepMember({ server, member }));
}

/** Who joined; null if nobody did. */
export async function memberOf(server) {
  const kept = await Store.use((store) => store.member(server));
  const here = memberAtOnce(server);
  if (!kept || kept.member?.token === here?.token) return here;
  keepAtOnce(server, kept.member);
  return kept.member;
}
