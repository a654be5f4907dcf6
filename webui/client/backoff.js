// How long to wait before connecting again. All waits are random, so that a class does not come back in one moment.

// 1,000 clients that were cut off at once come back at some 250 a second when their waits are spread over so long.
const BACKOFF_MS = 4_000;
const BACKOFF_MAX_MS = 30_000;
const RECONNECT_MS = 3_000;
const TYPING_MS = 1_000;
const TYPING_SPREAD_MS = 2_000;
const UNUSABLE_MS = 4_000;

/** Wait before the n-th attempt to connect, in ms. */
export function backoff(attempt, random = Math.random) {
  return random() * Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** (attempt - 1));
}

/** Wait when the server can probably be reached again, as after the network came back, in ms. */
export function reconnectWait(random = Math.random) {
  return random() * RECONNECT_MS;
}

/** Shortest time between two attempts of a page on which the student types, in ms. */
export function typingInterval(random = Math.random) {
  return TYPING_MS + random() * TYPING_SPREAD_MS;
}

/** Wait after the server could not use our events for the n-th time: `[fixed, random]` in ms. */
export function unusableWait(times, random = Math.random) {
  const most = Math.min(BACKOFF_MAX_MS, UNUSABLE_MS * 2 ** (times - 1));
  return [most / 2, random() * most];
}
