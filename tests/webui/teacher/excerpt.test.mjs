import assert from "node:assert/strict";
import { test } from "node:test";

import { excerptOf } from "../../../webui/teacher/excerpt.js";
import { student } from "./student.mjs";

test("the excerpt is cut at the caret, in UTF-16 units", () => {
  const writing = { excerpt: "a😀b", excerpt_cursor: 3 };
  assert.deepEqual(excerptOf(student({ summaries: { writing } })), { before: "a😀", after: "b", caret: true });
  assert.equal(excerptOf(student()).caret, false);
});

// As the reducer makes it: 120 units around the cursor, without half a surrogate pair.
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

test("a word longer than the excerpt is cut, and no character in half", () => {
  const flood = "x".repeat(300);
  assert.deepEqual(excerptAt(flood, 300), { before: `…${"x".repeat(45)}`, after: "", caret: true });
  assert.match(excerptAt(flood, 150).after, /^x+…$/);
  const family = "👩\u200d👩\u200d👧";
  for (const sign of ["🎈", "e\u0301\u0301", "🇪🇺", family]) {
    const text = sign.repeat(100);
    for (let at = 30; at < 60; at++) {
      const { before, after } = excerptAt(text, at * sign.length);
      // The excerpt may begin within a character; those that are shown are whole.
      assert.equal(before.slice(1).replaceAll(sign, ""), "", `${sign} ${at}`);
      assert.match(after, /…$/u);
      assert.equal(after.slice(0, -1).replaceAll(sign, ""), "", `${sign} ${at}`);
    }
  }
});

test("words are found in a text without spaces", () => {
  const text = "我们今天在学校学习中文写作".repeat(20);
  const words = new Set([...new Intl.Segmenter("zh", { granularity: "word" }).segment(text)].map((one) => one.segment));
  const { before } = excerptAt(text, 150);
  const [first] = new Intl.Segmenter("zh", { granularity: "word" }).segment(before.slice(1));
  assert.ok(words.has(first.segment), first.segment);
});
