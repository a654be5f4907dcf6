// What the dashboard works out, without a page.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  excerptOf,
  figure,
  lateOf,
  Roster,
  size,
  sorted,
  spark,
  stateOf,
  timeOf,
  wordsOf,
} from "../../webui/dashboard/model.js";

const student = (changes = {}) => ({
  student_id: "s-1",
  name: "Ada",
  class_id: "class-1",
  online: true,
  last_event_at: 1000,
  summaries: {},
  ...changes,
});

test("a student is offline, away, idle or online, in this order", () => {
  const hidden = { activity: { visible: false } };
  assert.equal(stateOf(student({ online: false, summaries: hidden }), 1000), "offline");
  assert.equal(stateOf(student({ summaries: hidden }), 1000), "away");
  assert.equal(stateOf(student(), 1061), "idle");
  assert.equal(stateOf(student({ last_event_at: null }), 1000), "idle");
  assert.equal(stateOf(student(), 1060), "online");
});

test("numbers are said in words, and what is not known as a dash", () => {
  assert.equal(wordsOf(student()), "—");
  assert.equal(wordsOf(student({ summaries: { writing: { words: 1 } } })), "1 word");
  assert.equal(timeOf(student()), "—");
  assert.equal(timeOf(student({ summaries: { time_on_task: { seconds: 3725 } } })), "1 h 2 min");
});

test("a figure is said as a teacher reads it", () => {
  assert.equal(figure("seconds", 235.336), "3 min 55 s");
  assert.equal(figure("seconds", 59.4), "59 s");
  assert.equal(figure("seconds", 7384), "2 h 3 min");
  assert.equal(figure("help", false), "no");
  assert.equal(figure("visible", null), "—");
  assert.equal(figure("answer", "42"), "42");
  assert.equal(figure("edits", 1161), (1161).toLocaleString());
  assert.equal(figure("edited_at", 0), new Date(0).toLocaleTimeString());
});

test("bytes are said in steps of 1,024", () => {
  assert.deepEqual([0, 1023, 1024, 1536, 5 * 1024 ** 3].map(size), [
    "0 bytes",
    "1023 bytes",
    "1.0 KiB",
    "1.5 KiB",
    "5.0 GiB",
  ]);
});

test("the sparkline is the last 20 minutes, oldest first", () => {
  const bins = spark(student({ summaries: { activity: { minutes: { 100: 5, 99: 2, 80: 9, 81: 1 } } } }), 100 * 60 + 30);
  assert.deepEqual([bins.length, bins[19], bins[18], bins[0]], [20, 5, 2, 1]);
});

test("the excerpt is cut at the caret, in UTF-16 units", () => {
  const writing = { excerpt: "a😀b", excerpt_cursor: 3 };
  assert.deepEqual(excerptOf(student({ summaries: { writing } })), { before: "a😀", after: "b", caret: true });
  assert.equal(excerptOf(student()).caret, false);
});

test("raised hands come first, and equal students keep their places", () => {
  const students = [
    student({ student_id: "c", name: "Cy", last_event_at: 5 }),
    student({ student_id: "b", name: "Bob", summaries: { activity: { help: true } } }),
    student({ student_id: "a2", name: "ada" }),
    student({ student_id: "a1", name: "Ada" }),
  ];
  assert.deepEqual(
    sorted(students, "name").map((one) => one.student_id),
    ["b", "a1", "a2", "c"],
  );
  assert.equal(sorted(students, "quiet")[1].student_id, "c");
});

test("updates are merged, and a missing one asks for a snapshot", () => {
  const roster = new Roster();
  assert.equal(roster.take({ type: "update", version: 1, now: 0, students: [] }), false);
  assert.equal(
    roster.take({ type: "snapshot", version: 4, now: 5000, students: [student()], classes: [] }, 2000),
    true,
  );
  assert.equal(roster.now(2000), 5);
  const bob = student({ student_id: "s-2" });
  assert.equal(roster.take({ type: "update", version: 5, now: 5000, students: [bob], removed: ["s-1"] }), true);
  assert.deepEqual([...roster.students.keys()], ["s-2"]);
  assert.equal(roster.take({ type: "update", version: 7, now: 0, students: [] }), false);
  assert.equal(roster.take({ type: "update", version: 8, now: 0, students: [] }), false);
});

test("what arrived late is said for ten minutes", () => {
  assert.equal(lateOf({ late: 12, late_at: 1000 }, 1100), "12 events arrived late");
  assert.equal(lateOf({ late: 1, late_at: 1000 }, 1000), "1 event arrived late");
  assert.equal(lateOf({ late: 12, late_at: 1000 }, 1601), "");
  assert.equal(lateOf({ late: 0, late_at: null }, 1000), "");
});
