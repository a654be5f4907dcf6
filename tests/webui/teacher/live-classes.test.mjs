import assert from "node:assert/strict";
import { test } from "node:test";

import { LiveClasses } from "../../../webui/teacher/live-classes.js";
import { student } from "./student.mjs";

test("the chosen class is shown as long as it exists", () => {
  const classes = new LiveClasses();
  const frame = (type, ...ids) => ({
    type,
    version: (classes.version ?? 0) + 1,
    now: 0,
    students: [],
    classes: ids.map((id) => ({ class_id: id, title: id })),
  });
  const shown = () => classes.current()?.class_id;
  assert.equal(shown(), undefined);
  classes.take(frame("snapshot", "class-1"));
  assert.equal(shown(), "class-1");
  // An update does not hold who is in new classes; a snapshot does.
  assert.equal(classes.take(frame("update", "5a", "5b")), false);
  assert.equal(classes.take(frame("snapshot", "5a", "5b")), true);
  assert.equal(shown(), "5a");
  // Nobody chose 5a, and the page stays with it.
  classes.take(frame("snapshot", "4c", "5a", "5b"));
  assert.equal(shown(), "5a");
  classes.choose("5b");
  assert.equal(classes.take(frame("update", "5b", "5a")), true);
  assert.equal(shown(), "5b");
  // A list that is being written may be short for a moment.
  classes.take(frame("snapshot", "5a"));
  assert.equal(shown(), "5a");
  classes.take(frame("snapshot", "5a", "5b"));
  assert.equal(shown(), "5b");
});

test("without a connection the time stays that of the last frame", () => {
  const classes = new LiveClasses();
  classes.take({ type: "snapshot", version: 1, now: 5000, students: [], classes: [] }, 2000);
  classes.lost();
  classes.lost();
  assert.deepEqual([classes.lostAt, classes.now(60000), classes.version], [5, 5, null]);
  classes.take({ type: "snapshot", version: 1, now: 65000, students: [], classes: [] }, 62000);
  assert.equal(classes.now(62000), 65);
});

test("updates are merged, and a missing one asks for a snapshot", () => {
  const classes = new LiveClasses();
  assert.equal(classes.take({ type: "update", version: 1, now: 0, students: [] }), false);
  assert.equal(
    classes.take({ type: "snapshot", version: 4, now: 5000, students: [student()], classes: [] }, 2000),
    true,
  );
  assert.equal(classes.now(2000), 5);
  const bob = student({ student_id: "s-2" });
  assert.equal(classes.take({ type: "update", version: 5, now: 5000, students: [bob], removed: ["s-1"] }), true);
  assert.deepEqual([...classes.students.keys()], ["s-2"]);
  assert.equal(classes.take({ type: "update", version: 7, now: 0, students: [] }), false);
  assert.equal(classes.take({ type: "update", version: 8, now: 0, students: [] }), false);
});

test("the time is the server's, continues with each sign of life, and stops when the connection is lost", () => {
  const classes = new LiveClasses();
  classes.lost();
  assert.equal(classes.lostAt, null, "nothing came yet, so nothing shown is old");
  classes.take({ type: "snapshot", version: 1, now: 9_000_000, classes: [], students: [student()] }, 1000);
  assert.equal(classes.now(3000), 9002);
  // The server's clock was set forward.
  assert.equal(classes.take({ type: "alive", now: 9_500_000 }, 6000), true);
  assert.equal(classes.now(7000), 9501);
  assert.equal(classes.version, 1);
  classes.lost();
  assert.equal(classes.now(60_000), 9500);
  classes.lost();
  // Only a snapshot starts the clock again.
  classes.take({ type: "alive", now: 9_900_000 }, 60_000);
  assert.equal(classes.now(61_000), 9500);
  classes.take({ type: "snapshot", version: 7, now: 9_910_000, classes: [], students: [] }, 62_000);
  assert.equal(classes.now(63_000), 9911);
});

test("a class that goes away is named, and the others stay", () => {
  const classes = new LiveClasses();
  const view = (id) => ({ class_id: id, title: `Class ${id}` });
  const of = (id, classId) => student({ student_id: id, class_id: classId });
  const snapshot = (version, students, ...ids) =>
    classes.take({ type: "snapshot", version, now: 0, students, classes: ids.map(view) });
  snapshot(1, [of("s-1", "5a"), of("s-2", "5b")], "5a", "5b", "5c");
  classes.choose("5b");
  assert.equal(classes.current().class_id, "5b");
  // Nobody is missed in a class without students.
  snapshot(2, [of("s-1", "5a"), of("s-2", "5b")], "5a", "5b");
  assert.deepEqual(classes.gone, []);
  snapshot(3, [of("s-1", "5a")], "5a");
  assert.deepEqual(classes.gone, ["Class 5b"]);
  assert.equal(classes.current().class_id, "5a");
  assert.deepEqual(
    classes.members().map((one) => one.student_id),
    ["s-1"],
  );
  snapshot(4, []);
  assert.deepEqual(classes.gone, ["Class 5b", "Class 5a"]);
  assert.equal(classes.current(), null);
  assert.deepEqual(classes.members(), []);
});

test("a student who moves or is merged is found under the id of now", () => {
  const classes = new LiveClasses();
  const [ada, ben] = ["s-1", "s-2"].map((id) => student({ student_id: id, class_id: "5a" }));
  classes.take({ type: "snapshot", version: 1, now: 0, students: [ada, ben], classes: [] });
  const moved = { ...ben, class_id: "5b" };
  classes.take({ type: "update", version: 2, now: 0, students: [moved], removed: ["s-2"] });
  assert.equal(classes.students.get("s-2").class_id, "5b");
  classes.take({ type: "update", version: 3, now: 0, students: [], removed: ["s-1"], merged: { "s-1": "s-2" } });
  assert.equal(classes.idNow("s-1"), "s-2");
  assert.equal(classes.idNow("s-3"), "s-3");
  // The merge was undone.
  classes.take({ type: "update", version: 4, now: 0, students: [ada] });
  assert.equal(classes.idNow("s-1"), "s-1");
});

test("an update has all questions of the classes that it is about", () => {
  const classes = new LiveClasses();
  const asks = (id, class_id, created) => ({ request_id: id, class_id, created, name: id, kind: "new" });
  const frame = (version, requests, ...about) => ({
    type: version === 1 ? "snapshot" : "update",
    version,
    now: 0,
    students: [],
    requests,
    class_versions: Object.fromEntries(about.map((id) => [id, version])),
  });
  const waiting = () => [...classes.requests.keys()];
  classes.take(frame(1, [asks("q1", "5a", 1), asks("q2", "5b", 2)], "5a", "5b"));
  assert.deepEqual(waiting(), ["q1", "q2"]);
  classes.take(frame(2, [asks("q3", "5a", 3)], "5a"));
  assert.deepEqual(waiting(), ["q2", "q3"]);
  classes.take(frame(3, [], "5a", "5b"));
  assert.deepEqual(waiting(), []);
  const { requests, ...other } = frame(4, [], "5a");
  classes.take({ ...other, students: [student({})] });
  assert.deepEqual(waiting(), []);
  assert.equal(classes.version, 4);
});
