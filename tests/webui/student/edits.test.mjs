import assert from "node:assert/strict";
import { test } from "node:test";

import { countWords, difference } from "../../../webui/student/edits.js";

const apply = (before, edit) => before.slice(0, edit.offset) + edit.insert + before.slice(edit.offset + edit.remove);

/** The same random numbers in every run, so that a failure can be repeated. */
function random(seed) {
  let state = seed;
  return (below) => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return Math.floor((state / 2147483648) * below);
  };
}

test("nothing changed", () => {
  assert.equal(difference("", ""), null);
  assert.equal(difference("abc", "abc", 1), null);
});

test("a repeated letter is placed by the cursor", () => {
  assert.deepEqual(difference("helo", "hello", 3), { offset: 2, remove: 0, insert: "l" });
  assert.deepEqual(difference("helo", "hello", 4), { offset: 3, remove: 0, insert: "l" });
  assert.deepEqual(difference("aaaa", "aaaaa", 1), { offset: 0, remove: 0, insert: "a" });
  assert.deepEqual(difference("aaaa", "aaaaa", 5), { offset: 4, remove: 0, insert: "a" });
});

test("a removed letter is placed by the cursor", () => {
  assert.deepEqual(difference("hello", "helo", 2), { offset: 2, remove: 1, insert: "" });
  assert.deepEqual(difference("hello", "helo", 3), { offset: 3, remove: 1, insert: "" });
});

test("a cursor far away does no harm", () => {
  assert.deepEqual(difference("aaaa", "aaaaa", 99), { offset: 4, remove: 0, insert: "a" });
  assert.deepEqual(difference("aaaa", "aaaaa", -5), { offset: 0, remove: 0, insert: "a" });
  assert.deepEqual(difference("ab", "axb"), { offset: 1, remove: 0, insert: "x" });
});

test("replacing, all of it and in the middle", () => {
  assert.deepEqual(difference("abc", "xyz", 3), { offset: 0, remove: 3, insert: "xyz" });
  assert.deepEqual(difference("one two three", "one 2 three", 5), { offset: 4, remove: 3, insert: "2" });
});

test("surrogate pairs are not cut", () => {
  assert.deepEqual(difference("😀", "😁", 2), { offset: 0, remove: 2, insert: "😁" });
  assert.deepEqual(difference("😀😀", "😀😀😀", 4), { offset: 2, remove: 0, insert: "😀" });
  assert.deepEqual(difference("a😀b", "ab", 1), { offset: 1, remove: 2, insert: "" });
  for (const edit of [difference("😀", "😁", 1), difference("x😀", "x😁y", 2), difference("😀😁", "😁", 1)])
    assert.ok(edit.insert.isWellFormed?.() ?? true);
});

test("random edits are found exactly, and pure insertions end at the cursor", () => {
  const below = random(7);
  const alphabet = ["a", "a", "b", " ", "\n", "é", "😀", "😁", "👩‍🚀", "\ud83d", "\ude00"];
  const text = (length) => Array.from({ length }, () => alphabet[below(alphabet.length)]).join("");
  for (let round = 0; round < 20000; round++) {
    const before = text(below(12));
    const offset = below(before.length + 1);
    const remove = below(3) ? below(before.length - offset + 1) : 0;
    const insert = text(below(4));
    const after = before.slice(0, offset) + insert + before.slice(offset + remove);
    const cursor = below(10) ? offset + insert.length : below(40) - 10;
    const edit = difference(before, after, cursor);
    if (before === after) {
      assert.equal(edit, null);
      continue;
    }
    assert.equal(apply(before, edit), after);
    // Never larger than the edit, except for two units that whole surrogate pairs may add at its ends.
    assert.ok(edit.remove <= remove + 2 && edit.insert.length <= insert.length + 2);
    const plain = !/[\ud800-\udfff]/.test(before + after);
    if (plain && cursor === offset + insert.length && (remove === 0 || insert === ""))
      assert.equal(edit.offset + edit.insert.length, cursor);
  }
});

test("whole texts against each other", () => {
  const below = random(11);
  for (let round = 0; round < 5000; round++) {
    const pick = () => Array.from({ length: below(8) }, () => "ab😀"[below(4)] ?? "").join("");
    const [before, after] = [pick(), pick()];
    const edit = difference(before, after, below(10));
    if (edit) assert.equal(apply(before, edit), after);
    else assert.equal(before, after);
  }
});

test("a long text is compared quickly", () => {
  const before = "word ".repeat(40000);
  const began = performance.now();
  for (let round = 0; round < 20; round++) difference(before, `${before}x`, before.length + 1);
  assert.ok(performance.now() - began < 2000);
});

test("words", () => {
  assert.equal(countWords(""), 0);
  assert.equal(countWords("  \n "), 0);
  assert.equal(countWords("It's a well-known fact.\nYes"), 5);
  assert.equal(countWords("Ça va? 42 🙂"), 4);
});
