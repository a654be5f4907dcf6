// The dashboard's connection: how soon it is given up when silent, and when the next one is tried.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";

import { DashboardConnection, waitBefore } from "../../../webui/teacher/connection.js";
import { aNetwork, FakeSocket, settle } from "../fake.mjs";

let clock;

beforeEach(() => {
  clock = aNetwork();
});

afterEach(() => clock.end());

const last = () => FakeSocket.sockets.at(-1);
const opened = () => FakeSocket.sockets.length;

describe("a dashboard's connection", () => {
  let heard;
  let lost;
  let link;

  beforeEach(async () => {
    heard = [];
    lost = [];
    const page = { heard: (frame) => heard.push(frame.type), lost: (reason) => lost.push(reason) };
    link = new DashboardConnection("ws://class.test/ws/dashboard", page);
    link.start();
    await settle();
  });

  afterEach(() => link.stop());

  test("is lost after 12 s of silence, and opened again", async () => {
    last().say({ type: "snapshot" });
    for (let n = 0; n < 10; n++) {
      await clock.pass(5000);
      last().say({ type: "alive" });
    }
    assert.deepEqual(lost, []);
    await clock.pass(11_500);
    assert.deepEqual(lost, []);
    await clock.pass(1500);
    assert.deepEqual(lost, [""]);
    assert.equal(FakeSocket.sockets[0].readyState, 3);
    await clock.pass(1500);
    assert.equal(opened(), 2);
    // A frame of the dead one is out of date.
    FakeSocket.sockets[0].say({ type: "update" });
    assert.equal(heard.includes("update"), false);
  });

  test("is given up when nothing ever comes, and attempts become rarer", async () => {
    await clock.pass(13_000);
    assert.deepEqual(lost, [""]);
    await clock.pass(120_000);
    assert.ok(opened() >= 5 && opened() <= 9, `${opened()}`);
  });

  test("passes on the reason of the server, and waits longer for a busy one", async () => {
    last().drop(1013, "The store does not answer.");
    assert.deepEqual(lost, ["The store does not answer."]);
    link.hurry();
    await clock.pass(1900);
    assert.equal(opened(), 1);
    await clock.pass(1500);
    assert.equal(opened(), 2);
    last().drop(1006);
    assert.deepEqual(lost.slice(1), [""]);
  });

  test("is tried soon when the network is back, however often the browser says so", async () => {
    for (let n = 0; n < 6; n++) {
      last().drop(1006);
      await clock.pass(16_000);
    }
    last().drop(1006);
    const before = opened();
    for (let n = 0; n < 12; n++) {
      link.hurry();
      await clock.pass(100);
    }
    assert.equal(opened(), before + 1);
  });

  test("is given up at once when dead and the page is seen again", async () => {
    last().say({ type: "snapshot" });
    await clock.jump(13_000);
    assert.deepEqual(lost, []);
    link.hurry();
    assert.deepEqual(lost, [""]);
  });

  test("ends with a frame that is no JSON, and for good with stop", async () => {
    last().onmessage({ data: "{" });
    assert.equal(lost.length, 1);
    link.stop();
    await clock.pass(60_000);
    assert.equal(opened(), 1);
  });

  test("the wait is random and bounded", () => {
    assert.equal(
      waitBefore(1, 1006, () => 0),
      200,
    );
    assert.ok(waitBefore(50, 1006, () => 0.999) <= 15_200);
    assert.ok(waitBefore(1, 4503, () => 0) >= 2000);
  });
});
