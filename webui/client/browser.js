// What the client needs of the browser, also where the browser lacks it.

/** Name of our IndexedDB database, of our key in localStorage, and of the channel between tabs. */
export const STORAGE_NAME = "classroom-observer";

// A page of another site loads the classic script from our server; its own origin is not the server then.
const SCRIPT_URL = typeof document === "undefined" ? null : document.currentScript?.src;

/** The server's origin: of the URL that the caller gave, else of the classic script, else of the page. */
export function originOf(server) {
  const page = typeof location === "undefined" ? undefined : location.href;
  return new URL(server ?? SCRIPT_URL ?? page, page).origin;
}

/** One of the browser's storages; null where it is switched off, since access throws then. */
export function browserStorage(name) {
  try {
    return globalThis[name] ?? null;
  } catch {
    return null;
  }
}

/** A random UUID; `crypto.randomUUID` is missing on pages over plain HTTP, such as ours. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
