// Over a network that is gone, a request would wait for minutes.
const ANSWER_MS = 15_000;

export const NO_CONNECTION = "No connection right now. Try again in a moment.";

/** The server's routes for teachers, with JSON bodies and answers. */
export class Api {
  #signedOut;

  /** @param {() => void} signedOut called when the server says that nobody is signed in */
  constructor(signedOut = () => {}) {
    this.#signedOut = signedOut;
  }

  /**
   * @param {string} method "GET" or "POST"
   * @returns {Promise<object>} the answer
   * @throws {Error} with a sentence for the teacher
   */
  async call(method, path, body) {
    const options = { method, headers: {}, signal: AbortSignal.timeout(ANSWER_MS) };
    if (body !== undefined) {
      options.headers["Content-Type"] = "application/json";
      options.body = JSON.stringify(body);
    }
    let answer;
    try {
      answer = await fetch(path, options);
    } catch {
      throw new Error(NO_CONNECTION);
    }
    if (answer.status === 401) this.#signedOut();
    // A proxy may answer with a page of its own.
    const content = answer.status === 204 ? {} : await answer.json().catch(() => null);
    if (content === null) throw new Error(NO_CONNECTION);
    if (!answer.ok) throw new Error(content.error?.message ?? NO_CONNECTION);
    return content;
  }

  get(path) {
    return this.call("GET", path);
  }

  post(path, body = {}) {
    return this.call("POST", path, body);
  }
}
