// The excerpt on a tile: the text around a student's cursor, cut between words. Offsets are UTF-16 units.

import { element } from "../shared/page.js";

const BEFORE_CARET = 45;
// A longer word is cut: whole, it would leave no room for the text that is to be read.
const LONG_WORD = 20;
const CUT = "…";
const FIT_TRIES = 4;

const SPACE = /\s/u;
const LOW_SURROGATE = /[\udc00-\udfff]/;
const segmenter = (granularity) => (Intl.Segmenter ? new Intl.Segmenter(undefined, { granularity }) : null);
const words = segmenter("word");
const graphemes = segmenter("grapheme");

/** Words and signs between which one may cut: `{index, end, isWordLike}`. */
function* segments(text) {
  for (const { index, segment, isWordLike } of words?.segment(text) ?? []) {
    if (isWordLike || !SPACE.test(segment)) yield { index, end: index + segment.length, isWordLike };
  }
}

function graphemeStart(text, at) {
  if (!graphemes) return LOW_SURROGATE.test(text[at] ?? "") ? at + 1 : at;
  const found = graphemes.segment(text).containing(at);
  return !found || found.index === at ? at : found.index + found.segment.length;
}

function graphemeEnd(text, at) {
  if (!graphemes) return LOW_SURROGATE.test(text[at] ?? "") ? at - 1 : at;
  return graphemes.segment(text).containing(at)?.index ?? at;
}

/** The first start of a word in [at, limit); if there is none, of a grapheme. */
function startOfWord(text, at, limit) {
  if (at <= 0) return 0;
  // By spaces first, so that "don't" or an address stays whole.
  for (let start = at; start < Math.min(limit, at + LONG_WORD); start++) {
    if (SPACE.test(text[start - 1]) && !SPACE.test(text[start])) return start;
  }
  const inside = [...segments(text)].filter(({ index }) => index >= at && index < limit);
  const found = inside.find(({ isWordLike }) => isWordLike) ?? inside[0];
  return found ? found.index : Math.min(limit, graphemeStart(text, at));
}

/** The last end of a word in [limit, at]; if there is none, of a grapheme. */
function endOfWord(text, at, limit) {
  for (let end = at; end >= Math.max(limit, at - LONG_WORD, 1); end--) {
    if (!SPACE.test(text[end - 1]) && SPACE.test(text[end] ?? "")) return end;
  }
  const found = [...segments(text)].filter(({ end }) => end > limit && end <= at && end < text.length).at(-1);
  if (found) return found.end;
  // Only one word follows the caret, and begins there: it is left out whole, unless it is long.
  if (at - limit < LONG_WORD && SPACE.test(text[limit - 1] ?? " ")) return limit;
  return Math.max(limit, graphemeEnd(text, at));
}

/**
 * Whether the text continues after the excerpt. The excerpt is around the cursor: it has less after the cursor than
 * before it only at the end of the text (except for one half of a surrogate pair).
 */
function continues({ excerpt, characters }, cursor) {
  return characters > [...excerpt].length && excerpt.length - cursor >= cursor - 1;
}

/**
 * A student's excerpt as `{before, after, caret}`: the text before and after the caret; without a caret, from its start.
 *
 * @param {number} before at most so much of the text before the caret
 * @param {number} end at most so much of the excerpt
 */
export function excerptOf(student, before = BEFORE_CARET, end = Number.POSITIVE_INFINITY) {
  const writing = student.summaries.writing;
  const text = writing?.excerpt ?? "";
  const caret = (writing?.excerpt_cursor ?? null) !== null;
  const cursor = caret ? writing.excerpt_cursor : 0;
  const start = startOfWord(text, cursor - before, cursor);
  let stop = text.length;
  if (end < stop) stop = endOfWord(text, Math.max(cursor, end), cursor);
  else if (stop > cursor && continues(writing, cursor)) stop = endOfWord(text, stop - 1, cursor);
  return {
    before: (start > 0 ? CUT : "") + text.slice(start, cursor),
    after: text.slice(cursor, stop) + (stop < text.length ? CUT : ""),
    caret,
  };
}

/** Show an excerpt with its caret. */
export function withCaret(node, { before, after, caret }) {
  node.replaceChildren(before);
  if (!caret) {
    node.append(after);
    return;
  }
  node.append(element("span", "caret"), after);
}

/**
 * Cut an excerpt that is longer than its box between words, and shorten the text before a caret that would be invisible.
 *
 * @returns {boolean} whether it could be done: a box that is not shown has no size
 */
export function fit(node, student) {
  if (!node.clientHeight) return false;
  const over = () => node.scrollHeight > node.clientHeight + 1;
  const bottom = node.getBoundingClientRect().bottom + 1;
  const caret = () => node.querySelector(".caret")?.getBoundingClientRect().bottom ?? 0;
  let before = BEFORE_CARET;
  while (over() && caret() > bottom && before > 5) {
    before = Math.floor(before * 0.7);
    withCaret(node, excerptOf(student, before));
  }
  for (let tries = 0; over() && tries < FIT_TRIES; tries++) {
    const cursor = student.summaries.writing.excerpt_cursor ?? 0;
    // One unit less each time, since the ellipsis takes room too.
    withCaret(node, excerptOf(student, before, cursor + Math.max(0, fitting(node.lastChild, bottom) - 1)));
  }
  return true;
}

/** How many units of a text node are above a line. */
function fitting(text, bottom) {
  const range = document.createRange();
  range.setStart(text, 0);
  let fits = 0;
  let fitsNot = text.length + 1;
  while (fitsNot - fits > 1) {
    const middle = (fits + fitsNot) >> 1;
    range.setEnd(text, middle);
    if (range.getBoundingClientRect().bottom <= bottom) fits = middle;
    else fitsNot = middle;
  }
  return fits;
}
