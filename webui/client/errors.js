/**
 * What went wrong, with a stable `code`: the server's, or one of ours (offline, bad_answer, not_joined, not_let_in, cancelled,
 * refused, closed, not_an_object, no_event_name, not_json, too_large).
 */
export class ClassroomError extends Error {
  constructor(code, message, more = {}) {
    super(message);
    this.name = "ClassroomError";
    this.code = code;
    Object.assign(this, more);
  }
}
