// Texts and how they change. All offsets and lengths are UTF-16 code units.

/**
 * The smallest replacement that turns `before` into `after` and cuts no surrogate pair.
 *
 * Several may be equally small, as when one more "l" is typed into "hello". Then the one that ends at the cursor is
 * taken, or the nearest to it: the student typed there.
 *
 * @param {string} before the text before the edit
 * @param {string} after the text after it
 * @param {number} cursor position of the cursor after the edit
 * @returns {{offset: number, remove: number, insert: string} | null} null if nothing changed
 */
export function difference(before, after, cursor = after.length) {
  if (before === after) return null;
  const shorter = Math.min(before.length, after.length);
  const inserted = after.length - shorter;
  let prefix = 0;
  while (prefix < shorter && before.charCodeAt(prefix) === after.charCodeAt(prefix)) prefix++;
  let suffix = 0;
  while (
    suffix < shorter &&
    before.charCodeAt(before.length - 1 - suffix) === after.charCodeAt(after.length - 1 - suffix)
  )
    suffix++;

  let start = prefix;
  if (prefix + suffix >= shorter) {
    // Something was only inserted or only removed, anywhere from `shorter - suffix` to `prefix`.
    start = Math.min(Math.max(cursor - inserted, shorter - suffix), prefix);
    suffix = shorter - start;
  }
  let endBefore = before.length - suffix;
  let endAfter = after.length - suffix;
  if (cutsPair(before, start) || cutsPair(after, start)) start--;
  if (cutsPair(before, endBefore) || cutsPair(after, endAfter)) {
    endBefore++;
    endAfter++;
  }
  return { offset: start, remove: endBefore - start, insert: after.slice(start, endAfter) };
}

function cutsPair(text, offset) {
  return (text.charCodeAt(offset - 1) & 0xfc00) === 0xd800 && (text.charCodeAt(offset) & 0xfc00) === 0xdc00;
}

/** How many words a text has: runs without white space, as the teacher's page counts them. */
export function countWords(text) {
  return text.match(/\S+/g)?.length ?? 0;
}

/**
 * Merge two changes of one text, made in two tabs at the same time: nothing that was typed in either is lost.
 *
 * @param {string} base the text before
 * @param {string} mine the text after one change
 * @param {string} theirs the text after the other
 */
export function merge(base, mine, theirs) {
  const one = difference(base, mine);
  const two = difference(base, theirs);
  if (!two || mine === theirs) return mine;
  if (!one) return theirs;
  let { offset, remove } = two;
  if (offset >= one.offset + one.remove) offset += one.insert.length - one.remove;
  else if (offset + remove > one.offset) {
    // Both changed the same words: both stay.
    offset = one.offset + one.insert.length;
    remove = 0;
  }
  return mine.slice(0, offset) + two.insert + mine.slice(offset + remove);
}
