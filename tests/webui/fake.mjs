// What tests of connections share: a fake server, and a clock that the test moves.

import { mock } from "node:test";

/** A WebSocket to a fake server: `sockets` has every one that was opened, and `frames` what it received. */
export class FakeSocket {
  static sockets = [];
  static answer = () => {};
  readyState = 0;
  bufferedAmount = 0;
  frames = [];

  constructor(url) {
    this.url = url;
    FakeSocket.sockets.push(this);
    queueMicrotask(() => {
      this.readyState = 1;
      this.onopen?.();
    });
  }

  send(text) {
    const frame = JSON.parse(text);
    this.frames.push(frame);
    queueMicrotask(() => FakeSocket.answer(this, frame));
  }

  say(frame) {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }

  drop(code, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  close() {
    this.readyState = 3;
  }
}

/** Run everything that was begun until it waits for a timer. */
export async function settle() {
  for (let round = 0; round < 20; round++) await new Promise((resolve) => setImmediate(resolve));
}

/** A clock for timers, the date and `performance.now`: `pass(ms)` moves it, `end()` restores the real one. */
export function aClock() {
  let passed = 0;
  const { performance } = globalThis;
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_700_000_000_000 });
  mock.method(performance, "now", () => passed);
  return {
    async pass(ms) {
      for (const end = passed + ms; passed < end; ) {
        const step = Math.min(50, end - passed);
        passed += step;
        mock.timers.tick(step);
        await settle();
      }
    },
    /** The page is blocked: time passes in which no timer runs, and then all that are due do. */
    async jump(ms) {
      passed += ms;
      mock.timers.setTime(Date.now() + ms);
      await settle();
    },
    end() {
      mock.timers.reset();
      mock.restoreAll();
    },
  };
}

/** A clock of one's own, as `aClock`, and fake sockets; every random wait is as long as it may be. */
export function aNetwork() {
  const clock = aClock();
  globalThis.WebSocket = FakeSocket;
  FakeSocket.sockets = [];
  FakeSocket.answer = () => {};
  // The clock's `end` restores it.
  mock.method(Math, "random", () => 0.999);
  return clock;
}
