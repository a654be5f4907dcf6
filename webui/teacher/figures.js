// Numbers and times as the dashboard says them. Times are in seconds, `now` by the server's clock.

import { counted } from "../shared/text.js";

const LATE_SECONDS = 600;
const SPARK_MINUTES = 20;

/** What is not known. */
const NONE = "—";

export function wordsOf(student) {
  const words = student.summaries.writing?.words;
  return words === undefined ? NONE : counted(words, "word");
}

export function timeOf(student) {
  const seconds = student.summaries.time_on_task?.seconds;
  return seconds === undefined ? NONE : duration(seconds);
}

/** Whole minutes: "3 min", "1 h 5 min". */
export function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A time of day: "11:14"; of another day than `now` with its day. */
export function moment(seconds, now = Date.now() / 1000) {
  const at = new Date(seconds * 1000);
  const time = { hour: "2-digit", minute: "2-digit" };
  const today = at.toDateString() === new Date(now * 1000).toDateString();
  const text = today
    ? at.toLocaleTimeString([], time)
    : at.toLocaleString([], { weekday: "short", day: "numeric", month: "short", ...time });
  // No line begins with "PM".
  return text.replace(/\s(?=[AP]M$)/i, "\u00a0");
}

/** A sentence while events that waited in the student's browser have lately arrived; else "". */
export function lateOf(student, now) {
  return student.late && now - student.late_at <= LATE_SECONDS ? "Was offline, now up to date" : "";
}

/**
 * What of a student's work is saved and not shown, in sentences; an empty list when all is shown.
 * @param {boolean} brief whether they are for a tile, which has little room
 */
export function missingOf(student, now, brief = false) {
  const since = student.summaries.writing?.incomplete_since ?? null;
  const limited = student.limited_at ?? null;
  const held = student.held_at ?? null;
  const sentences = [];
  if (held !== null && brief) sentences.push(`Partly shown as of ${moment(held, now)}. Newer work is saved.`);
  else if (held !== null)
    sentences.push(
      `Some figures or texts are shown as of ${moment(held, now)}: a part of the archive is missing. Newer work is saved.`,
    );
  if (since !== null) sentences.push(`The text is shown as of ${moment(since, now)}. Newer text is saved.`);
  if (limited !== null)
    sentences.push(`Documents begun after ${moment(limited, now)} are saved, but not shown: there are too many.`);
  return sentences;
}

/** One figure of a summary, by its name there. */
export function figure(name, value) {
  if (value === null || value === undefined) return NONE;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (name.endsWith("_at")) return new Date(value * 1000).toLocaleTimeString();
  return name === "seconds" ? exactDuration(Math.round(value)) : value.toLocaleString();
}

function exactDuration(seconds) {
  if (seconds < 60) return `${seconds} s`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min ${seconds % 60} s` : duration(seconds);
}

/** A number of bytes, in steps of 1,024 as file managers show it: "62 KB". */
export function size(bytes) {
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  let amount = bytes;
  let step = 0;
  while (amount >= 1024 && step < units.length - 1) {
    amount /= 1024;
    step++;
  }
  if (!step) return counted(bytes, "byte");
  return `${amount < 10 ? amount.toFixed(1) : Math.round(amount)} ${units[step]}`;
}

/** Events in each of the last 20 minutes, oldest first. */
export function eventsPerMinute(student, now) {
  const minutes = student.summaries.activity?.minutes ?? {};
  const last = Math.floor(now / 60);
  return Array.from({ length: SPARK_MINUTES }, (_, index) => minutes[last - SPARK_MINUTES + 1 + index] ?? 0);
}
