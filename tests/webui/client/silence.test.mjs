// Connections that are silent, refused or lost: how soon a page notices, and when it tries again.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";

import { ClassroomStream } from "../../../webui/client/stream.js";
import { aNetwork, FakeSocket, settle } from "../fake.mjs";

const limits = { frame_bytes: 65536, events_per_frame: 100, unacked: 1000 };
let clock;

beforeEach(() => {
  clock = aNetwork();
});

afterEach(() => clock.end());

const last = () => FakeSocket.sockets.at(-1);
const opened = () => FakeSocket.sockets.length;

describe("a student's stream", () => {
  let stream;
  let ack;
  let more;

  const greet = (socket, frame) => {
    if (frame.type === "hello")
      return socket.say({ type: "welcome", student_id: "s", name: "A", state: "open", now: 0, limits, ack, ...more });
    ack = frame.first + frame.events.length - 1;
    socket.say({ type: "ack", seq: ack });
  };

  /** The server sends a sign of life every 5 s. */
  const alive = async (seconds) => {
    for (let at = 0; at < seconds; at += 5) {
      await clock.pass(5000);
      last().say({ type: "alive", now: Date.now() });
    }
  };

  beforeEach(async () => {
    ack = 0;
    more = {};
    FakeSocket.answer = greet;
    stream = await ClassroomStream.open({ source: "test", server: "http://class.test", token: "t".repeat(200) });
    await settle();
    assert.equal(stream.connection, "online");
  });

  afterEach(async () => {
    FakeSocket.answer = greet;
    const closing = stream.close();
    await clock.pass(3000);
    await closing;
  });

  test("stays open while signs of life come, without an event for the page", async () => {
    const heard = [];
    for (const name of ["message", "reject", "resync", "refused"])
      stream.addEventListener(name, () => heard.push(name));
    await alive(120);
    assert.equal(stream.connection, "online");
    assert.equal(opened(), 1);
    assert.deepEqual(heard, []);
  });

  test("is lost after 12 s of silence, also when no acknowledgement is due", async () => {
    await alive(10);
    await clock.pass(11_000);
    assert.equal(stream.connection, "online");
    await clock.pass(2500);
    assert.equal(stream.connection, "waiting");
    assert.equal(FakeSocket.sockets[0].readyState, 3);
  });

  test("is not lost when the page was blocked and frames are not read yet", async () => {
    await clock.jump(30_000);
    assert.equal(opened(), 1);
    last().say({ type: "alive", now: 0 });
    await clock.pass(5000);
    assert.equal(stream.connection, "online");
    await clock.jump(30_000);
    await clock.pass(1500);
    assert.equal(stream.connection, "waiting");
  });

  test("sends the hello and nothing else before the welcome, in less than 4 KB", async () => {
    FakeSocket.answer = () => {};
    last().drop(1006);
    for (let n = 0; n < 200; n++) stream.log({ event: "e", text: "x".repeat(100) });
    await clock.pass(8000);
    const [hello, ...others] = last().frames;
    assert.equal(opened(), 2);
    assert.equal(hello.type, "hello");
    assert.deepEqual(others, []);
    assert.ok(JSON.stringify(hello).length < 4096);
  });

  test("tries again when the student types, at most once a second", async () => {
    FakeSocket.answer = (socket) => socket.drop(1006);
    last().drop(1006);
    // The back-off grows to half a minute.
    await clock.pass(70_000);
    const before = opened();
    stream.log({ event: "e" });
    await settle();
    assert.equal(opened(), before + 1, "at once");
    for (let n = 0; n < 100; n++) {
      stream.log({ event: "e" });
      await clock.pass(100);
    }
    const tries = opened() - before - 1;
    assert.ok(tries >= 3 && tries <= 10, `${tries} tries in 10 s`);
    FakeSocket.answer = greet;
    await clock.pass(3000);
    stream.log({ event: "e" });
    await settle();
    assert.equal(stream.connection, "online");
  });

  test("is not tried sooner when the server is full or a backend is away", async () => {
    for (const code of [1013, 4429, 4503]) {
      const before = opened();
      last().drop(code);
      for (let n = 0; n < 49; n++) {
        stream.log({ event: "e" });
        await clock.pass(100);
      }
      assert.equal(opened(), before, `${code}`);
      await clock.pass(60_000);
      assert.equal(stream.connection, "online");
      await alive(15);
    }
  });

  test("waits long after a bad hello only the second time in a row", async () => {
    Math.random = () => 0;
    last().drop(4400);
    await clock.pass(1000);
    assert.equal(opened(), 2);
    assert.equal(stream.connection, "online");
    last().drop(4400);
    await clock.pass(29_000);
    assert.equal(opened(), 2);
    await clock.pass(2000);
    assert.equal(opened(), 3);
    // After a connection that lasted, counting starts again.
    await alive(15);
    last().drop(4400);
    await clock.pass(1000);
    assert.equal(opened(), 4);
  });

  test("shows that the server could not use events, and asks for all again", async () => {
    const asked = [];
    stream.addEventListener("resync", () => {
      asked.push(opened());
      stream.log({ event: "whole" });
    });
    FakeSocket.answer = (socket, frame) => {
      if (frame.type === "hello") return greet(socket, frame);
      ack = frame.first + frame.events.length - 1;
      more = { resync: true };
      socket.drop(4422, "the stream's events cannot be taken");
    };
    stream.log({ event: "bad" });
    await clock.pass(200);
    assert.equal(stream.resending, true);
    assert.equal(stream.connection, "waiting");
    // Typing does not shorten the wait, and it grows.
    for (let n = 0; n < 18; n++) {
      stream.log({ event: "e" });
      await clock.pass(100);
    }
    assert.equal(opened(), 1);
    await clock.pass(4500);
    assert.equal(opened(), 2);
    assert.equal(stream.resending, true);
    await clock.pass(10_000);
    assert.equal(opened(), 2);
    FakeSocket.answer = greet;
    await clock.pass(2500);
    assert.equal(opened(), 3);
    assert.equal(stream.resending, false);
    assert.equal(stream.pending, 0);
    assert.deepEqual(asked, [2, 3]);
  });

  test("asks for all again when the welcome wants it", async () => {
    let asked = 0;
    stream.addEventListener("resync", () => asked++);
    more = { resync: true };
    last().drop(1006);
    await clock.pass(5000);
    assert.equal(asked, 1);
    assert.equal(stream.resending, false);
    more = {};
    last().drop(1006);
    await clock.pass(10_000);
    assert.equal(opened(), 3);
    assert.equal(asked, 1);
  });
});
