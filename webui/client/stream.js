/**
 * Streams events from any web page to Classroom Observer.
 *
 *     await ClassroomStream.join({ server, code: "ABC-234", name: "Ada L." });
 *     const stream = await ClassroomStream.open({ source: "org.example.app", server });
 *     stream.log({ event: "edit", document: "essay", offset: 0, insert: "x" });
 *
 * Events stay in the browser (IndexedDB) until the server says that they are durable there: through lost networks,
 * reloads, crashes and power cuts, of either side. docs/protocol.md describes the frames.
 *
 * The server joins this module and all that it imports into /client.js and /client.classic.js.
 */

import { originOf, sleep } from "./browser.js";
import { ClassroomError } from "./errors.js";
import { Identity } from "./identity.js";
import { askWhoIAm, forgetMember, join, joinableNames, joinedMember, waitForAnswer } from "./joining.js";
import { Journal } from "./journal.js";
import { Leftovers } from "./leftovers.js";
import { keepMember, memberOf } from "./membership.js";
import { Pause } from "./pause.js";
import { CLOSE } from "./protocol.js";
import { Retry } from "./retry.js";
import { Store } from "./store.js";
import { StreamConnection } from "./stream-connection.js";
import { StreamOwners } from "./stream-owners.js";

const CLOSING_MS = 2_000;

/**
 * A student's stream of events. Made by `ClassroomStream.open`.
 *
 * Its events:
 * - "status": a property has changed;
 * - "message": `detail.text`, words of the teacher;
 * - "reject": `detail.seq`, `detail.code`, `detail.message`: the server cannot use an event;
 * - "refused": `detail.reason` is "token" (join again) or "removed" (the teacher removed the student from the class);
 * - "resync": events that the server has acknowledged do not count there, because it lost them, because the class was
 *   paused when they came and this page could not know, or because it could not use them (see `resending`). A page that
 *   knows its whole state should log it again. It should do so too when `paused` becomes false, since no "resync" comes
 *   then.
 */
export class ClassroomStream extends EventTarget {
  #identity;
  #journal;
  #owners;
  #leftovers;
  #retry = new Retry(() => this.#connect());
  #pause = new Pause();
  #connection = null;
  #state = "connecting";
  #refused = null;
  #closed = false;
  #ackedTo = 0;
  #stalled = false;
  #resending = false;
  #announcing = false;
  #flushes = new Set();
  #listening = new AbortController();

  /**
   * Join a class. Gives `{token, student_id, name, class_id}` and keeps it in the browser.
   *
   * A browser that has joined before is the same student again; call `forget` first if it is another person. Where the
   * teacher must answer, it waits: `waiting` gets `{pending, token, kind, name, online, cancel}`, also when `online`
   * changes, and `cancel()` ends it.
   *
   * @param {{server?: string, code: string, name?: string, studentId?: string, secret?: string | number[], ask?: boolean,
   *   waiting?: (question: object) => void}} how with a name, or with the `student_id` of the class list; `secret` after
   *   the code "secret_needed" (its `kind` is "pin" or "pictures"), or `ask` to ask the teacher instead
   * @throws {Error} with the server's `code` and `message`, and `retryAfter` in seconds; or with the code "offline",
   *   "not_let_in" or "cancelled"
   */
  static join(how) {
    return join(how);
  }

  /** Wait for an answer as `join` does, after the page was loaded again; `question` is what `waiting` got. */
  static waitForAnswer(how) {
    return waitForAnswer(how);
  }

  /**
   * The names of the class list, for a right code: `{class_id, title, names: [{student_id, name, taken, secret}]}`.
   *
   * @param {{server?: string, code: string}} how
   * @throws {Error} as `join`
   */
  static names(how) {
    return joinableNames(how);
  }

  /** Who has joined in this browser, without asking the server; null if nobody has. */
  static member(where) {
    return joinedMember(where);
  }

  /**
   * Who has joined in this browser, as the server knows it; null if nobody has. `removed` is true for a student whom the
   * teacher removed.
   *
   * @throws {Error} with the code "offline" when the server cannot be reached
   */
  static me(where) {
    return askWhoIAm(where);
  }

  /**
   * Forget who joined, so that another person can join. Events that wait here are not forgotten: they keep the token
   * under which they were logged until the server has them.
   */
  static forget(where) {
    return forgetMember(where);
  }

  /**
   * Open a stream. Events can be logged at once, whether the server can be reached or not.
   *
   * @param {{source: string, server?: string, token?: string}} how `source` names what sends, as "org.example.app";
   *   without a token the one of the last `join` is used
   * @throws {Error} with the code "not_joined" when there is no token
   */
  static async open({ source, server, token }) {
    const origin = originOf(server);
    const kept = await memberOf(origin);
    const member = token === undefined || token === kept?.token ? kept : { token };
    if (!member?.token) throw new ClassroomError("not_joined", "This browser has not joined a class.");
    const stream = new ClassroomStream(origin, source, member);
    await stream.#begin();
    return stream;
  }

  /** Private; use `open`. */
  constructor(server, source, member) {
    super();
    this.#identity = new Identity(server, source, member);
    this.#journal = new Journal(this.#identity, {
      online: () => this.#state === "online",
      stored: () => this.#connection?.pump(),
      renumbering: () => this.#renumbering(),
      renumbered: (which) => this.#renumbered(which),
      storageFailed: () => this.#changed(),
      replaced: (seq, code) => this.#dispatch("reject", { seq, code, message: "This event could not be sent." }),
    });
    this.#owners = new StreamOwners(() => [
      ...(this.#journal.outbox ? [this.#journal.outbox.stream] : []),
      ...this.#leftovers.delivering,
    ]);
    this.#leftovers = new Leftovers(this.#identity, this.#journal, this.#owners, {
      isCurrent: (connection) => this.#connection === connection,
      acknowledged: () => this.#ackedTo > 0,
      changed: () => this.#changed(),
      stalled: () => this.#stall(),
      outOfOrder: () => {
        if (!this.#pause.paused) this.#resync();
      },
    });
  }

  /** "connecting" at first, "online", "waiting" for the server to come back, "refused", or "closed". */
  get connection() {
    return this.#state;
  }

  /** Whether the teacher has paused the class. Events are taken and stored all the same. */
  get paused() {
    return this.#pause.paused;
  }

  /** Whether an acknowledgement takes long though the server answers; its disk may be full. */
  get stalled() {
    return this.#stalled;
  }

  /** Whether the server could not use some events, and has not acknowledged what it needs instead. */
  get resending() {
    return this.#resending;
  }

  /** Whether what is not acknowledged outlives this page: false when the browser has no storage for it. */
  get durable() {
    return this.#journal.store !== null;
  }

  /** How many events are not acknowledged, including those that closed tabs have left. */
  get pending() {
    return this.#journal.outbox.pending + this.#leftovers.owed;
  }

  /** Why the server refused: "token", "removed", or null. */
  get refused() {
    return this.#refused;
  }

  /** Who streams: `{student_id, name, class_id}`, as far as it is known. */
  get student() {
    const { student_id, name, class_id } = this.#identity.member;
    return { student_id, name, class_id };
  }

  /**
   * Log an event. It is stored and sent; nothing needs to be waited for.
   *
   * @throws {Error} only if the event itself can never be sent, or the stream was closed
   */
  log(event) {
    if (this.#closed) throw new ClassroomError("closed", "This stream was closed.");
    this.#journal.outbox.add(event);
    this.#journal.saveSoon();
    this.#retry.atWork();
    this.#changed();
  }

  /** Wait until everything that was logged so far is acknowledged. */
  flush() {
    this.#journal.save();
    return new Promise((resolve, reject) => {
      this.#flushes.add({ mark: this.#journal.outbox.mark, resolve, reject });
      this.#settleFlushes();
    });
  }

  /** Stop. What is not acknowledged after two seconds stays in the browser for the next page of this student. */
  async close() {
    if (this.#closed) return;
    this.#journal.save();
    if (this.#connection?.greeted && this.#journal.outbox.pending)
      await Promise.race([this.flush().catch(() => {}), sleep(CLOSING_MS)]);
    this.#closed = true;
    await this.#journal.idle;
    this.#retry.stop();
    this.#leftovers.stop();
    this.#connection?.end("closed");
    this.#listening.abort();
    this.#owners.close();
    await this.#journal.close();
    this.#show("closed");
  }

  async #begin() {
    await this.#journal.begin(await Store.open(() => this.#journal.storageFailed()), this.#owners);
    if (this.durable) await this.#leftovers.count();
    this.#listen();
    this.#retry.now();
  }

  #listen() {
    const signal = this.#listening.signal;
    const listen = (target, name, act) => target?.addEventListener?.(name, act, { signal });
    // When the school's network comes back, every page gets this event in the same moment.
    const check = () => {
      this.#connection?.checkNow();
      this.#retry.hurry();
    };
    listen(globalThis, "online", check);
    listen(globalThis, "pageshow", check);
    listen(globalThis, "pagehide", () => this.#journal.save());
    // The browser had frozen the page, and it continues.
    listen(globalThis.document, "resume", () => this.#connection?.wake());
    listen(globalThis.document, "visibilitychange", () => {
      if (document.visibilityState === "hidden") return this.#journal.save();
      check();
      this.#retry.atWork();
    });
  }

  #connect() {
    if (this.#connection || this.#closed || this.#refused) return;
    const { server, source, token } = this.#identity;
    const connection = new StreamConnection(server, { token, source }, this.#journal.outbox, {
      welcome: (frame) => this.#welcomed(frame),
      acked: (seq) => this.#acked(seq),
      stalled: () => this.#stall(),
      other: (frame) => this.#received(frame),
      closed: (why) => this.#disconnected(connection, why),
    });
    this.#connection = connection;
    // What closed tabs of this student have left is older, and goes first.
    connection.held = this.durable;
  }

  #welcomed(frame) {
    // The teacher may have merged this student into another one, or changed the name.
    if (this.#identity.greeted(frame)) keepMember(this.#identity.server, this.#identity.member);
    this.#heardState(frame.state, frame.paused_to ?? 0, this.#resending || frame.resync === true);
    this.#show("online");
    this.#acked(frame.ack);
    if (this.#connection.held) this.#leftovers.deliverBefore(this.#connection);
  }

  #acked(seq) {
    const { pending } = this.#journal.outbox;
    if (seq > this.#ackedTo || !pending) this.#stalled = false;
    if (!pending) this.#resending = false;
    this.#ackedTo = Math.max(this.#ackedTo, seq);
    this.#journal.acknowledged(seq);
    this.#changed();
  }

  #stall() {
    this.#stalled = true;
    this.#changed();
  }

  #received(frame) {
    if (frame?.type === "state") {
      this.#heardState(frame.state);
      this.#changed();
    } else if (frame?.type === "message") {
      this.#dispatch("message", { text: String(frame.text) });
    } else if (frame?.type === "reject") {
      this.#dispatch("reject", { seq: frame.seq, code: frame.code, message: frame.message });
    }
  }

  #heardState(state, pausedTo, unusable) {
    if (this.#pause.heard(state, this.#journal.outbox.last, pausedTo, unusable)) this.#dispatch("resync", {});
  }

  #resync() {
    this.#pause.wholeLogged(this.#journal.outbox.last);
    this.#dispatch("resync", {});
  }

  #disconnected(connection, why) {
    if (this.#connection !== connection) return;
    this.#connection = null;
    if (connection.steady) this.#retry.reset();
    if (why === "closed" || this.#closed) return;
    this.#retry.tried();
    if (why === CLOSE.token && !this.#identity.renew()) return this.#refuse("token");
    if (why === CLOSE.removed) return this.#refuse("removed");
    if (why === "renumber") this.#journal.renumber("all");
    if (why === CLOSE.elsewhere) this.#journal.renumber("unstored");
    if (why === CLOSE.frameTooLarge) this.#journal.outbox.shrink();
    if (why === CLOSE.unusable) this.#resending = true;
    const wait = this.#retry.waitAfter(why);
    // A new stream has another outbox, so the next connection must wait for it.
    this.#journal.idle.then(() => this.#connectLater(wait));
  }

  #connectLater(wait) {
    if (this.#connection || this.#closed || this.#refused) return;
    this.#retry.schedule(wait);
    this.#show("waiting");
  }

  #renumbering() {
    this.#pause.renumbered();
    this.#ackedTo = 0;
    this.#connection?.end("renumbered");
  }

  async #renumbered(which) {
    // What stayed in the old stream belongs to another tab, or is found among the leftovers.
    await this.#leftovers.count();
    this.#connection?.pump();
    if (which === "all") this.#resync();
  }

  #refuse(reason) {
    this.#refused = reason;
    this.#show("refused");
    this.#journal.save();
    this.#dispatch("refused", { reason });
  }

  #settleFlushes() {
    for (const flush of this.#flushes) {
      if (this.#journal.outbox.settled(flush.mark) && !this.#leftovers.owed) flush.resolve();
      else if (this.#refused) flush.reject(new ClassroomError("refused", "The class takes no events of this student."));
      else if (this.#closed) flush.reject(new ClassroomError("closed", "This stream was closed."));
      else continue;
      this.#flushes.delete(flush);
    }
  }

  #show(state) {
    this.#state = state;
    this.#changed();
  }

  /** Dispatch "status", once for all that changes in one go. */
  #changed() {
    this.#settleFlushes();
    if (this.#announcing) return;
    this.#announcing = true;
    queueMicrotask(() => {
      this.#announcing = false;
      this.dispatchEvent(new CustomEvent("status"));
    });
  }

  #dispatch(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
