// How numbers stand in sentences.

// A number and what it counts: "1 student", "0 students", "1,200 students are"; `many` where an s is not enough.
export function counted(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}
