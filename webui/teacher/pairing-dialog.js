import { find, setText } from "../shared/page.js";
import { WORDS } from "./accounts-words.js";
import { openDialog } from "./dialogs.js";

const TICK_MS = 1_000;
const ASK_MS = 3_000;

/** The dialog that shows a QR code and six digits, with which a tablet signs in to the same account. */
export class PairingDialog {
  #api;
  #said;
  #paired;
  #dialog = find("tablet");
  #timers = [];
  // When the code ends, by a clock that nobody sets.
  #until = 0;
  // Ids of the sessions that there were before.
  #before = new Set();

  /** @param {() => Promise<void>} paired called after a device has signed in */
  constructor(api, said, paired) {
    this.#api = api;
    this.#said = said;
    this.#paired = paired;
    find("tablet-again").addEventListener("click", () => said.act(() => this.#show()));
    this.#dialog.addEventListener("close", () => this.#stop());
  }

  async open() {
    await this.#show();
    openDialog(this.#dialog, this.#said);
  }

  async #show() {
    this.#stop();
    const sessions = await this.#api.get("/api/v1/sessions");
    this.#before = new Set(sessions.map((session) => session.session_id));
    const { code, url, qr, seconds } = await this.#api.post("/api/v1/pairing");
    this.#until = performance.now() + seconds * 1000;
    const image = find("tablet-qr");
    image.src = `data:image/svg+xml,${encodeURIComponent(qr)}`;
    image.alt = WORDS.tabletQr;
    find("tablet-url").textContent = url;
    // In two groups, as people say and type it.
    find("tablet-code").textContent = `${code.slice(0, 3)} ${code.slice(3)}`;
    this.#dialog.dataset.state = "valid";
    find("tablet-again").hidden = true;
    this.#timers = [setInterval(() => this.#tick(), TICK_MS), setInterval(() => this.#ask(), ASK_MS)];
    this.#tick();
  }

  #stop() {
    for (const timer of this.#timers) clearInterval(timer);
    this.#timers = [];
  }

  #tick() {
    const left = Math.ceil((this.#until - performance.now()) / 1000);
    if (left > 0) return setText(find("tablet-left"), WORDS.tabletLeft(clock(left)));
    this.#stop();
    setText(find("tablet-left"), WORDS.tabletEnded);
    this.#dialog.dataset.state = "ended";
    find("tablet-code").textContent = "––– –––";
    find("tablet-again").hidden = false;
    find("tablet-again").focus();
  }

  /** Find out whether the device has signed in. */
  async #ask() {
    const sessions = await this.#api.get("/api/v1/sessions").catch(() => []);
    const added = sessions.find((one) => one.how === "pairing" && !this.#before.has(one.session_id));
    if (!added || !this.#dialog.open || !this.#timers.length) return;
    this.#dialog.addEventListener(
      "close",
      () =>
        this.#said
          .run(() => this.#paired())
          .then(() => this.#said.say(WORDS.tabletDone(added.agent || WORDS.tabletDevice))),
      { once: true },
    );
    this.#dialog.close();
  }
}

/** Minutes and seconds: "2:05". */
function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
