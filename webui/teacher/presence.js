// Whether a student is there and at work, as the dashboard says it.

import { duration } from "./figures.js";

const IDLE_SECONDS = 60;

const SYMBOLS = { online: "●", idle: "◐", away: "◌", offline: "○", never: "" };

/** Whether the class list names a student who has not come so far. To open the page is an event, so such have none. */
export function neverCame(student) {
  return student.listed === true && !student.online && student.last_event_at === null;
}

/**
 * "never" came, "offline", "away" (the page is not in view), "idle" (it is, without an event for a minute), or "online".
 *
 * @param {number} now in seconds by the server's clock
 */
export function stateOf(student, now) {
  if (neverCame(student)) return "never";
  if (!student.online) return "offline";
  if (student.summaries.activity?.visible === false) return "away";
  if (student.last_event_at === null || now - student.last_event_at > IDLE_SECONDS) return "idle";
  return "online";
}

export function handUp(student) {
  return student.online && student.summaries.activity?.help === true;
}

/** The state in words, with a sign for it and for a raised hand. */
export function stateText(student, now) {
  const state = stateOf(student, now);
  return `${handUp(student) ? "✋ " : ""}${SYMBOLS[state]} ${wordsFor(state, student, now)}`.trim();
}

function wordsFor(state, student, now) {
  if (state === "online") return "Online";
  if (state === "offline") return "Offline";
  if (state === "never") return "Not joined yet";
  if (state === "away") return "Not looking at this page";
  if (student.last_event_at === null) return "Not typing yet";
  return `Not typing for ${duration(now - student.last_event_at)}`;
}
