import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { backoff, reconnectWait } from "../../../webui/client/backoff.js";
import { Outbox } from "../../../webui/client/outbox.js";
import { ClassroomStream } from "../../../webui/client/stream.js";
import { FakeSocket } from "../fake.mjs";

const SERVER = "http://class.test:8080";

const numbers = (frame) => {
  const { first, events } = JSON.parse(frame);
  return events.map((event, at) => [first + at, event.n]);
};

/** An outbox with events n = 1, 2, ... that may be sent. */
function filled(count, outbox = new Outbox("stream")) {
  for (let n = 1; n <= count; n++) outbox.add({ event: "e", n });
  outbox.stored(outbox.next - 1);
  return outbox;
}

function frames(outbox) {
  const all = [];
  for (let frame = outbox.frame(); frame !== null; frame = outbox.frame()) all.push(frame);
  return all;
}

describe("outbox", () => {
  test("numbers from 1, with the time", () => {
    const outbox = new Outbox("stream");
    assert.equal(outbox.add({ event: "a" }), 1);
    assert.equal(outbox.add({ event: "b", t: 5 }), 2);
    outbox.stored(2);
    const { type, first, events } = JSON.parse(outbox.frame());
    assert.equal(type, "events");
    assert.equal(first, 1);
    assert.ok(Math.abs(events[0].t - Date.now()) < 5000);
    assert.deepEqual(events[1], { event: "b", t: 5 });
    assert.equal(outbox.frame(), null);
  });

  test("sends nothing that is not written down", () => {
    const outbox = filled(2);
    outbox.add({ event: "e", n: 3 });
    assert.deepEqual(numbers(outbox.frame()), [
      [1, 1],
      [2, 2],
    ]);
    assert.equal(outbox.frame(), null);
    assert.deepEqual(
      outbox.unstored().map((item) => item.seq),
      [3],
    );
    outbox.stored(3);
    assert.deepEqual(numbers(outbox.frame()), [[3, 3]]);
  });

  test("never has more on its way than unacked", () => {
    const outbox = filled(25);
    outbox.welcome(0, { unacked: 10, events_per_frame: 4 });
    assert.deepEqual(
      frames(outbox).map((frame) => numbers(frame).length),
      [4, 4, 2],
    );
    outbox.ack(3);
    assert.deepEqual(
      frames(outbox).map((frame) => numbers(frame)[0][0]),
      [11],
    );
    outbox.ack(13);
    assert.equal(
      frames(outbox).reduce((sum, frame) => sum + numbers(frame).length, 0),
      10,
    );
  });

  test("frames are counted in bytes, not in characters", () => {
    const outbox = new Outbox("stream");
    outbox.welcome(0, { frame_bytes: 1024 });
    for (let n = 0; n < 20; n++) outbox.add({ event: "e", text: "é€😀".repeat(20) });
    outbox.stored(20);
    const sent = frames(outbox);
    assert.ok(sent.length >= 5);
    for (const frame of sent) assert.ok(new TextEncoder().encode(frame).length <= 1024);
    assert.equal(
      sent.reduce((sum, frame) => sum + JSON.parse(frame).events.length, 0),
      20,
    );
  });

  test("an event that can never be sent is refused at once", () => {
    const outbox = new Outbox("stream");
    outbox.welcome(0, { frame_bytes: 2000 });
    assert.throws(() => outbox.add({ event: "e", text: "€".repeat(700) }), { code: "too_large" });
    assert.throws(() => outbox.add({ event: 5 }), { code: "no_event_name" });
    assert.throws(() => outbox.add([]), { code: "not_an_object" });
    assert.throws(() => outbox.add(null), { code: "not_an_object" });
    assert.throws(() => outbox.add({ event: "e", big: 1n }), { code: "not_json" });
    assert.equal(outbox.pending, 0);
    assert.equal(outbox.next, 1);
  });

  test("an event that turns out too large keeps its number and blocks nobody", () => {
    const outbox = new Outbox("stream");
    const replaced = [];
    outbox.replaced = (seq, code) => replaced.push([seq, code]);
    outbox.add({ event: "e", n: 1 });
    outbox.add({ t: 7, event: "e", text: "x".repeat(5000) });
    outbox.add({ event: "e", n: 3 });
    outbox.stored(3);
    outbox.welcome(0, { frame_bytes: 1024 });
    const events = frames(outbox).flatMap((frame) => JSON.parse(frame).events);
    assert.equal(events.length, 3);
    assert.equal(events[1].event, "too_large");
    assert.equal(events[1].t, 7);
    assert.ok(events[1].bytes > 5000);
    assert.deepEqual(replaced, [[2, "too_large"]]);
  });

  test("a welcome drops what is durable, and the rest is sent again", () => {
    const outbox = filled(5);
    frames(outbox);
    outbox.disconnected();
    assert.equal(outbox.welcome(3), "go");
    assert.equal(outbox.pending, 2);
    assert.deepEqual(numbers(outbox.frame()), [
      [4, 4],
      [5, 5],
    ]);
  });

  test("goes on after the server's number where the storage was set back", () => {
    const outbox = new Outbox("stream", { next: 4, held: [{ seq: 3, text: '{"event":"e"}' }] });
    assert.equal(outbox.welcome(9), "go");
    assert.equal(outbox.pending, 0);
    assert.equal(outbox.add({ event: "e", n: 1 }), 10);
    outbox.stored(10);
    assert.deepEqual(numbers(outbox.frame()), [[10, 1]]);
  });

  test("an event that was never sent cannot have been acknowledged", () => {
    const outbox = new Outbox("stream", { next: 4, held: [{ seq: 3, text: '{"event":"e","n":0}' }] });
    filled(2, outbox);
    assert.equal(outbox.welcome(9), "renumber");
    const fork = outbox.fork("new");
    fork.stored(2);
    assert.deepEqual(numbers(fork.frame()), [
      [1, 1],
      [2, 2],
    ]);
  });

  test("a server without data gets everything in a new stream", () => {
    const held = [51, 52, 53].map((seq) => ({ seq, text: JSON.stringify({ event: "e", n: seq }) }));
    const outbox = new Outbox("stream", { next: 54, held });
    assert.equal(outbox.welcome(0), "renumber");
    const fork = outbox.fork("new");
    assert.equal(fork.stream, "new");
    assert.equal(fork.next, 4);
    assert.equal(fork.welcome(0), "go");
    assert.equal(fork.frame(), null);
    fork.stored(3);
    assert.deepEqual(numbers(fork.frame()), [
      [1, 51],
      [2, 52],
      [3, 53],
    ]);
    assert.equal(new Outbox("stream", { next: 54 }).welcome(0), "renumber");
    assert.equal(new Outbox("stream").welcome(0), "go");
  });

  test("a gap sends again from the number that is expected, or renumbers", () => {
    const outbox = filled(6);
    outbox.welcome(0, { events_per_frame: 2 });
    frames(outbox);
    assert.equal(outbox.gap(3), "go");
    assert.deepEqual(numbers(outbox.frame()), [
      [3, 3],
      [4, 4],
    ]);
    outbox.ack(4);
    assert.equal(outbox.gap(2), "renumber");
  });

  test("an acknowledgement that comes late or twice does no harm", () => {
    const outbox = filled(3);
    frames(outbox);
    outbox.ack(2);
    outbox.ack(2);
    outbox.ack(1);
    assert.equal(outbox.pending, 1);
    outbox.ack(3);
    assert.equal(outbox.pending, 0);
    assert.equal(outbox.frame(), null);
  });

  test("what is left to another tab is what was written down", () => {
    const outbox = filled(2);
    outbox.add({ event: "e", n: 3 });
    const fork = outbox.fork("new", "unstored");
    fork.stored(1);
    assert.deepEqual(numbers(fork.frame()), [[1, 3]]);
  });

  test("frames that the server cannot use get smaller until the one event is found", () => {
    const outbox = filled(8);
    const sizes = [];
    for (let round = 0; round < 6; round++) {
      outbox.disconnected();
      outbox.welcome(0);
      const frame = outbox.frame();
      sizes.push(JSON.parse(frame).events.length);
      if (JSON.parse(frame).events[0].event === "unsendable") break;
      outbox.unusable();
    }
    assert.deepEqual(sizes, [8, 4, 2, 1, 1]);
  });

  test("marks", () => {
    const outbox = filled(3);
    frames(outbox);
    const { mark } = outbox;
    filled(1, outbox);
    assert.equal(outbox.settled(mark), false);
    outbox.ack(3);
    assert.equal(outbox.settled(mark), true);
    assert.equal(outbox.fork("new").settled(mark), true);
  });
});

describe("coming back", () => {
  /** Numbers in [0, 1) that are the same in every run (Lehmer's generator, Park and Miller 1988). */
  const even = (seed = 42) => {
    let state = seed;
    return () => {
      state = (state * 48271) % 2147483647;
      return state / 2147483647;
    };
  };

  /** The most of some moments (in ms) that fall into one second. */
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
      const random = even(away + 1);
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

  test("1,000 that are told at once that the network is back are spread too", () => {
    const random = even();
    const back = Array.from({ length: 1000 }, () => reconnectWait(random));
    assert.ok(busiest(back) <= 400);
    assert.ok(Math.max(...back) <= 3000);
  });
});

const limits = { frame_bytes: 65536, events_per_frame: 100, unacked: 1000 };
const welcome = { type: "welcome", student_id: "s1", name: "Ada", state: "open", now: 0, limits };
const until = async (condition, rounds = 400) => {
  for (let round = 0; round < rounds; round++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail("it did not come about");
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
    // Nobody waits for long before coming back.
    Math.random = () => 0.01;
  });

  afterEach(async () => {
    Math.random = random;
    Date.now = now;
    await stream?.close();
    stream = null;
  });

  test("wants somebody who joined", async () => {
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

  test("loses nothing where the server lost its data", async () => {
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

  test("takes a new stream where another tab has this one", async () => {
    const { taken } = honest();
    stream = await ClassroomStream.open({ source: "test", server: SERVER, token: "secret" });
    await until(() => stream.connection === "online");
    FakeSocket.sockets[0].drop(4409);
    stream.log({ event: "e", n: 1 });
    await stream.flush();
    assert.notEqual(FakeSocket.sockets[1].frames[0].stream, FakeSocket.sockets[0].frames[0].stream);
    assert.equal(taken.length, 1);
  });

  test("tells of pause, messages and rejected events", async () => {
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

    /** The connection is lost, and the server greets again, with this in its welcome. */
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

    test("that was not heard of is made good, once", async () => {
      const paused_to = await log(3);
      await comeBack({ paused_to });
      assert.equal(resyncs, 1);
      assert.equal(stream.paused, false);
      await comeBack({ paused_to });
      assert.equal(resyncs, 1);
      await comeBack({ paused_to: await log(2) });
      assert.equal(resyncs, 2);
    });

    test("of which the whole was taken too is made good once more", async () => {
      await comeBack({ paused_to: await log(3) });
      await stream.flush();
      await comeBack({ paused_to: socket.last() });
      assert.equal(resyncs, 2);
    });

    test("that there never was is not made good", async () => {
      await log(3);
      await comeBack({});
      assert.equal(resyncs, 0);
    });

    for (const how of ["state", "welcome"])
      test(`whose end the page sees from the ${how} is the page's own to make good`, async () => {
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

    test("that goes on is made good when it ends", async () => {
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

  test("times go on where the clock is set back, and follow it where it is set on", async () => {
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

  test("tells where an acknowledgement is long in coming, until it comes", async () => {
    FakeSocket.answer = (socket, frame) => frame.type === "hello" && socket.say({ ...welcome, ack: 0 });
    stream = await ClassroomStream.open({ source: "test", server: SERVER, token: "secret" });
    stream.log({ event: "e" });
    await until(() => FakeSocket.sockets[0].frames.length === 2);
    assert.equal(stream.stalled, false);
    let told = 0;
    stream.addEventListener("status", () => told++);
    await until(() => stream.stalled, 1000);
    assert.ok(told > 0);
    assert.equal(stream.connection, "online");
    FakeSocket.sockets[0].say({ type: "ack", seq: 1 });
    assert.equal(stream.stalled, false);
  });

  test("after a sleep the connection is made anew, since the old one may be dead", async () => {
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

  test("does not hurry back where there are too many", async () => {
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

describe("joining", () => {
  const { fetch } = globalThis;
  let asked;

  const answering = (status, body, headers = {}) => {
    globalThis.fetch = async (url, init) => {
      asked = { url, ...init };
      return new Response(JSON.stringify(body), { status, headers });
    };
  };

  afterEach(async () => {
    globalThis.fetch = fetch;
    await ClassroomStream.forget({ server: SERVER });
  });

  test("keeps who joined, and shows the token when the browser comes back", async () => {
    answering(200, { token: "t1", student_id: "s1", name: "Ada", class_id: "c1" });
    const joined = await ClassroomStream.join({ server: SERVER, code: "ABC-234", name: "Ada" });
    assert.deepEqual(joined, { token: "t1", student_id: "s1", name: "Ada", class_id: "c1" });
    assert.equal(asked.url, `${SERVER}/api/v1/join`);
    assert.deepEqual(JSON.parse(asked.body), { code: "ABC-234", name: "Ada" });
    assert.deepEqual(await ClassroomStream.member({ server: SERVER }), {
      student_id: "s1",
      name: "Ada",
      class_id: "c1",
    });

    await ClassroomStream.join({ server: SERVER, code: "ABC-234", studentId: "0042" });
    assert.deepEqual(JSON.parse(asked.body), { code: "ABC-234", student_id: "0042", token: "t1" });

    await ClassroomStream.forget({ server: SERVER });
    assert.equal(await ClassroomStream.member({ server: SERVER }), null);
    assert.equal(await ClassroomStream.me({ server: SERVER }), null);
  });

  test("who am I", async () => {
    answering(200, { token: "t1", student_id: "s1", name: "Ada", class_id: "c1" });
    await ClassroomStream.join({ server: SERVER, code: "ABC-234", name: "Ada" });
    answering(200, { student_id: "s1", name: "Ada", class_id: "c1", class_title: "English" });
    assert.equal((await ClassroomStream.me({ server: SERVER })).class_title, "English");
    assert.equal(asked.headers.Authorization, "Bearer t1");
    assert.ok(!asked.url.includes("t1"));
    answering(401, { error: { code: "bad_token", message: "." } });
    assert.equal(await ClassroomStream.me({ server: SERVER }), null);
  });

  test("errors carry the server's code, message and how long to wait", async () => {
    answering(403, { error: { code: "wrong_code", message: "No class has this code." } });
    const join = () => ClassroomStream.join({ server: SERVER, code: "x", name: "Ada" });
    await assert.rejects(join(), { code: "wrong_code", message: "No class has this code.", status: 403 });
    answering(429, { error: { code: "too_many_tries", message: "Wait." } }, { "Retry-After": "42" });
    await assert.rejects(join(), { code: "too_many_tries", retryAfter: 42 });
    globalThis.fetch = async () => new Response("<html>", { status: 502 });
    await assert.rejects(join(), { code: "bad_answer", status: 502 });
    globalThis.fetch = async () => {
      throw new TypeError("no network");
    };
    await assert.rejects(join(), { code: "offline" });
  });
});
