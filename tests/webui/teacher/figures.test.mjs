// What the dashboard works out, without a page.

import assert from "node:assert/strict";
import { test } from "node:test";
import { counted } from "../../../webui/shared/text.js";
import { excerptOf } from "../../../webui/teacher/excerpt.js";
import { inWords, isSaving, keyOf, worstFirst } from "../../../webui/teacher/findings.js";
import {
  figure,
  lateOf,
  missingOf,
  moment,
  neverCame,
  Roster,
  size,
  sorted,
  spark,
  stateOf,
  timeOf,
  wordsOf,
} from "../../../webui/teacher/model.js";

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

test("who stands in the class list and never came is not there yet, and comes last", () => {
  const never = { listed: true, online: false, last_event_at: null };
  assert.equal(stateOf(student(never), 1000), "never");
  // Who opened the page has an event, who is there is there, and who is in no list has joined.
  assert.equal(stateOf(student({ ...never, last_event_at: 5 }), 1000), "offline");
  assert.equal(stateOf(student({ ...never, online: true }), 1000), "idle");
  assert.equal(stateOf(student({ ...never, listed: false }), 1000), "offline");
  assert.equal(neverCame(student({ online: false, last_event_at: null })), false);
  const students = [
    student({ ...never, student_id: "b", name: "Bob" }),
    student({ ...never, student_id: "a", name: "Ada" }),
    student({ student_id: "z", name: "Zoe" }),
    student({ student_id: "y", name: "Yan", online: false, last_event_at: 5 }),
  ];
  const order = (by) => sorted(students, by).map((one) => one.student_id);
  assert.deepEqual(order("name"), ["y", "z", "a", "b"]);
  assert.deepEqual(order("quiet"), ["y", "z", "a", "b"]);
  assert.deepEqual(order("words"), ["y", "z", "a", "b"]);
});

test("what is counted is in the right number", () => {
  assert.equal(counted(0, "student"), "0 students");
  assert.equal(counted(1, "student is", "students are"), "1 student is");
  assert.equal(counted(1200, "student is", "students are"), "1,200 students are");
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
    "1,023 bytes",
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

// As the reducer makes it: 120 units around the cursor, and no pair in half.
function excerptAt(text, position) {
  const half = (at) => /^[\udc00-\udfff]/.test(text.slice(at)) && /[\ud800-\udbff]$/.test(text.slice(0, at));
  let start = position === null ? 0 : Math.max(0, Math.min(position - 60, text.length - 120));
  let stop = start + 120;
  if (half(start)) start--;
  if (half(stop)) stop++;
  const writing = {
    excerpt: text.slice(start, stop),
    excerpt_cursor: position === null ? null : position - start,
    characters: [...text].length,
  };
  return excerptOf(student({ summaries: { writing } }));
}

const LONG =
  "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do. ";

test("an excerpt begins and ends with whole words, and with an ellipsis where text was cut", () => {
  const text = `${LONG}${LONG.replaceAll(/[A-Za-z]+/g, (word) => `${word}ly`)}${LONG.toUpperCase()}`.trim();
  const whole = new Set(text.split(" "));
  for (let position = 0; position <= text.length; position++) {
    const { before, after, caret } = excerptAt(text, position);
    const shown = before + after;
    assert.equal(caret, true);
    const words = shown.replace(/^…|…$/g, "");
    assert.ok(text.includes(words), `${position}: ${shown}`);
    for (const word of words.split(" ")) assert.ok(whole.has(word), `${position}: ${word} in ${shown}`);
    assert.equal(before.startsWith("…"), !text.startsWith(words), `${position}: ${shown}`);
    if (!text.endsWith(words)) assert.ok(after.endsWith("…"), `${position}: ${shown}`);
    assert.ok(before.length > 20 || !before.startsWith("…"), `${position}: ${before}`);
  }
  assert.match(excerptAt(text, null).before + excerptAt(text, null).after, /^Alice .*…$/);
  assert.equal(excerptAt("Short.", null).after, "Short.");
  assert.deepEqual(excerptAt("Short.", 6), { before: "Short.", after: "", caret: true });
});

test("a word longer than the excerpt is cut, and no sign in half", () => {
  const flood = "x".repeat(300);
  assert.deepEqual(excerptAt(flood, 300), { before: `…${"x".repeat(45)}`, after: "", caret: true });
  assert.match(excerptAt(flood, 150).after, /^x+…$/);
  const family = "👩\u200d👩\u200d👧";
  for (const sign of ["🎈", "e\u0301\u0301", "🇪🇺", family]) {
    const text = sign.repeat(100);
    for (let at = 30; at < 60; at++) {
      const { before, after } = excerptAt(text, at * sign.length);
      // A cut through signs without end may have begun within one; what is shown of them is whole.
      assert.equal(before.slice(1).replaceAll(sign, ""), "", `${sign} ${at}`);
      assert.match(after, /…$/u);
      assert.equal(after.slice(0, -1).replaceAll(sign, ""), "", `${sign} ${at}`);
    }
  }
});

test("words are found where no spaces are", () => {
  const text = "我们今天在学校学习中文写作".repeat(20);
  const words = new Set([...new Intl.Segmenter("zh", { granularity: "word" }).segment(text)].map((one) => one.segment));
  const { before } = excerptAt(text, 150);
  const [first] = new Intl.Segmenter("zh", { granularity: "word" }).segment(before.slice(1));
  assert.ok(words.has(first.segment), first.segment);
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

test("the class that is shown is the chosen one as long as there is such", () => {
  const roster = new Roster();
  const frame = (type, ...ids) => ({
    type,
    version: (roster.version ?? 0) + 1,
    now: 0,
    students: [],
    classes: ids.map((id) => ({ class_id: id, title: id })),
  });
  const shown = () => roster.current()?.class_id;
  assert.equal(shown(), undefined);
  roster.take(frame("snapshot", "class-1"));
  assert.equal(shown(), "class-1");
  // An update cannot tell who is in classes that are new: a snapshot can.
  assert.equal(roster.take(frame("update", "5a", "5b")), false);
  assert.equal(roster.take(frame("snapshot", "5a", "5b")), true);
  assert.equal(shown(), "5a");
  // Nobody chose 5a, and yet nothing jumps.
  roster.take(frame("snapshot", "4c", "5a", "5b"));
  assert.equal(shown(), "5a");
  roster.choose("5b");
  assert.equal(roster.take(frame("update", "5b", "5a")), true);
  assert.equal(shown(), "5b");
  // A list that is just being written may be short for a moment.
  roster.take(frame("snapshot", "5a"));
  assert.equal(shown(), "5a");
  roster.take(frame("snapshot", "5a", "5b"));
  assert.equal(shown(), "5b");
});

test("while the link is gone it stays the time of what was heard last", () => {
  const roster = new Roster();
  roster.take({ type: "snapshot", version: 1, now: 5000, students: [], classes: [] }, 2000);
  roster.lost();
  roster.lost();
  assert.deepEqual([roster.lostAt, roster.now(60000), roster.version], [5, 5, null]);
  roster.take({ type: "snapshot", version: 1, now: 65000, students: [], classes: [] }, 62000);
  assert.equal(roster.now(62000), 65);
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

test("the time is the server's, goes on while it says that it is alive, and stops at what was heard last", () => {
  const roster = new Roster();
  roster.lost();
  assert.equal(roster.lostAt, null, "nothing was heard yet, so nothing is shown as of then");
  roster.take({ type: "snapshot", version: 1, now: 9_000_000, classes: [], students: [student()] }, 1000);
  assert.equal(roster.now(3000), 9002);
  // The server's clock was set on.
  assert.equal(roster.take({ type: "alive", now: 9_500_000 }, 6000), true);
  assert.equal(roster.now(7000), 9501);
  assert.equal(roster.version, 1);
  roster.lost();
  assert.equal(roster.now(60_000), 9500);
  roster.lost();
  // Only what the students do now makes the clock go again.
  roster.take({ type: "alive", now: 9_900_000 }, 60_000);
  assert.equal(roster.now(61_000), 9500);
  roster.take({ type: "snapshot", version: 7, now: 9_910_000, classes: [], students: [] }, 62_000);
  assert.equal(roster.now(63_000), 9911);
});

test("a moment of another day is said with its day", () => {
  const noon = new Date(2024, 4, 7, 12, 5).getTime() / 1000;
  assert.match(moment(noon, noon + 60), /^12:05/);
  assert.match(moment(noon, noon + 86_400), /7.*12:05/);
});

test("what of a student is not shown is said, since when", () => {
  const at = new Date(2024, 4, 7, 12, 5).getTime() / 1000;
  assert.deepEqual(missingOf(student(), at), []);
  const none = { summaries: { writing: { incomplete_since: null } }, limited_at: null };
  assert.deepEqual(missingOf(student(none), at), []);
  const both = { summaries: { writing: { incomplete_since: at } }, limited_at: at };
  const [incomplete, limited] = missingOf(student(both), at);
  assert.match(incomplete, /no longer followed since 12:05/);
  assert.match(limited, /newer documents are saved but not shown, since 12:05/);
});

test("findings come worst first, of these the newest, and those that are none are left out", () => {
  const finding = (severity, since, subject = "") => ({ code: "c", severity, since, subject, text: "Text." });
  const all = [finding("ok", 9), finding("info", 5), finding("critical", 1), finding("error", 2), finding("error", 3)];
  const shown = worstFirst([...all, finding("warning", 1), finding("of a later version", 1)]);
  assert.deepEqual(
    shown.map(({ severity, since }) => `${severity} ${since}`),
    ["critical 1", "error 3", "error 2", "warning 1", "info 5"],
  );
  assert.equal(isSaving(shown), false);
  assert.equal(isSaving(shown.slice(1)), true);
  assert.notEqual(keyOf(finding("error", 1, "s-1")), keyOf(finding("critical", 1, "s-1")));
  assert.equal(keyOf(finding("error", 1, "s-1")), keyOf(finding("error", 2, "s-1")));
  const names = (id) => ({ "s-1": "Ada" })[id];
  assert.equal(inWords(finding("error", 1, "s-1"), names, 1).text, "Ada: Text.");
  assert.equal(inWords(finding("error", 1, "writing"), names, 1).text, "Text.");
  assert.equal(inWords(finding("error", 0), names, 1).since, "");
});
