import { memberAtOnce } from "./membership.js";

/** Who streams, to which server, and from which kind of page. */
export class Identity {
  /**
   * @param {string} server its origin
   * @param {string} source what sends, as "org.example.app"
   * @param {{token: string, student_id?: string, name?: string, class_id?: string}} member
   */
  constructor(server, source, member) {
    this.server = server;
    this.source = source;
    this.token = member.token;
    this.member = member;
  }

  /** The server's welcome names the student; whether a student who joined in this browser is now another one. */
  greeted({ student_id, name }) {
    const before = this.member;
    this.member = { ...before, student_id, name };
    return before.class_id !== undefined && (before.student_id !== student_id || before.name !== name);
  }

  /** Take the student's newer token, after a join in another tab; whether there is one. */
  renew() {
    const kept = memberAtOnce(this.server);
    if (!kept || kept.token === this.token || kept.student_id !== this.member.student_id) return false;
    this.token = kept.token;
    return true;
  }

  /** Whether a stored stream is of this student. */
  owns(record) {
    return record.token === this.token || (record.student !== null && record.student === this.member.student_id);
  }

  /** What to store of a stream of this student. */
  record(outbox) {
    return {
      id: outbox.stream,
      server: this.server,
      source: this.source,
      student: this.member.student_id ?? null,
      token: this.token,
      next: outbox.next,
      touched: Date.now(),
    };
  }
}
