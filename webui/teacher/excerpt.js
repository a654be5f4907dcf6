// The excerpt on a tile: what stands around a student's cursor, cut between words.

const BEFORE_CARET = 45;
// A word that is longer than this is cut: else it would take the place of what is to be read.
const LONG_WORD = 20;
const CUT = "…";

const SPACE = /\s/u;
const segmenter = (granularity) => (Intl.Segmenter ? new Intl.Segmenter(undefined, { granularity }) : null);
const words = segmenter("word");
const graphemes = segmenter("grapheme");

// Where one may cut between words; by spaces first, so that "don't" or an address stays whole.
function* breaks(text) {
  for (const { index, segment, isWordLike } of words?.segment(text) ?? []) {
    if (isWordLike || !SPACE.test(segment)) yield { index, end: index + segment.length, isWordLike };
  }
}

function graphemeStart(text, at) {
  if (!graphemes) return /[\udc00-\udfff]/.test(text[at] ?? "") ? at + 1 : at;
  const found = graphemes.segment(text).containing(at);
  return !found || found.index === at ? at : found.index + found.segment.length;
}

function graphemeEnd(text, at) {
  if (!graphemes) return /[\udc00-\udfff]/.test(text[at] ?? "") ? at - 1 : at;
  return graphemes.segment(text).containing(at)?.index ?? at;
}

// The first offset from `at` on, and before `limit`, at which a word starts; else at which a grapheme does.
export function startOfWord(text, at, limit) {
  if (at <= 0) return 0;
  for (let start = at; start < Math.min(limit, at + LONG_WORD); start++) {
    if (SPACE.test(text[start - 1]) && !SPACE.test(text[start])) return start;
  }
  let other = -1;
  for (const { index, isWordLike } of breaks(text)) {
    if (index < at) continue;
    if (index >= limit) break;
    if (isWordLike) return index;
    if (other < 0) other = index;
  }
  return other < 0 ? Math.min(limit, graphemeStart(text, at)) : other;
}

// The last offset up to `at`, and from `limit` on, at which a word ends; else at which a grapheme does.
export function endOfWord(text, at, limit) {
  for (let end = at; end >= Math.max(limit, at - LONG_WORD, 1); end--) {
    if (!SPACE.test(text[end - 1]) && SPACE.test(text[end] ?? "")) return end;
  }
  let found = -1;
  for (const { end } of breaks(text)) {
    if (end > limit && end <= at && end < text.length) found = end;
  }
  if (found >= 0) return found;
  // One word is all there is after the caret, and begins there: it is left out whole, unless it is a long one.
  if (at - limit < LONG_WORD && SPACE.test(text[limit - 1] ?? " ")) return limit;
  return Math.max(limit, graphemeEnd(text, at));
}

// Whether the text goes on where the excerpt ends. The excerpt is around the cursor: only where the text ends does less
// stand after the cursor than before it (but for one half of a pair).
function goesOn({ excerpt, characters }, cursor) {
  return characters > [...excerpt].length && excerpt.length - cursor >= cursor - 1;
}

// An excerpt as what stands before the caret, as much of it as two lines hold, and after it. No caret: from its start.
// `end` says how much of the excerpt is shown at the most.
export function excerptOf(student, before = BEFORE_CARET, end = Number.POSITIVE_INFINITY) {
  const writing = student.summaries.writing;
  const text = writing?.excerpt ?? "";
  const caret = (writing?.excerpt_cursor ?? null) !== null;
  const cursor = caret ? writing.excerpt_cursor : 0;
  const start = startOfWord(text, cursor - before, cursor);
  let stop = text.length;
  if (end < stop) stop = endOfWord(text, Math.max(cursor, end), cursor);
  else if (stop > cursor && goesOn(writing, cursor)) stop = endOfWord(text, stop - 1, cursor);
  return {
    before: (start > 0 ? CUT : "") + text.slice(start, cursor),
    after: text.slice(cursor, stop) + (stop < text.length ? CUT : ""),
    caret,
  };
}

// Shows an excerpt with its caret.
export function withCaret(node, { before, after, caret }) {
  node.replaceChildren(before);
  if (!caret) {
    node.append(after);
    return;
  }
  const mark = document.createElement("span");
  mark.className = "caret";
  node.append(mark, after);
}

// Cuts an excerpt that is longer than its box, between words, and shows less before a caret that would be out of sight.
// Returns whether it could: a box that is not shown has no size.
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
  for (let tries = 0; over() && tries < 4; tries++) {
    const cursor = student.summaries.writing.excerpt_cursor ?? 0;
    // One unit less each time: the ellipsis takes room, too.
    withCaret(node, excerptOf(student, before, cursor + Math.max(0, shown(node.lastChild, bottom) - 1)));
  }
  return true;
}

// How many units of a text stand above a line.
function shown(text, bottom) {
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
