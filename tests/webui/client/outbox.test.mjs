import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Outbox } from "../../../webui/client/outbox.js";

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

  test("sends nothing that is not stored", () => {
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

  test("never has more events on their way than unacked", () => {
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

  test("continues after the server's number when the storage was set back", () => {
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

  test("another tab gets what is stored", () => {
    const outbox = filled(2);
    outbox.add({ event: "e", n: 3 });
    const fork = outbox.fork("new", "unstored");
    fork.stored(1);
    assert.deepEqual(numbers(fork.frame()), [[1, 3]]);
  });

  test("unusable frames become smaller until the one event is found", () => {
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

  test("a mark is settled when all before it is acknowledged", () => {
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
