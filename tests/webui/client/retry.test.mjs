// When the next connection is tried, and what may shorten the wait.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";

import { Retry } from "../../../webui/client/retry.js";
import { aClock } from "../fake.mjs";

describe("the next attempt", () => {
  const { random } = Math;
  let clock;
  let attempts;
  let retry;

  beforeEach(() => {
    clock = aClock();
    Math.random = () => 0.5;
    attempts = 0;
    retry = new Retry(() => attempts++);
  });

  afterEach(() => {
    retry.stop();
    clock.end();
    Math.random = random;
  });

  test("comes after the fixed and the random part of the wait", async () => {
    retry.schedule([1000, 2000]);
    await clock.pass(2900);
    assert.equal(attempts, 0);
    await clock.pass(200);
    assert.equal(attempts, 1);
  });

  test("comes sooner when the student types, but not within the fixed part", async () => {
    retry.tried();
    retry.schedule([3000, 30_000]);
    await clock.pass(2900);
    retry.atWork();
    retry.hurry();
    assert.equal(attempts, 0);
    await clock.pass(200);
    retry.atWork();
    assert.equal(attempts, 1);
  });

  test("is not put off by a second sign that the network is back", async () => {
    retry.schedule([0, 30_000]);
    retry.hurry();
    await clock.pass(1000);
    retry.hurry();
    await clock.pass(600);
    assert.equal(attempts, 1);
  });

  test("waits longer when the server is busy, or gets a bad hello twice", () => {
    assert.deepEqual(retry.waitAfter(1006), [0, 2000]);
    assert.deepEqual(retry.waitAfter(4429), [5000, 4000]);
    assert.deepEqual(retry.waitAfter(4400)[0], 0);
    assert.deepEqual(retry.waitAfter(4400)[0], 30_000);
    retry.reset();
    assert.deepEqual(retry.waitAfter(4400), [0, 2000]);
    assert.deepEqual(retry.waitAfter("asleep"), [0, 1500]);
  });

  test("never comes after a stop", async () => {
    retry.schedule([0, 1000]);
    retry.stop();
    await clock.pass(5000);
    assert.equal(attempts, 0);
  });
});
