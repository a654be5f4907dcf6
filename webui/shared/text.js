/** A number and what it counts: "1 student", "1,200 students"; give `many` when an s is not enough. */
export function counted(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}
