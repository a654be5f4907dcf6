import assert from "node:assert/strict";
import { test } from "node:test";

import { counted } from "../../../webui/shared/text.js";

test("a count is followed by the singular or the plural", () => {
  assert.equal(counted(0, "student"), "0 students");
  assert.equal(counted(1, "student is", "students are"), "1 student is");
  assert.equal(counted(1200, "student is", "students are"), "1,200 students are");
});
