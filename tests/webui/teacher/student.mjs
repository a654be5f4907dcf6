/** A student as the server sends one to the dashboard. */
export const student = (changes = {}) => ({
  student_id: "s-1",
  name: "Ada",
  class_id: "class-1",
  online: true,
  last_event_at: 1000,
  summaries: {},
  ...changes,
});
