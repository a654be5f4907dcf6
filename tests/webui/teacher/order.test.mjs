import assert from "node:assert/strict";
import { test } from "node:test";

import { sorted } from "../../../webui/teacher/order.js";
import { student } from "./student.mjs";

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
