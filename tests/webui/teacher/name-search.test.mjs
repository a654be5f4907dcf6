import assert from "node:assert/strict";
import { test } from "node:test";

import { folded, withName } from "../../../webui/teacher/name-search.js";

test("a name is folded to what people type", () => {
  for (const [name, typed] of [
    ["Müller", "muller"],
    ["Łukasz Żak", "lukasz zak"],
    ["O’Brien", "o brien"],
    ["Anne-Marie", "anne marie"],
    ["Straße", "strasse"],
    ["Søren Þór", "soren thor"],
    ["İpek Işık", "ipek isik"],
    ["Ｆｕｌｌ", "full"],
    ["محمد", "محمد"],
    ["陈小明", "陈小明"],
  ])
    assert.equal(folded(name), typed);
});

test("each word that was typed begins a word of the name", () => {
  const students = ["Ada Lovelace", "Zoë Müller", "Anne-Marie O’Brien"].map((name) => ({ name }));
  const found = (text) => withName(students, text).map(({ name }) => name);
  assert.deepEqual(found("mull"), ["Zoë Müller"]);
  assert.deepEqual(found("love ada"), ["Ada Lovelace"]);
  assert.deepEqual(found("marie"), ["Anne-Marie O’Brien"]);
  assert.deepEqual(found("o'bri"), ["Anne-Marie O’Brien"]);
  assert.deepEqual(found("da"), []);
  assert.equal(found("").length, 3);
  assert.equal(found(" - ").length, 3);
});
