// When a page must log its whole state again after a pause that it could not see.

import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { Pause } from "../../../webui/client/pause.js";

describe("a pause", () => {
  let pause;

  beforeEach(() => {
    pause = new Pause();
  });

  test("whose end the page sees needs no further sign", () => {
    assert.equal(pause.heard("paused", 3), false);
    assert.equal(pause.paused, true);
    assert.equal(pause.heard("open", 5, 4), false);
    assert.equal(pause.paused, false);
    assert.equal(pause.heard("open", 6, 4), false);
  });

  test("that the page missed makes it log its whole state, once", () => {
    assert.equal(pause.heard("open", 5, 3), true);
    assert.equal(pause.heard("open", 6, 3), false);
    assert.equal(pause.heard("open", 9, 7), true);
  });

  test("is not the only reason: the server may not have used events", () => {
    assert.equal(pause.heard("open", 5, 0, true), true);
  });

  test("counts by the numbers of the new stream after a renumbering", () => {
    pause.wholeLogged(50);
    assert.equal(pause.heard("open", 60, 40), false);
    pause.renumbered();
    assert.equal(pause.heard("open", 12, 10), true);
  });
});
