import assert from "node:assert/strict";
import { test } from "node:test";

import { sorted } from "../../../webui/teacher/order.js";
import { neverCame, stateOf, stateText } from "../../../webui/teacher/presence.js";
import { student } from "./student.mjs";

test("a student is offline, away, idle or online, in this order", () => {
  const hidden = { activity: { visible: false } };
  assert.equal(stateOf(student({ online: false, summaries: hidden }), 1000), "offline");
  assert.equal(stateOf(student({ summaries: hidden }), 1000), "away");
  assert.equal(stateOf(student(), 1061), "idle");
  assert.equal(stateOf(student({ last_event_at: null }), 1000), "idle");
  assert.equal(stateOf(student(), 1060), "online");
});

test("a student of the class list who never came is shown so, and comes last", () => {
  const never = { listed: true, online: false, last_event_at: null };
  assert.equal(stateOf(student(never), 1000), "never");
  // A student who opened the page has an event; one who is in no list has joined.
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

test("the state has words, with the time without typing", () => {
  assert.equal(stateText(student(), 1010), "● Online");
  assert.equal(stateText(student({ summaries: { activity: { help: true } } }), 1010), "✋ ● Online");
  assert.equal(stateText(student(), 1000 + 3 * 60 + 59), "◐ Not typing for 3 min");
  assert.equal(stateText(student(), 1000 + 65 * 60), "◐ Not typing for 1 h 5 min");
  assert.equal(stateText(student({ last_event_at: null }), 1000), "◐ Not typing yet");
  assert.equal(stateText(student({ summaries: { activity: { visible: false } } }), 1010), "◌ Not looking at this page");
  assert.equal(stateText(student({ online: false }), 1010), "○ Offline");
  assert.equal(stateText(student({ online: false, listed: true, last_event_at: null }), 1010), "Not joined yet");
});
