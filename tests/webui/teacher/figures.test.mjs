import assert from "node:assert/strict";
import { test } from "node:test";

import {
  eventsPerMinute,
  figure,
  lateOf,
  missingOf,
  moment,
  size,
  timeOf,
  wordsOf,
} from "../../../webui/teacher/figures.js";
import { student } from "./student.mjs";

test("numbers have words, and what is unknown is a dash", () => {
  assert.equal(wordsOf(student()), "—");
  assert.equal(wordsOf(student({ summaries: { writing: { words: 1 } } })), "1 word");
  assert.equal(timeOf(student()), "—");
  assert.equal(timeOf(student({ summaries: { time_on_task: { seconds: 3725 } } })), "1 h 2 min");
});

test("a figure is shown as a teacher reads it", () => {
  assert.equal(figure("seconds", 235.336), "3 min 55 s");
  assert.equal(figure("seconds", 59.4), "59 s");
  assert.equal(figure("seconds", 7384), "2 h 3 min");
  assert.equal(figure("help", false), "no");
  assert.equal(figure("visible", null), "—");
  assert.equal(figure("answer", "42"), "42");
  assert.equal(figure("edits", 1161), (1161).toLocaleString());
  assert.equal(figure("edited_at", 0), new Date(0).toLocaleTimeString());
});

test("bytes are shown in steps of 1,024, as file managers do", () => {
  assert.deepEqual([0, 1, 1023, 1536, 63_795, 79_027_000_000].map(size), [
    "0 bytes",
    "1 byte",
    "1,023 bytes",
    "1.5 KB",
    "62 KB",
    "74 GB",
  ]);
});

test("the sparkline is the last 20 minutes, oldest first", () => {
  const bins = eventsPerMinute(
    student({ summaries: { activity: { minutes: { 100: 5, 99: 2, 80: 9, 81: 1 } } } }),
    100 * 60 + 30,
  );
  assert.deepEqual([bins.length, bins[19], bins[18], bins[0]], [20, 5, 2, 1]);
});

test("that a student was offline is shown for ten minutes", () => {
  assert.equal(lateOf({ late: 12, late_at: 1000 }, 1100), "Was offline, now up to date");
  assert.equal(lateOf({ late: 1, late_at: 1000 }, 1000), "Was offline, now up to date");
  assert.equal(lateOf({ late: 12, late_at: 1000 }, 1601), "");
  assert.equal(lateOf({ late: 0, late_at: null }, 1000), "");
});

test("a time of another day is shown with its day", () => {
  const noon = new Date(2024, 4, 7, 12, 5).getTime() / 1000;
  assert.match(moment(noon, noon + 60), /^12:05/);
  assert.match(moment(noon, noon + 86_400), /7.*12:05/);
});

test("what is saved and not shown has a sentence, with the time", () => {
  const at = new Date(2024, 4, 7, 12, 5).getTime() / 1000;
  assert.deepEqual(missingOf(student(), at), []);
  const none = { summaries: { writing: { incomplete_since: null } }, limited_at: null };
  assert.deepEqual(missingOf(student(none), at), []);
  const both = { summaries: { writing: { incomplete_since: at } }, limited_at: at };
  const [incomplete, limited] = missingOf(student(both), at);
  assert.match(incomplete, /The text is shown as of 12:05/);
  assert.match(limited, /Documents begun after 12:05.* are saved, but not shown/);
  const [held, ...others] = missingOf(student({ summaries: {}, held_at: at }), at);
  assert.match(held, /^Some figures or texts are shown as of 12:05.*: a part of the archive is missing. Newer work/);
  assert.deepEqual(others, []);
  const [brief, more] = missingOf(student({ ...both, held_at: at }), at, true);
  assert.match(brief, /^Partly shown as of 12:05.*\. Newer work is saved\.$/);
  assert.equal(more, incomplete);
});
