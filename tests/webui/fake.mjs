// What the tests of connections share: a server of one's own, and time that passes when the test says so.

import { mock } from "node:test";

/** A server for one test: every socket that is opened is in `sockets`, and `frames` has what came. */
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

/** Whatever was begun goes on until it waits for time to pass. */
export async function settle() {
  for (let round = 0; round < 20; round++) await new Promise((resolve) => setImmediate(resolve));
}

/** Time for timers, the date and `performance.now`; `pass(ms)` lets it pass, `end()` gives the true one back. */
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
    /** The page is held up: time passes in which none of its timers runs, and then they all do. */
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
