/**
 * A channel to the other tabs of this browser: a BroadcastChannel, or storage events where the browser has none.
 */
export class TabChannel {
  #channel = null;
  #name;
  #listening = new AbortController();

  /** @param {(message: object) => void} received gets what other tabs post */
  constructor(name, received) {
    this.#name = name;
    try {
      this.#channel = new BroadcastChannel(name);
      this.#channel.onmessage = ({ data }) => received(data);
      // Node keeps running for an open channel; browsers have no such method.
      this.#channel.unref?.();
    } catch {
      this.#listenToStorage(received);
    }
  }

  #listenToStorage(received) {
    const listen = ({ key, newValue }) => {
      if (key !== this.#name || !newValue) return;
      try {
        received(JSON.parse(newValue));
      } catch {
        // Not written by us.
      }
    };
    globalThis.addEventListener?.("storage", listen, { signal: this.#listening.signal });
  }

  post(message) {
    try {
      if (this.#channel) return this.#channel.postMessage(message);
      // Other tabs get an event only if the value differs.
      localStorage.setItem(this.#name, JSON.stringify({ ...message, nonce: Math.random() }));
      localStorage.removeItem(this.#name);
    } catch {
      // The storage is full or switched off: then each tab is alone.
    }
  }

  close() {
    this.#channel?.close();
    this.#listening.abort();
  }
}
