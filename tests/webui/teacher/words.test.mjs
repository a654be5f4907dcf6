// Each page names sentences that exist, and has none that nobody reads.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { WORDS as ACCOUNTS } from "../../../webui/teacher/accounts-words.js";
import { WORDS as PEOPLE } from "../../../webui/teacher/people-words.js";
import { WORDS as ROSTER } from "../../../webui/teacher/roster-words.js";

const FOLDER = new URL("../../../webui/teacher/", import.meta.url);
const FILES = readdirSync(FOLDER);

function textOf(file) {
  return readFileSync(new URL(file, FOLDER), "utf8");
}

/** Ids of the sentences that a page and its modules use. */
function usedBy(page) {
  const html = textOf(`${page}.html`);
  const scripts = FILES.filter((file) => file.endsWith(".js") && !file.endsWith("-words.js")).map(textOf);
  const own = scripts.filter((text) => text.includes(`"./${page}-words.js"`));
  return new Set([
    ...[...html.matchAll(/data-words[^>]*>(\w+)</g)].map(([, id]) => id),
    ...[...html.matchAll(/data-hint="(\w+)"/g)].map(([, id]) => id),
    ...own.flatMap((text) => [...text.matchAll(/WORDS\.(\w+)/g)].map(([, id]) => id)),
    "title",
  ]);
}

for (const [page, words] of Object.entries({ accounts: ACCOUNTS, people: PEOPLE, roster: ROSTER }))
  test(`the sentences of ${page}`, () => {
    assert.deepEqual([...usedBy(page)].sort(), Object.keys(words).sort());
  });
