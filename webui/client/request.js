import { ClassroomError } from "./errors.js";

const ANSWER_MS = 10_000;

/**
 * Send an HTTP request to the server and return its JSON answer.
 *
 * @throws {ClassroomError} with the server's code and message, the HTTP `status`, `retryAfter` in seconds if the
 *   server names it, and the `kind` of secret that it needs; "offline" if it cannot be reached
 */
export async function request(server, path, init) {
  const response = await send(server + path, init);
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  const wait = Number.parseInt(response.headers?.get("Retry-After") ?? "", 10);
  throw new ClassroomError(
    answer?.error?.code ?? "bad_answer",
    answer?.error?.message ?? "The answer cannot be understood. Is this the address of Classroom Observer?",
    {
      status: response.status,
      ...(wait > 0 ? { retryAfter: wait } : {}),
      ...(answer?.error?.kind ? { kind: answer.error.kind } : {}),
    },
  );
}

async function send(url, init) {
  try {
    const signal = AbortSignal.timeout?.(ANSWER_MS);
    return await fetch(url, { cache: "no-store", credentials: "omit", signal, ...init });
  } catch {
    throw new ClassroomError("offline", "No connection. Is this device on the class network?");
  }
}
