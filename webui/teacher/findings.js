// What is wrong with the appliance, as the server finds it: which first, and in which words.

import { moment } from "./model.js";

const SEVERITIES = {
  critical: { symbol: "⛔", word: "Urgent", look: "is-danger" },
  error: { symbol: "✖", word: "Error", look: "is-danger" },
  warning: { symbol: "⚠", word: "Warning", look: "is-warning" },
  info: { symbol: "ℹ", word: "Note", look: "is-info" },
};
const WORST_FIRST = Object.keys(SEVERITIES);

// Those that somebody should know of, the worst first, and of these the newest.
export function worstFirst(findings) {
  return findings
    .filter(({ severity }) => severity in SEVERITIES)
    .sort((a, b) => WORST_FIRST.indexOf(a.severity) - WORST_FIRST.indexOf(b.severity) || b.since - a.since);
}

// A finding that was put away comes again where it gets worse.
export function keyOf({ code, subject, severity }) {
  return `${code}/${subject}/${severity}`;
}

// Whether what students do is saved now.
export function isSaving(findings) {
  return !findings.some(({ severity }) => severity === "critical");
}

// A finding in words: `nameOf` gives the name of a student by id, or undefined for all else.
export function inWords(finding, nameOf, now) {
  const { symbol, word, look } = SEVERITIES[finding.severity];
  const name = nameOf(finding.subject);
  return {
    look,
    symbol,
    word,
    text: name === undefined ? finding.text : `${name}: ${finding.text}`,
    since: finding.since > 0 ? `, since ${moment(finding.since, now)}` : "",
  };
}

// A note on the page; `close` is called when the educator puts it away.
export function noteOf({ look, symbol, word, text, since }, close) {
  const note = document.createElement("div");
  note.className = `notification ${look}`;
  const button = note.appendChild(document.createElement("button"));
  button.className = "delete";
  button.type = "button";
  button.setAttribute("aria-label", "Close");
  button.addEventListener("click", () => {
    note.remove();
    close();
  });
  const icon = note.appendChild(document.createElement("span"));
  icon.setAttribute("aria-hidden", "true");
  icon.textContent = `${symbol} `;
  note.appendChild(document.createElement("strong")).textContent = `${word}${since}: `;
  note.append(text);
  return note;
}
