// Over a network that is gone, a request would wait for minutes.
const ANSWER_MS = 15_000;
// A long list takes a while to be sent and read.
const FILE_MS = 120_000;

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
   * @throws {Error} with a sentence for the teacher; `content` is what the server answered, if it did
   */
  async call(method, path, body) {
    const options = { method, headers: {} };
    if (body !== undefined) {
      options.headers["Content-Type"] = "application/json";
      options.body = JSON.stringify(body);
    }
    return this.#contentOf(await this.#fetch(path, options, ANSWER_MS));
  }

  get(path) {
    return this.call("GET", path);
  }

  post(path, body = {}) {
    return this.call("POST", path, body);
  }

  /** Send a form with a file. Returns and throws as `call`. */
  async upload(path, form) {
    return this.#contentOf(await this.#fetch(path, { method: "POST", body: form }, FILE_MS));
  }

  /**
   * Get a file.
   *
   * @returns {Promise<{name: string, content: Blob}>}
   * @throws {Error} as `call`
   */
  async download(path) {
    const answer = await this.#fetch(path, {}, FILE_MS);
    if (!answer.ok) await this.#contentOf(answer);
    const [, name] = /filename="?([^";]+)/.exec(answer.headers.get("Content-Disposition") ?? "") ?? [];
    const content = await answer.blob().catch(() => {
      throw new Error(NO_CONNECTION);
    });
    return { name: name ?? "", content };
  }

  async #fetch(path, options, ms) {
    try {
      return await fetch(path, { ...options, signal: AbortSignal.timeout(ms) });
    } catch {
      throw new Error(NO_CONNECTION);
    }
  }

  async #contentOf(answer) {
    // A proxy may answer with a page of its own.
    const content = answer.status === 204 ? {} : await answer.json().catch(() => null);
    if (content === null) throw new Error(NO_CONNECTION);
    // A wrong password has the status 401, too.
    if (content.error?.code === "sign_in") this.#signedOut();
    if (!answer.ok) throw Object.assign(new Error(content.error?.message ?? NO_CONNECTION), { content });
    return content;
  }
}
