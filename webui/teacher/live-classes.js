/** This device's time in ms, by a clock that nobody sets while the page is open. */
function deviceTime() {
  return performance.timeOrigin + performance.now();
}

/** The teacher's classes and students, as the frames of the server give them. */
export class LiveClasses {
  /** Students of all classes, by id. */
  students = new Map();
  classes = [];
  /** Students who wait for an answer, by the id of the question, the oldest first. */
  requests = new Map();
  /** Titles of classes that went away while the page was open, until the teacher has closed the note. */
  gone = [];
  /** Number of the last frame; null when only a snapshot can continue. */
  version = null;
  /** When the connection was lost, in seconds by the server's clock; null while it is there, or nothing came so far. */
  lostAt = null;
  #offset = 0;
  #heardAt = null;
  #chosen = null;
  #shown = null;
  // By id of a student who was merged into another one, the id of that one.
  #merged = new Map();

  /** The connection is lost. Until the next snapshot the time stops, since nothing newer is known. */
  lost() {
    this.version = null;
    if (this.#heardAt !== null) this.lostAt ??= (this.#heardAt + this.#offset) / 1000;
  }

  /** The teacher chose a class to see. */
  choose(classId) {
    this.#chosen = classId;
  }

  /** The class to show: the chosen one if it exists, else the one shown last, else the first; null if there is none. */
  current() {
    const known = (id) => this.classes.find((view) => view.class_id === id);
    const view = known(this.#chosen) ?? known(this.#shown) ?? this.classes[0] ?? null;
    this.#shown = view?.class_id ?? null;
    return view;
  }

  /** The students of the class that is shown. */
  members() {
    const classId = this.current()?.class_id;
    return [...this.students.values()].filter((student) => student.class_id === classId);
  }

  /** The id that a student has now; after a merge it is that of another one. */
  idNow(id) {
    let now = id;
    // A merge that was undone and done the other way round makes a circle.
    for (let left = this.#merged.size; left > 0 && !this.students.has(now) && this.#merged.has(now); left--)
      now = this.#merged.get(now);
    return now;
  }

  /** How many students are online, in all classes. */
  online() {
    return [...this.students.values()].filter((student) => student.online).length;
  }

  /**
   * Take a frame.
   *
   * @param {number} time this device's, in ms
   * @returns {boolean} whether it was enough; if not, ask for a snapshot
   */
  take(frame, time = deviceTime()) {
    if (frame.type === "alive") {
      // After the connection was lost, time continues with the snapshot.
      if (this.version !== null) this.#heard(frame, time);
      return true;
    }
    const filled = new Set([...this.students.values()].map((student) => student.class_id));
    if (frame.type === "snapshot") {
      this.students = new Map(frame.students.map((student) => [student.student_id, student]));
      this.requests = new Map((frame.requests ?? []).map((one) => [one.request_id, one]));
    } else if (frame.type !== "update") {
      return true;
    } else if (!this.#update(frame)) {
      return false;
    }
    this.version = frame.version;
    this.#heard(frame, time);
    this.lostAt = null;
    const added = this.#takeClasses(frame, filled);
    // An update holds who changed, and not who is in a new class.
    return frame.type === "snapshot" || !added;
  }

  #update(frame) {
    if (this.version === null || frame.version !== this.version + 1) {
      this.version = null;
      return false;
    }
    for (const id of frame.removed ?? []) this.students.delete(id);
    for (const student of frame.students) this.students.set(student.student_id, student);
    for (const [id, into] of Object.entries(frame.merged ?? {})) if (id !== into) this.#merged.set(id, into);
    if (frame.requests) this.#takeRequests(frame);
    return true;
  }

  /** An update has all questions of the classes that it is about. */
  #takeRequests({ requests, class_versions: about = {} }) {
    const others = [...this.requests.values()].filter((one) => !(one.class_id in about));
    const all = [...others, ...requests].sort((one, other) => one.created - other.created);
    this.requests = new Map(all.map((one) => [one.request_id, one]));
  }

  /**
   * Take the classes of a frame.
   *
   * @param {Set<string>} filled the classes that had students
   * @returns {boolean} whether there are new ones
   */
  #takeClasses(frame, filled) {
    const before = new Set(this.classes.map((view) => view.class_id));
    if (frame.classes) {
      const now = new Set(frame.classes.map((view) => view.class_id));
      const gone = this.classes.filter((view) => !now.has(view.class_id) && (filled.has(view.class_id) || !now.size));
      this.gone.push(...gone.map((view) => view.title));
      this.classes = frame.classes;
    }
    return this.classes.some((view) => !before.has(view.class_id));
  }

  #heard(frame, time) {
    this.#offset = frame.now - time;
    this.#heardAt = time;
  }

  /** Seconds by the server's clock. */
  now(time = deviceTime()) {
    return this.lostAt ?? (time + this.#offset) / 1000;
  }
}
