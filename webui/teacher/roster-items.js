import { element } from "../shared/page.js";
import { WORDS } from "./roster-words.js";

// More lines than these help nobody, and slow the page down.
const SHOWN = 300;
// Longer groups begin folded.
const UNFOLDED = 12;
const STYLES = { refused: "is-danger", removed: "is-danger", class_ended: "is-danger", added: "is-success" };
const UNCHANGING = ["left", "refused"];

/** How many of the items of a preview change something. */
export function changesOf({ counts }) {
  return Object.entries(counts).reduce((sum, [kind, number]) => sum + (UNCHANGING.includes(kind) ? 0 : number), 0);
}

/** The lines of a preview by what happens, as elements: what needs attention first. */
export function groupsOf(preview) {
  const groups = Object.keys(WORDS.kinds)
    .filter((kind) => preview.counts[kind])
    .map((kind) => groupOf(kind, preview));
  if (preview.notes.length) groups.push(fold(WORDS.notes, preview.notes.length, preview.notes.map(noteLine)));
  const rest = [];
  if (!changesOf(preview) && !preview.questions.length) rest.push(WORDS.noChange);
  if (preview.unchanged) rest.push(WORDS.unchanged(preview.unchanged));
  return [...rest.map((text) => element("p", "", text)), ...groups];
}

function groupOf(kind, { items, counts }) {
  const own = items.filter((item) => item.kind === kind);
  const lines = own.slice(0, SHOWN).map(itemLine);
  const more = counts[kind] - lines.length;
  if (more > 0) lines.push(element("li", "weak", WORDS.more(more)));
  return fold(WORDS.kinds[kind], counts[kind], lines, STYLES[kind]);
}

function fold(words, number, lines, style = "") {
  const details = element("details", "fold");
  details.open = lines.length <= UNFOLDED;
  const summary = element("summary");
  summary.append(element("span", `mark ${style}`, WORDS.counted(words, number)));
  const list = element("ul", "rows");
  list.append(...lines);
  details.append(summary, list);
  return details;
}

function itemLine({ file, line, name, class_title: title, before, detail }) {
  const row = element("li");
  const text = element("div", "row-text");
  if (name) {
    const shown = element("span", "row-name", name);
    shown.dir = "auto";
    text.append(shown);
  }
  const notes = [title, before && WORDS.before(before), detail].filter(Boolean);
  text.append(element("span", name ? "weak" : "", notes.join(" · ")));
  row.append(text);
  if (line) row.append(placeOf(file, line));
  return row;
}

function noteLine({ file, line, text }) {
  const row = element("li");
  row.append(element("span", "row-text", text));
  if (line) row.append(placeOf(file, line));
  return row;
}

function placeOf(file, line) {
  const place = element("span", "weak", WORDS.line(line));
  place.title = file;
  return place;
}
