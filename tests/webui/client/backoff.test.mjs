// When pages connect again: at random, so that a class does not come back in one moment.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { backoff, reconnectWait, typingInterval } from "../../../webui/client/backoff.js";

describe("coming back", () => {
  /** Numbers in [0, 1) that are the same in every run (Lehmer's generator, Park and Miller 1988). */
  const uniform = (seed = 42) => {
    let state = seed;
    return () => {
      state = (state * 48271) % 2147483647;
      return state / 2147483647;
    };
  };

  /** The largest number of times (in ms) within one second. */
  const busiest = (moments) => {
    const sorted = moments.toSorted((a, b) => a - b);
    let most = 0;
    for (let from = 0, to = 0; to < sorted.length; to++) {
      while (sorted[to] - sorted[from] >= 1000) from++;
      most = Math.max(most, to - from + 1);
    }
    return most;
  };

  test("1,000 that are cut off at once are spread over seconds, however long the server is away", () => {
    for (const away of [0, 1000, 3000, 5000, 10_000, 30_000, 60_000, 600_000]) {
      const random = uniform(away + 1);
      const back = Array.from({ length: 1000 }, () => {
        let now = 0;
        let attempt = 0;
        do now += backoff(++attempt, random);
        while (now < away);
        return now;
      });
      assert.ok(busiest(back) <= 350, `${busiest(back)} in one second after ${away} ms`);
      assert.ok(Math.max(...back) - away <= 30_000);
    }
  });

  test("1,000 whose network comes back at once are spread too", () => {
    const random = uniform();
    const back = Array.from({ length: 1000 }, () => reconnectWait(random));
    assert.ok(busiest(back) <= 400);
    assert.ok(Math.max(...back) <= 3000);
  });
});

test("1,000 students who type on while the server is away come back over seconds", () => {
  let state = 42;
  const uniform = () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
  const back = Array.from({ length: 1000 }, () => typingInterval(uniform));
  assert.ok(Math.min(...back) >= 1000 && Math.max(...back) <= 3000);
  for (let from = 1000; from < 3000; from += 500)
    assert.ok(back.filter((at) => at >= from && at < from + 500).length < 300);
});
