import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";

import { ClassroomStream } from "../../../webui/client/stream.js";
import { FakeSocket } from "../fake.mjs";

const SERVER = "http://class.test:8080";
const limits = { frame_bytes: 65536, events_per_frame: 100, unacked: 1000 };
const welcome = { type: "welcome", student_id: "s1", name: "Ada", state: "open", now: 0, limits };
const until = async (condition, rounds = 400) => {
  for (let round = 0; round < rounds; round++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail("waited in vain");
};

/** Acknowledges all that comes, and keeps it in `taken`. */
function honest() {
  const streams = new Map();
  const taken = [];
  FakeSocket.answer = (socket, frame) => {
    if (frame.type === "hello") {
      socket.stream = frame.stream;
      return socket.say({ ...welcome, ack: streams.get(frame.stream) ?? 0 });
    }
    const last = streams.get(socket.stream) ?? 0;
    if (frame.first > last + 1) return socket.say({ type: "gap", expected: last + 1 });
    taken.push(...frame.events.slice(last + 1 - frame.first));
    streams.set(socket.stream, frame.first + frame.events.length - 1);
    socket.say({ type: "ack", seq: streams.get(socket.stream) });
  };
  return { streams, taken };
}

describe("stream", () => {
  const { random } = Math;
  const { now } = Date;
  let stream;

  beforeEach(() => {
    globalThis.WebSocket = FakeSocket;
    FakeSocket.sockets = [];
    // Every wait is short.
    Math.random = () => 0.01;
  });

  afterEach(async () => {
    Math.random = random;
    Date.now = now;
    await stream?.close();
    stream = null;
  });

  test("needs a student who has joined", async () => {
    await assert.rejects(ClassroomStream.open({ source: "test", server: SERVER }), { code: "not_joined" });
  });

  test("says hello, gathers, and flushes", async () => {
    const { taken } = honest();
    stream = await ClassroomStream.open({ source: "test", server: SERVER, token: "secret" });
    for (let n = 1; n <= 5; n++) stream.log({ event: "e", n });
    assert.equal(stream.pending, 5);
    await stream.flush();
    assert.equal(stream.pending, 0);
    assert.equal(stream.durable, false);
    assert.equal(stream.connection, "online");
    assert.equal(stream.student.name, "Ada");
    const [socket] = FakeSocket.sockets;
    assert.equal(socket.url, "ws://class.test:8080/ws/events");
    const { now, stream: id, ...hello } = socket.frames[0];
    assert.deepEqual(hello, { type: "hello", protocol: 1, token: "secret", source: "test" });
    assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.equal(socket.frames.length, 2);
    assert.deepEqual(
      taken.map((event) => event.n),
      [1, 2, 3, 4, 5],
    );
  });

  test("comes back after a lost connection and sends the rest again", async () => {
    const { taken } = honest();
    stream = await ClassroomStream.open({ source: "test", server: SERVER, token: "secret" });
    stream.log({ event: "e", n: 1 });
    await stream.flush();
    FakeSocket.sockets[0].drop(1006);
    assert.equal(stream.pending, 0);
    stream.log({ event: "e", n: 2 });
    await until(() => stream.connection === "waiting");
    await stream.flush();
    assert.equal(FakeSocket.sockets.length, 2);
    assert.equal(FakeSocket.sockets[1].frames[0].stream, FakeSocket.sockets[0].frames[0].stream);
    assert.deepEqual(
      taken.map((event) => event.n),
      [1, 2],
    );
  });

  test("loses nothing when the server lost its data", async () => {
    const { streams, taken } = honest();
    stream = await ClassroomStream.open({ source: "test", server: SERVER, token: "secret" });
    stream.log({ event: "e", n: 1 });
    await stream.flush();
    streams.clear();
    FakeSocket.sockets[0].drop(1006);
    stream.log({ event: "e", n: 2 });
    stream.log({ event: "e", n: 3 });
    await stream.flush();
    assert.deepEqual(
      taken.map((event) => event.n),
      [1, 2, 3],
    );
    assert.equal(streams.size, 1);
    assert.notEqual([...streams.keys()][0], FakeSocket.sockets[0].frames[0].stream);
  });

  test("takes a new stream when another tab has this one", async () => {
    const { taken } = honest();
    stream = await ClassroomStream.open({ source: "test", server: SERVER, token: "secret" });
    await until(() => stream.connection === "online");
    FakeSocket.sockets[0].drop(4409);
    stream.log({ event: "e", n: 1 });
    await stream.flush();
    assert.notEqual(FakeSocket.sockets[1].frames[0].stream, FakeSocket.sockets[0].frames[0].stream);
    assert.equal(taken.length, 1);
  });

  test("reports a pause, messages and rejected events", async () => {
    honest();
    stream = await ClassroomStream.open({ source: "test", server: SERVER, token: "secret" });
    const heard = [];
    for (const name of ["message", "reject"]) stream.addEventListener(name, ({ detail }) => heard.push(detail));
    await until(() => stream.connection === "online");
    const [socket] = FakeSocket.sockets;
    socket.say({ type: "state", state: "paused" });
    assert.equal(stream.paused, true);
    socket.say({ type: "state", state: "open" });
    assert.equal(stream.paused, false);
    socket.say({ type: "message", text: "Two more minutes" });
    socket.say({ type: "reject", seq: 4, code: "too_deep", message: "..." });
    assert.deepEqual(heard, [{ text: "Two more minutes" }, { seq: 4, code: "too_deep", message: "..." }]);
  });

  describe("a pause", () => {
    let socket;
    let resyncs;

    /** Log, and give the number of the last event. */
    const log = async (count) => {
      for (let n = 0; n < count; n++) stream.log({ event: "e" });
      await stream.flush();
      return socket.last();
    };

    /** The connection is lost, and the next welcome has these fields. */
    const comeBack = async (fields) => {
      more = fields;
      socket.drop(1006);
      await until(() => FakeSocket.sockets.at(-1) !== socket && stream.connection === "online");
      socket = FakeSocket.sockets.at(-1);
    };

    let more = {};

    beforeEach(async () => {
      more = {};
      const { streams } = honest();
      const { answer } = FakeSocket;
      FakeSocket.answer = (at, frame) => {
        if (frame.type !== "hello") return answer(at, frame);
        at.stream = frame.stream;
        at.last = () => streams.get(at.stream) ?? 0;
        at.say({ ...welcome, ack: at.last(), ...more });
      };
      stream = await ClassroomStream.open({ source: "test", server: SERVER, token: "secret" });
      resyncs = 0;
      stream.addEventListener("resync", () => {
        resyncs++;
        stream.log({ event: "whole" });
      });
      await until(() => stream.connection === "online");
      [socket] = FakeSocket.sockets;
    });

    test("that the page missed is repaired, once", async () => {
      const paused_to = await log(3);
      await comeBack({ paused_to });
      assert.equal(resyncs, 1);
      assert.equal(stream.paused, false);
      await comeBack({ paused_to });
      assert.equal(resyncs, 1);
      await comeBack({ paused_to: await log(2) });
      assert.equal(resyncs, 2);
    });

    test("that also took the whole state is repaired once more", async () => {
      await comeBack({ paused_to: await log(3) });
      await stream.flush();
      await comeBack({ paused_to: socket.last() });
      assert.equal(resyncs, 2);
    });

    test("that never was is not repaired", async () => {
      await log(3);
      await comeBack({});
      assert.equal(resyncs, 0);
    });

    for (const how of ["state", "welcome"])
      test(`whose end the page sees from the ${how} is repaired by the page itself`, async () => {
        socket.say({ type: "state", state: "paused" });
        const paused_to = await log(3);
        if (how === "state") socket.say({ type: "state", state: "open" });
        else await comeBack({ paused_to });
        assert.equal(stream.paused, false);
        await comeBack({ paused_to });
        assert.equal(resyncs, 0);
        await comeBack({ paused_to: await log(1) });
        assert.equal(resyncs, 1);
      });

    test("that continues is repaired when it ends", async () => {
      const paused_to = await log(3);
      await comeBack({ paused_to, state: "paused" });
      assert.equal(stream.paused, true);
      assert.equal(resyncs, 0);
      socket.say({ type: "state", state: "open" });
      assert.equal(stream.paused, false);
      await comeBack({ paused_to });
      assert.equal(resyncs, 0);
    });
  });

  for (const [code, reason] of [
    [4401, "token"],
    [4403, "removed"],
  ])
    test(`stops at ${code}`, async () => {
      honest();
      stream = await ClassroomStream.open({ source: "test", server: SERVER, token: "secret" });
      await until(() => stream.connection === "online");
      let refused = null;
      stream.addEventListener("refused", ({ detail }) => {
        refused = detail.reason;
      });
      stream.log({ event: "e", n: 1 });
      FakeSocket.sockets[0].drop(code);
      assert.equal(refused, reason);
      assert.equal(stream.connection, "refused");
      assert.equal(stream.pending, 1);
      await assert.rejects(stream.flush(), { code: "refused" });
      await new Promise((resolve) => setTimeout(resolve, 1200));
      assert.equal(FakeSocket.sockets.length, 1);
    });

  test("times continue when the clock is set back, and follow it when it is set forward", async () => {
    const { taken } = honest();
    stream = await ClassroomStream.open({ source: "test", server: SERVER, token: "secret" });
    for (const set of [0, -86_400_000, -86_400_000 - 500, 3_600_000]) {
      Date.now = () => now() + set;
      stream.log({ event: "e" });
    }
    await stream.flush();
    const [first, back, alike, on] = taken.map((event) => event.t);
    assert.ok(back >= first && back < first + 1000);
    assert.ok(Math.abs(alike - back) < 1000);
    assert.ok(on - alike > 3_600_000);
  });

  test("shows that an acknowledgement takes long, until it comes", async () => {
    FakeSocket.answer = (socket, frame) => frame.type === "hello" && socket.say({ ...welcome, ack: 0 });
    stream = await ClassroomStream.open({ source: "test", server: SERVER, token: "secret" });
    stream.log({ event: "e" });
    await until(() => FakeSocket.sockets[0].frames.length === 2);
    assert.equal(stream.stalled, false);
    let changes = 0;
    stream.addEventListener("status", () => changes++);
    await until(() => stream.stalled, 1000);
    assert.ok(changes > 0);
    assert.equal(stream.connection, "online");
    FakeSocket.sockets[0].say({ type: "ack", seq: 1 });
    assert.equal(stream.stalled, false);
  });

  test("after a sleep the connection is opened again, since the old one may be dead", async () => {
    const { taken } = honest();
    stream = await ClassroomStream.open({ source: "test", server: SERVER, token: "secret" });
    await until(() => stream.connection === "online");
    FakeSocket.answer = () => {};
    stream.log({ event: "e", n: 1 });
    await until(() => FakeSocket.sockets[0].frames.length === 2);
    const { taken: later } = honest();
    Date.now = () => now() + 3_600_000;
    await stream.flush();
    assert.equal(FakeSocket.sockets.length, 2);
    assert.deepEqual([taken.length, later.length], [0, 1]);
  });

  test("does not come back soon when the server is full", async () => {
    FakeSocket.answer = (socket) => socket.drop(4429);
    stream = await ClassroomStream.open({ source: "test", server: SERVER, token: "secret" });
    await new Promise((resolve) => setTimeout(resolve, 2000));
    assert.equal(FakeSocket.sockets.length, 1);
    assert.equal(stream.connection, "waiting");
  });

  test("nothing can be logged to a closed stream", async () => {
    honest();
    const closed = await ClassroomStream.open({ source: "test", server: SERVER, token: "secret" });
    await closed.close();
    assert.throws(() => closed.log({ event: "e" }), { code: "closed" });
    assert.equal(closed.connection, "closed");
  });
});
