// What the dashboard knows and works out, without a page: so it can be tested without one.

import { counted } from "../shared/text.js";

// This device's time in ms, which nobody sets while the page is open.
export function clockNow() {
  return performance.timeOrigin + performance.now();
}

export const IDLE_SECONDS = 60;
export const SPARK_MINUTES = 20;

export const STATES = {
  online: { symbol: "●", word: "online" },
  idle: { symbol: "◐", word: "idle" },
  away: { symbol: "◌", word: "away" },
  offline: { symbol: "○", word: "offline" },
  never: { symbol: "", word: "not joined yet" },
};

// Whether the class list names a student who has not come so far. To come is to open the page, which is an event.
export function neverCame(student) {
  return student.listed === true && !student.online && student.last_event_at === null;
}

// "away": the page is not in view; "idle": it is, and nothing has happened for a minute.
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

export const LATE_SECONDS = 600;

// How many events were held in the student's browser and have arrived lately: "12 events arrived late"; "" for none.
export function lateOf(student, now) {
  if (!student.late || now - student.late_at > LATE_SECONDS) return "";
  return `${counted(student.late, "event")} arrived late`;
}

export function wordsOf(student) {
  const words = student.summaries.writing?.words;
  return words === undefined ? "—" : counted(words, "word");
}

export function timeOf(student) {
  const seconds = student.summaries.time_on_task?.seconds;
  if (seconds === undefined) return "—";
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// A moment in seconds as a teacher reads it: "11:14", with the day where it was on another than `now`.
export function moment(seconds, now = Date.now() / 1000) {
  const at = new Date(seconds * 1000);
  const time = { hour: "2-digit", minute: "2-digit" };
  if (at.toDateString() === new Date(now * 1000).toDateString()) return at.toLocaleTimeString([], time);
  return at.toLocaleString([], { weekday: "short", day: "numeric", month: "short", ...time });
}

// What of a student's work is not shown, in sentences; an empty list where all is.
export function missingOf(student, now) {
  const since = student.summaries.writing?.incomplete_since ?? null;
  const limited = student.limited_at ?? null;
  const said = [];
  if (since !== null) said.push(`The text is no longer followed since ${moment(since, now)}. All of it is saved.`);
  if (limited !== null) {
    const what = "More than is kept of one student: newer documents are saved but not shown";
    said.push(`${what}, since ${moment(limited, now)}.`);
  }
  return said;
}

// One figure of a summary as a teacher reads it, by the name under which it stands there.
export function figure(name, value) {
  if (value === null || value === undefined) return "—";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (name.endsWith("_at")) return new Date(value * 1000).toLocaleTimeString();
  if (name !== "seconds") return value.toLocaleString();
  const seconds = Math.round(value);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${seconds} s`;
  return minutes < 60 ? `${minutes} min ${seconds % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// A number of bytes in steps of 1,024.
export function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  while (bytes >= 1024 && step < units.length - 1) {
    bytes /= 1024;
    step++;
  }
  return step ? `${bytes.toFixed(1)} ${units[step]}` : counted(bytes, "byte");
}

// Events in each of the last 20 minutes, oldest first; `now` in seconds by the server's clock.
export function spark(student, now) {
  const minutes = student.summaries.activity?.minutes ?? {};
  const last = Math.floor(now / 60);
  return Array.from({ length: SPARK_MINUTES }, (_, index) => minutes[last - SPARK_MINUTES + 1 + index] ?? 0);
}

const NAMES = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

// Raised hands first, who has never come last, each as chosen; ties by name and id, so that equal tiles keep their places.
export function sorted(students, by) {
  const byName = (a, b) => NAMES.compare(a.name, b.name) || (a.student_id < b.student_id ? -1 : 1);
  const orders = {
    name: byName,
    quiet: (a, b) => (a.last_event_at ?? 0) - (b.last_event_at ?? 0) || byName(a, b),
    words: (a, b) => (b.summaries.writing?.words ?? -1) - (a.summaries.writing?.words ?? -1) || byName(a, b),
  };
  const order = orders[by] ?? byName;
  return [...students].sort((a, b) => handUp(b) - handUp(a) || neverCame(a) - neverCame(b) || order(a, b));
}

// The students as the frames tell them. take() says whether a frame was enough; after one that was not, ask for a
// snapshot.
export class Roster {
  constructor() {
    this.students = new Map();
    this.classes = [];
    this.version = null;
    this.offset = 0;
    this.heardAt = null;
    this.lostAt = null;
    this.chosen = null;
    this.looked = null;
  }

  // The link is gone: until the next frame it stays the time of the last one, as nothing newer is known.
  lost() {
    this.version = null;
    if (this.heardAt !== null) this.lostAt ??= (this.heardAt + this.offset) / 1000;
  }

  // The educator wants to see a class.
  choose(classId) {
    this.chosen = classId;
  }

  // The class to show: the chosen one if there is such, else the one shown last, else the first.
  current() {
    const known = (id) => this.classes.find((view) => view.class_id === id);
    const view = known(this.chosen) ?? known(this.looked) ?? this.classes[0] ?? null;
    this.looked = view?.class_id ?? null;
    return view;
  }

  take(frame, clock = clockNow()) {
    if (frame.type === "alive") {
      // After the link was lost, the time goes on with the snapshot.
      if (this.version !== null) this.#heard(frame, clock);
      return true;
    }
    if (frame.type === "snapshot") {
      this.students = new Map(frame.students.map((student) => [student.student_id, student]));
    } else if (frame.type === "update") {
      if (this.version === null || frame.version !== this.version + 1) {
        this.version = null;
        return false;
      }
      for (const student of frame.students) this.students.set(student.student_id, student);
      for (const id of frame.removed ?? []) this.students.delete(id);
    } else {
      return true;
    }
    this.version = frame.version;
    this.#heard(frame, clock);
    this.lostAt = null;
    const before = new Set(this.classes.map((view) => view.class_id));
    if (frame.classes) this.classes = frame.classes;
    // An update tells who changed, and not who is in a class that is new.
    return frame.type === "snapshot" || this.classes.every((view) => before.has(view.class_id));
  }

  #heard(frame, clock) {
    this.offset = frame.now - clock;
    this.heardAt = clock;
  }

  // Seconds by the server's clock.
  now(clock = clockNow()) {
    return this.lostAt ?? (clock + this.offset) / 1000;
  }
}
