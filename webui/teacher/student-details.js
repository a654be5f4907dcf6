// One student, whole: texts, figures, and what of them is missing.

import { withCaret } from "./excerpt.js";
import { figure, missingOf, moment } from "./model.js";

function facts(summary, leftOut, time) {
  const list = document.createElement("div");
  list.className = "facts";
  for (const [key, value] of Object.entries(summary)) {
    if (leftOut.includes(key) || (typeof value === "object" && value !== null)) continue;
    const line = list.appendChild(document.createElement("div"));
    line.appendChild(document.createElement("span")).textContent = key === "seconds" ? time : key.replaceAll("_", " ");
    line.appendChild(document.createElement("strong")).textContent = figure(key, value);
  }
  return list;
}

function warning(sentence) {
  const note = document.createElement("p");
  note.className = "notification is-warning";
  note.textContent = `⚠ ${sentence}`;
  return note;
}

// All that the dashboard shows of a student, as nodes; `now` in seconds by the server's clock.
export function partsOf(student, now) {
  const sinceOf = (reducers) => reducers.writing?.incomplete_since ?? null;
  const byDocument = Object.values(student.documents ?? {}).some((reducers) => sinceOf(reducers) !== null);
  const parts = missingOf(byDocument ? { ...student, summaries: {} } : student, now).map(warning);
  const heading = (text) => {
    const node = document.createElement("h3");
    node.className = "title is-6 mb-1";
    node.textContent = text;
    parts.push(node);
  };
  const groups = (reducers, leftOut, time) => {
    for (const [name, summary] of Object.entries(reducers)) {
      const node = document.createElement("h4");
      node.className = "group";
      node.textContent = name.replaceAll("_", " ");
      parts.push(node, facts(summary, leftOut, time));
    }
  };
  for (const [name, reducers] of Object.entries(student.documents ?? {})) {
    const writing = reducers.writing;
    heading(writing?.title || name);
    const since = sinceOf(reducers);
    if (since !== null) parts.push(warning(`This text is no longer followed since ${moment(since, now)}.`));
    if (writing) {
      const text = document.createElement("div");
      text.className = "text";
      text.tabIndex = 0;
      const caret = writing.position !== null && writing.position !== undefined;
      const at = caret ? writing.position : writing.text.length;
      withCaret(text, { before: writing.text.slice(0, at), after: writing.text.slice(at), caret });
      parts.push(text);
    }
    groups(
      reducers,
      ["text", "title", "excerpt", "excerpt_cursor", "position", "units", "incomplete_since"],
      "time on this document",
    );
  }
  for (const [name, reducers] of Object.entries(student.items ?? {})) {
    heading(name);
    groups(reducers, [], "time on this item");
  }
  for (const [name, summary] of Object.entries(student.summaries)) {
    if (name === "writing" || name === "responses") continue;
    heading(name.replaceAll("_", " "));
    parts.push(facts(summary, [], "time on task in all"));
  }
  return parts;
}
