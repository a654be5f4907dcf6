// What the foot of the writing page says of the text, which must be true in every case.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { saveStatus } from "../../../webui/student/save-status.js";

const LEADS = { leads: true, follows: false };
const FOLLOWS = { leads: false, follows: true };
const stream = (fields = {}) => ({
  connection: "online",
  pending: 0,
  durable: true,
  stalled: false,
  resending: false,
  refused: null,
  ...fields,
});
const says = (fields, tabs = LEADS) => saveStatus(stream(fields), tabs);

describe("the writing page says", () => {
  test("saved only when the server has everything", () => {
    assert.deepEqual(says({}), { state: "saved", sentence: "Saved" });
    assert.deepEqual(says({}, FOLLOWS), { state: "elsewhere", sentence: "Shown from another tab" });
    for (const fields of [{ pending: 1 }, { connection: "connecting" }]) assert.equal(says(fields).state, "saving");
    assert.equal(saveStatus(null, LEADS).state, "saving");
    assert.equal(says({}, { leads: false, follows: false }).state, "saving");
  });

  test("where the text is without a connection", () => {
    assert.equal(says({ connection: "waiting" }).sentence, "Saved. No connection right now. Keep writing.");
    const held = says({ connection: "waiting", pending: 3 });
    assert.equal(held.state, "waiting");
    assert.match(held.sentence, /^No connection\. Your work is safe on this device and is sent later\./);
    assert.match(says({ connection: "waiting", pending: 3, durable: false }).sentence, /only in this page/);
  });

  test("that saving takes long", () => {
    assert.match(says({ pending: 1, stalled: true }).sentence, /^Saving takes longer than usual\. Your work is safe/);
  });

  test("that some changes are sent again", () => {
    assert.match(says({ resending: true, connection: "waiting" }).sentence, /could not be used/);
  });

  test("that the class takes nothing of this student", () => {
    const refused = { connection: "refused", refused: "token" };
    assert.equal(says({ ...refused, pending: 1200 }).sentence, "1,200 changes not sent yet.");
    assert.equal(says(refused).sentence, "You are not in the class any more.");
    assert.match(says({ ...refused, refused: "removed" }).sentence, /^Your teacher removed you\./);
  });
});
