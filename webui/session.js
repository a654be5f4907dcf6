/**
 * What the students' pages share: where the browser keeps a student's text.
 */

function place(studentId) {
  return `classroom-observer text ${studentId}`;
}

/** What is kept of a student's text: `{title, text, raised}`, or `{}`. */
export function recallText(studentId) {
  try {
    return JSON.parse(localStorage.getItem(place(studentId)) ?? "{}") ?? {};
  } catch {
    // Nothing is kept, or not by us, or the browser keeps nothing.
    return {};
  }
}

/** Keep a student's text; false where the browser cannot. */
export function keepText(studentId, kept) {
  try {
    localStorage.setItem(place(studentId), JSON.stringify(kept));
    return true;
  } catch {
    return false;
  }
}

/** Whether a storage event is about a student's text. */
export function isTextOf(studentId, key) {
  return key === place(studentId);
}

/** A student who is known by a new id, since the class computer forgot the old one, goes on with the same text. */
export function inheritText(fromId, toId) {
  if (recallText(toId).text) return;
  const { title, text } = recallText(fromId);
  if (title || text) keepText(toId, { title, text });
}
