// The order of the tiles.

import { handUp, neverCame } from "./presence.js";

const NAMES = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

// Ties by name and id, so that equal tiles keep their places.
const byName = (a, b) => NAMES.compare(a.name, b.name) || (a.student_id < b.student_id ? -1 : 1);
const ORDERS = {
  name: byName,
  quiet: (a, b) => (a.last_event_at ?? 0) - (b.last_event_at ?? 0) || byName(a, b),
  words: (a, b) => (b.summaries.writing?.words ?? -1) - (a.summaries.writing?.words ?? -1) || byName(a, b),
};

/** Raised hands first, who never came last, each part by "name", "quiet" (longest without typing) or "words". */
export function sorted(students, by) {
  const order = ORDERS[by] ?? byName;
  return [...students].sort((a, b) => handUp(b) - handUp(a) || neverCame(a) - neverCame(b) || order(a, b));
}
