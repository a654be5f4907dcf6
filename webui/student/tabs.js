/**
 * Which of several tabs of one student may change a document. One leads; the others show its text until the student
 * continues in one of them.
 *
 * The browser's locks (`navigator.locks`) are missing on pages over plain HTTP, so tabs send each other messages. Timers
 * of a tab in the background are slow, but it answers at once: a tab that follows asks, and no tab needs to announce
 * regularly that it is there.
 */

import { TabChannel } from "./tab-channel.js";

const ANSWER_MS = 120;
const GIVE_MS = 600;
// How often a tab that follows asks whether the leader is there, and after how many questions in vain it leads itself.
const ASK_MS = 3_000;
const MAX_UNANSWERED = 3;

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
 * document, with what the leader before it gave, or null; `follow()` when another tab leads; `show(state)` with the
 * leader's document; `merge(state)` with the document of a tab that led at the same time; `settled()` when a tab that
 * led before has delivered all it had; `hand(raised)` when the student raised or lowered the hand in a tab that follows.
 */
export class Tabs {
  #page;
  #channel = null;
  #name;
  #id = Math.random().toString(36).slice(2);
  #claim = null;
  #leader = null;
  // Grows with each take-over.
  #term = 0;
  // Resolves with the document of the leader that this tab takes over from.
  #given = null;
  #asking = null;
  #unanswered = 0;

  /** @param {string} name of the channel, the same in all tabs of the student and document */
  constructor(name, page) {
    this.#name = name;
    this.#page = page;
  }

  /** Whether this tab may change the document. */
  get leads() {
    return this.#claim !== null;
  }

  /** Whether another tab may. At first neither is known for a moment. */
  get follows() {
    return this.#leader !== null;
  }

  /** Find out who leads, or lead. */
  async begin() {
    this.#channel ??= new TabChannel(this.#name, (message) => this.#received(message));
    this.#asking ??= setInterval(() => this.#ask(), ASK_MS);
    this.#leader = null;
    this.#post("ask", { state: true });
    await new Promise((resolve) => setTimeout(resolve, ANSWER_MS));
    this.insist();
  }

  /** The student writes here before it is known who leads: this tab does, unless another one objects. */
  insist() {
    if (this.#channel && !this.#claim && !this.#leader) this.#lead(0, null);
  }

  /** The student continues in this tab: lead, from what the leader has. */
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

  /** Give the other tabs what this one shows, if it leads. */
  share() {
    if (this.#claim) this.#post("lead", { ...this.#claim, state: this.#page.read() });
  }

  /** Another tab may have taken over while this one was frozen. */
  check() {
    if (this.#claim) this.#post("lead", this.#claim);
    else this.#ask();
  }

  /** What this tab logged while it led has reached the server. */
  settled() {
    this.#post("settled");
  }

  /** Pass on to the leader that the student raised or lowered the hand here. */
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
    const own = this.#claim;
    this.#claim = null;
    this.#leader = leader;
    this.#unanswered = 0;
    if (own) this.#post("give", { to: leader.id, state: this.#page.read() });
    this.#page.follow();
  }

  #ask() {
    if (!this.#leader || this.#given) return;
    // A leader that crashed says no farewell. Only a tab that is seen takes its place.
    if (globalThis.document?.visibilityState === "hidden") this.#unanswered = 0;
    else if (this.#unanswered++ >= MAX_UNANSWERED) return this.#lead(this.#term + 1, null);
    this.#post("ask");
  }

  #received(message) {
    if (typeof message?.id !== "string" || message.id === this.#id) return;
    if (this.#claim) this.#receivedAsLeader(message);
    else if (message.type === "bye" && message.id === this.#leader?.id) this.#lead(this.#term + 1, message.state);
    if (message.type === "lead") this.#receivedLead(message);
    else if (message.type === "give" && message.to === this.#id) this.#receivedDocument(message.state);
  }

  #receivedAsLeader({ type, id, term, state, raised }) {
    if (type === "ask") this.#post("lead", state ? { ...this.#claim, state: this.#page.read() } : this.#claim);
    else if (type === "take") this.#follow({ id, term, since: 0 });
    else if (type === "settled") this.#page.settled();
    else if (type === "hand") this.#page.hand(raised === true);
  }

  #receivedLead({ id, term, since, state }) {
    const claim = { id, term, since };
    this.#term = Math.max(this.#term, term);
    if (this.#claim && goesBefore(this.#claim, claim)) return this.#post("lead", this.#claim);
    if (this.#leader && this.#leader.id !== id && goesBefore(this.#leader, claim)) return;
    if (this.#leader?.id === id) {
      this.#leader = claim;
      this.#unanswered = 0;
    } else this.#follow(claim);
    if (state) this.#page.show(state);
  }

  #receivedDocument(state) {
    if (this.#given) this.#given(state);
    else if (this.#claim) this.#page.merge(state);
  }
}
