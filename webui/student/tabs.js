/**
 * Which of several tabs of one student may change a document. One leads; the others show its text, until the student
 * goes on in one of them.
 *
 * Tabs talk through a BroadcastChannel, or through storage events where the browser has no such channel. Locks of the
 * browser (`navigator.locks`) are missing on pages that come over plain HTTP. A tab that is not seen is slow with its
 * timers, but answers at once; so a tab that follows asks, and no tab has to say regularly that it is there.
 */

const ANSWER_MS = 120;
const GIVE_MS = 600;
// A tab that follows asks so often whether the leader is there, and leads itself after so many questions in vain.
const ASK_MS = 3_000;
const ASKED_IN_VAIN = 3;

/** A way to the other tabs of this browser on which `hear` gets what they post. */
class Channel {
  #channel = null;
  #place;
  #listening = new AbortController();

  constructor(place, hear) {
    this.#place = place;
    try {
      this.#channel = new BroadcastChannel(place);
      this.#channel.onmessage = ({ data }) => hear(data);
      // Node keeps running for an open channel; browsers have no such thing.
      this.#channel.unref?.();
    } catch {
      const listen = ({ key, newValue }) => {
        if (key !== place || !newValue) return;
        try {
          hear(JSON.parse(newValue));
        } catch {
          // Not written by us.
        }
      };
      globalThis.addEventListener?.("storage", listen, { signal: this.#listening.signal });
    }
  }

  post(message) {
    try {
      if (this.#channel) return this.#channel.postMessage(message);
      // Other tabs hear of a change only.
      localStorage.setItem(this.#place, JSON.stringify({ ...message, nonce: Math.random() }));
      localStorage.removeItem(this.#place);
    } catch {
      // The storage is full or switched off: then each tab is alone.
    }
  }

  close() {
    this.#channel?.close();
    this.#listening.abort();
  }
}

/** Whether one claim to lead goes before another: the later take-over, else the older claim. */
function goesBefore(one, other) {
  if (one.term !== other.term) return one.term > other.term;
  if (one.since !== other.since) return one.since < other.since;
  return one.id < other.id;
}

/**
 * This tab among the others.
 *
 * `page` has `read()`, the document as this tab shows it, and is called back: `lead(state)` when this tab may change the
 * document, with what the leader before it handed over, or null where nobody did; `follow()` when another tab leads;
 * `show(state)` with the leader's document; `merge(state)` with the document of a tab that led at the same time;
 * `settled()` when a tab that led before has delivered what it had to; `hand(raised)` from a tab that follows.
 */
export class Tabs {
  #page;
  #channel = null;
  #place;
  #id = Math.random().toString(36).slice(2);
  #claim = null;
  #leader = null;
  #term = 0;
  #given = null;
  #asking = null;
  #inVain = 0;

  constructor(place, page) {
    this.#place = place;
    this.#page = page;
  }

  /** Whether this tab may change the document. */
  get leads() {
    return this.#claim !== null;
  }

  /** Whether another tab may. Neither is set for a moment at first. */
  get follows() {
    return this.#leader !== null;
  }

  /** Find out who leads, or lead. */
  async begin() {
    this.#channel ??= new Channel(this.#place, (message) => this.#hear(message));
    this.#asking ??= setInterval(() => this.#ask(), ASK_MS);
    this.#leader = null;
    this.#post("ask", { state: true });
    await new Promise((resolve) => setTimeout(resolve, ANSWER_MS));
    this.insist();
  }

  /** The student writes here while it is not known yet who leads: this tab does, unless another one says so. */
  insist() {
    if (this.#channel && !this.#claim && !this.#leader) this.#lead(0, null);
  }

  /** The student goes on in this tab: lead, from what the leader has. */
  async take() {
    if (this.#claim || this.#given) return;
    const term = this.#term + 1;
    const given = new Promise((resolve) => {
      this.#given = resolve;
      setTimeout(resolve, GIVE_MS, null);
    });
    this.#post("take", { term });
    const state = await given;
    this.#given = null;
    if (this.#channel && !this.#claim) this.#lead(Math.max(term, this.#term), state);
  }

  /** Give the other tabs what this one shows, where it leads. */
  tell() {
    if (this.#claim) this.#post("lead", { ...this.#claim, state: this.#page.read() });
  }

  /** Another tab has perhaps taken over while this one was frozen. */
  check() {
    if (this.#claim) this.#post("lead", this.#claim);
    else this.#ask();
  }

  /** What this tab had logged when it led has reached the server. */
  settled() {
    this.#post("settled");
  }

  /** Tell the leader that the student raised or lowered the hand in this tab. */
  hand(raised) {
    this.#post("hand", { raised });
  }

  /** This tab closes, or the browser puts it away. */
  leave() {
    if (this.#claim) this.#post("bye", { state: this.#page.read() });
    this.#claim = null;
    this.#leader = null;
    clearInterval(this.#asking);
    this.#asking = null;
    this.#channel?.close();
    this.#channel = null;
  }

  #post(type, more = {}) {
    this.#channel?.post({ type, ...more, id: this.#id });
  }

  #lead(term, state) {
    this.#leader = null;
    this.#term = term;
    this.#claim = { id: this.#id, term, since: Date.now() };
    this.#post("lead", this.#claim);
    this.#page.lead(state);
  }

  #follow(leader) {
    const ours = this.#claim;
    this.#claim = null;
    this.#leader = leader;
    this.#inVain = 0;
    if (ours) this.#post("give", { to: leader.id, state: this.#page.read() });
    this.#page.follow();
  }

  #ask() {
    if (!this.#leader || this.#given) return;
    // A leader that crashed says no farewell. Only a tab that is seen takes its place.
    if (globalThis.document?.visibilityState === "hidden") this.#inVain = 0;
    else if (this.#inVain++ >= ASKED_IN_VAIN) return this.#lead(this.#term + 1, null);
    this.#post("ask");
  }

  #hear(message) {
    if (typeof message?.id !== "string" || message.id === this.#id) return;
    if (message.type === "ask" && this.#claim)
      this.#post("lead", message.state ? { ...this.#claim, state: this.#page.read() } : this.#claim);
    else if (message.type === "lead") this.#heardLead(message);
    else if (message.type === "take" && this.#claim) this.#follow({ id: message.id, term: message.term, since: 0 });
    else if (message.type === "give" && message.to === this.#id) this.#heardGive(message.state);
    else if (message.type === "bye" && message.id === this.#leader?.id) this.#lead(this.#term + 1, message.state);
    else if (message.type === "settled" && this.#claim) this.#page.settled();
    else if (message.type === "hand" && this.#claim) this.#page.hand(message.raised === true);
  }

  #heardLead({ id, term, since, state }) {
    const theirs = { id, term, since };
    this.#term = Math.max(this.#term, term);
    if (this.#claim && goesBefore(this.#claim, theirs)) return this.#post("lead", this.#claim);
    if (this.#leader && this.#leader.id !== id && goesBefore(this.#leader, theirs)) return;
    if (this.#leader?.id === id) {
      this.#leader = theirs;
      this.#inVain = 0;
    } else this.#follow(theirs);
    if (state) this.#page.show(state);
  }

  #heardGive(state) {
    if (this.#given) this.#given(state);
    else if (this.#claim) this.#page.merge(state);
  }
}
