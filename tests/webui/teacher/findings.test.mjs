import assert from "node:assert/strict";
import { test } from "node:test";

import { inWords, isSaving, keyOf, worstFirst } from "../../../webui/teacher/findings.js";

test("findings come worst first and newest first, without those that are no trouble", () => {
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
