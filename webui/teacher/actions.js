import { find } from "../shared/page.js";
import { NO_CONNECTION } from "./api.js";

/** Run what a control of the page does. When it fails, the reason is shown at the top of the page. */
export async function run(action) {
  find("failed").textContent = "";
  try {
    await action();
  } catch (error) {
    find("failed").textContent = error.message;
  }
}

export function onClick(id, action) {
  find(id).addEventListener("click", () => run(action));
}

/** The connection is back: what failed without it can be tried again. */
export function forgetFailures() {
  for (const id of ["failed", "message-result"]) if (find(id).textContent === NO_CONNECTION) find(id).textContent = "";
}
