// What is wrong with the appliance, as the server finds it: which first, and in which words.

import { moment } from "./figures.js";

const SEVERITIES = {
  critical: { symbol: "⛔", word: "Urgent", style: "is-danger" },
  error: { symbol: "✖", word: "Error", style: "is-danger" },
  warning: { symbol: "⚠", word: "Warning", style: "is-warning" },
  info: { symbol: "ℹ", word: "Note", style: "is-info" },
};
const WORST_FIRST = Object.keys(SEVERITIES);

/** The findings to show, the worst first, and of these the newest. */
export function worstFirst(findings) {
  return findings
    .filter(({ severity }) => severity in SEVERITIES)
    .sort((a, b) => WORST_FIRST.indexOf(a.severity) - WORST_FIRST.indexOf(b.severity) || b.since - a.since);
}

/** What a teacher closes; when the finding gets worse, it has another key and is shown again. */
export function keyOf({ code, subject, severity }) {
  return `${code}/${subject}/${severity}`;
}

/** Whether what students do is saved now. */
export function isSaving(findings) {
  return !findings.some(({ severity }) => severity === "critical");
}

/**
 * A finding in words.
 *
 * @param {(id: string) => string | undefined} nameOf the name of a student; undefined for other subjects
 * @param {number} now in seconds by the server's clock
 */
export function inWords(finding, nameOf, now) {
  const { symbol, word, style } = SEVERITIES[finding.severity];
  const name = nameOf(finding.subject);
  return {
    style,
    symbol,
    word,
    text: name === undefined ? finding.text : `${name}: ${finding.text}`,
    since: finding.since > 0 ? `, since ${moment(finding.since, now)}` : "",
  };
}
