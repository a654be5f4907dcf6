import { STORAGE_NAME, sleep } from "./browser.js";

const ANSWER_MS = 80;

/**
 * Which tab of this browser has which stream. Tabs ask each other on a channel, since the browser's locks are missing on
 * pages over plain HTTP.
 */
export class StreamOwners {
  #channel = null;
  #ownIds;
  #answers = null;

  /** @param {() => string[]} ownIds the streams of this tab */
  constructor(ownIds) {
    this.#ownIds = ownIds;
    try {
      this.#channel = new BroadcastChannel(STORAGE_NAME);
      this.#channel.onmessage = ({ data }) => this.#received(data);
      // Node keeps running for an open channel; browsers have no such method.
      this.#channel.unref?.();
    } catch {
      this.#channel = null;
    }
  }

  #received(data) {
    if (Array.isArray(data?.ask)) {
      const own = data.ask.filter((id) => this.#ownIds().includes(id));
      if (own.length) this.#channel.postMessage({ own });
    } else if (Array.isArray(data?.own)) {
      for (const id of data.own) this.#answers?.add(id);
    }
  }

  /** Which of these streams another tab has. */
  async ask(ids) {
    if (!this.#channel || !ids.length) return new Set();
    const answers = new Set();
    this.#answers = answers;
    this.#channel.postMessage({ ask: ids });
    await sleep(ANSWER_MS);
    this.#answers = null;
    return answers;
  }

  close() {
    this.#channel?.close();
    this.#channel = null;
  }
}
