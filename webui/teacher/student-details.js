// One student, whole: texts, figures, and what of them is not shown. Times are in seconds by the server's clock.

import { element } from "../shared/page.js";
import { withCaret } from "./excerpt.js";
import { figure, missingOf, moment } from "./figures.js";

// Fields of the writing reducer that are shown in another form.
const NOT_FIGURES = ["text", "title", "excerpt", "excerpt_cursor", "position", "units", "incomplete_since"];
// Their figures are shown with each document and item.
const SHOWN_IN_PARTS = ["writing", "responses"];

/** All that the dashboard shows of a student, as elements. */
export function partsOf(student, now) {
  const documents = Object.entries(student.documents ?? {});
  // A sentence at the document says more than one at the top.
  const atDocument = documents.some(([, reducers]) => incompleteSince(reducers) !== null);
  const missing = missingOf(atDocument ? { ...student, summaries: {} } : student, now);
  return [
    ...missing.map(warning),
    ...documents.flatMap(([name, reducers]) => documentParts(name, reducers, now)),
    ...Object.entries(student.items ?? {}).flatMap(([name, reducers]) => [
      heading(name),
      ...figuresOf(reducers, [], "time on this item"),
    ]),
    ...Object.entries(student.summaries)
      .filter(([name]) => !SHOWN_IN_PARTS.includes(name))
      .flatMap(([name, summary]) => [heading(inWords(name)), facts(summary, [], "time on task in all")]),
  ];
}

function documentParts(name, reducers, now) {
  const { writing } = reducers;
  const since = incompleteSince(reducers);
  const parts = [heading(writing?.title || name)];
  if (since !== null) parts.push(warning(`This text is shown as of ${moment(since, now)}. Newer text is saved.`));
  if (writing) parts.push(textOf(writing));
  return [...parts, ...figuresOf(reducers, NOT_FIGURES, "time on this document")];
}

function incompleteSince(reducers) {
  return reducers.writing?.incomplete_since ?? null;
}

function textOf({ text, position }) {
  const node = element("div", "text");
  node.tabIndex = 0;
  const caret = (position ?? null) !== null;
  const at = caret ? position : text.length;
  withCaret(node, { before: text.slice(0, at), after: text.slice(at), caret });
  return node;
}

/** The figures of each reducer, below its name. `time` says what its seconds are. */
function figuresOf(reducers, leftOut, time) {
  return Object.entries(reducers).flatMap(([name, summary]) => [
    element("h4", "group", inWords(name)),
    facts(summary, leftOut, time),
  ]);
}

function facts(summary, leftOut, time) {
  const list = element("div", "facts");
  for (const [key, value] of Object.entries(summary)) {
    if (leftOut.includes(key) || (typeof value === "object" && value !== null)) continue;
    const line = element("div");
    line.append(
      element("span", "", key === "seconds" ? time : inWords(key)),
      element("strong", "", figure(key, value)),
    );
    list.append(line);
  }
  return list;
}

function inWords(name) {
  return name.replaceAll("_", " ");
}

function heading(text) {
  return element("h3", "title is-6 mb-1", text);
}

function warning(sentence) {
  return element("p", "notification is-warning", `⚠ ${sentence}`);
}
