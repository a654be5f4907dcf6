// Tabs of one student: one leads, and nothing that was typed is lost.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";

import { merge } from "../../../webui/student/edits.js";
import { Tabs } from "../../../webui/student/tabs.js";
import { aClock, settle } from "../fake.mjs";

/** All channels of one browser: a frozen one receives later, a dead one never. */
class Browser {
  channels = new Set();
  said = [];

  channel() {
    const browser = this;
    return class {
      constructor(name) {
        Object.assign(this, { name, frozen: false, dead: false, kept: [] });
        browser.channels.add(this);
        browser.newest = this;
      }

      postMessage(message) {
        if (this.dead) return;
        const text = JSON.stringify(message);
        browser.said.push(JSON.parse(text));
        for (const other of browser.channels)
          if (other !== this && other.name === this.name && !other.dead) other.take(JSON.parse(text));
      }

      take(data) {
        if (this.frozen) this.kept.push(data);
        else queueMicrotask(() => this.onmessage?.({ data }));
      }

      thaw() {
        this.frozen = false;
        for (const data of this.kept.splice(0)) this.take(data);
      }

      close() {
        browser.channels.delete(this);
      }
    };
  }
}

/** A page that records the calls it gets. */
function aPage(text = "") {
  const page = { text, calls: [], owed: 0, raised: false };
  page.read = () => ({ text: page.text });
  page.lead = (state) => {
    if (state) page.text = state.text;
    page.base = page.text;
    page.calls.push("lead");
  };
  page.follow = () => page.calls.push("follow");
  page.show = (state) => {
    page.text = state.text;
  };
  page.merge = (state) => {
    page.text = merge(page.base, page.text, state.text);
    page.calls.push("merge");
  };
  page.settled = () => page.calls.push("settled");
  page.hand = (raised) => {
    page.raised = raised;
  };
  return page;
}

describe("tabs", () => {
  const { BroadcastChannel } = globalThis;
  let browser;
  let clock;
  let all;

  const open = async (text) => {
    const page = aPage(text);
    const tabs = new Tabs("text of s-1", page);
    const beginning = tabs.begin();
    const tab = { page, tabs, channel: browser.newest };
    all.push(tab);
    await clock.pass(200);
    await beginning;
    return tab;
  };

  const take = async (tab) => {
    const taking = tab.tabs.take();
    await clock.pass(700);
    await taking;
  };

  const leaders = () => all.filter((tab) => tab.tabs.leads);

  beforeEach(() => {
    clock = aClock();
    all = [];
    browser = new Browser();
    globalThis.BroadcastChannel = browser.channel();
  });

  afterEach(() => {
    for (const { tabs } of all) tabs.leave();
    globalThis.BroadcastChannel = BroadcastChannel;
    clock.end();
  });

  test("a tab alone leads, and asks nobody any more", async () => {
    const one = await open();
    assert.deepEqual(one.page.calls, ["lead"]);
    assert.equal(one.tabs.follows, false);
    browser.said = [];
    await clock.pass(60_000);
    assert.deepEqual(browser.said, []);
  });

  test("the second follows, shows what the first has, and takes over with its last letters", async () => {
    const one = await open("once");
    const two = await open("on");
    assert.deepEqual([one.tabs.leads, two.tabs.leads], [true, false]);
    assert.equal(two.page.text, "once");
    one.page.text = "once upon";
    await take(two);
    assert.deepEqual([one.tabs.leads, two.tabs.leads], [false, true]);
    assert.equal(one.tabs.follows, true);
    assert.equal(two.page.text, "once upon");
    two.page.text = "once upon a time";
    two.tabs.share();
    await settle();
    assert.equal(one.page.text, "once upon a time");
    one.tabs.share();
    one.tabs.hand(true);
    one.tabs.settled();
    await settle();
    assert.equal(two.page.text, "once upon a time");
    assert.equal(two.page.raised, true);
    assert.deepEqual(two.page.calls, ["follow", "lead", "settled"]);
  });

  test("of those that begin at the same moment one leads", async () => {
    const pages = Array.from({ length: 5 }, () => aPage());
    all = pages.map((page) => ({ page, tabs: new Tabs("text of s-1", page) }));
    for (const { tabs } of all) tabs.begin();
    await clock.pass(200);
    assert.equal(leaders().length, 1);
    await clock.pass(60_000);
    assert.equal(leaders().length, 1);
  });

  test("when the leader closes another tab leads, with its last text", async () => {
    const one = await open();
    const others = [await open(), await open(), await open()];
    one.page.text = "last words";
    one.tabs.leave();
    await settle();
    assert.equal(leaders().length, 1);
    assert.equal(leaders()[0].page.text, "last words");
    await clock.pass(30_000);
    assert.equal(leaders().length, 1);
    assert.ok(others.includes(leaders()[0]));
  });

  test("when the leader crashes another tab leads soon", async () => {
    const one = await open();
    const two = await open();
    await clock.pass(60_000);
    assert.equal(two.tabs.leads, false);
    one.channel.dead = true;
    await clock.pass(13_000);
    assert.equal(two.tabs.leads, true);
  });

  test("a tab that was frozen while another took over follows when it thaws", async () => {
    const one = await open("kept");
    const two = await open();
    one.channel.frozen = true;
    await take(two);
    assert.equal(two.tabs.leads, true);
    two.page.text = "kept, and more";
    // The student comes back to it and types before any message came.
    one.page.text = "kept!";
    one.tabs.check();
    one.channel.thaw();
    await settle();
    assert.deepEqual([one.tabs.leads, two.tabs.leads], [false, true]);
    for (const part of ["kept", ", and more", "!"]) assert.ok(two.page.text.includes(part), two.page.text);
  });

  test("a tab that missed the leader's answer does not take the document from it", async () => {
    const one = await open();
    one.channel.frozen = true;
    const two = await open();
    assert.equal(two.tabs.leads, true);
    two.page.text = "typed here";
    one.channel.thaw();
    await settle();
    assert.deepEqual([one.tabs.leads, two.tabs.leads], [true, false]);
    assert.equal(one.page.text, "typed here");
  });

  test("two that take over at the same moment agree", async () => {
    const one = await open("text");
    const two = await open();
    const three = await open();
    const taking = [two.tabs.take(), three.tabs.take()];
    await clock.pass(1500);
    await Promise.all(taking);
    assert.equal(leaders().length, 1);
    assert.equal(leaders()[0].page.text, "text");
    await clock.pass(30_000);
    assert.equal(leaders().length, 1);
    assert.equal(one.tabs.leads, false);
  });

  test("a tab that the browser had put away asks again", async () => {
    const one = await open();
    one.tabs.leave();
    const two = await open();
    assert.equal(two.tabs.leads, true);
    one.tabs.begin();
    await clock.pass(200);
    assert.deepEqual([one.tabs.leads, one.tabs.follows], [false, true]);
  });

  test("foreign messages on the channel do no harm", async () => {
    const one = await open();
    const channel = new globalThis.BroadcastChannel("text of s-1");
    for (const junk of [null, 5, "x", {}, { id: 5 }, { id: "x", type: "give", to: "y" }, { id: "x", type: "nonsense" }])
      channel.postMessage(junk);
    await settle();
    assert.equal(one.tabs.leads, true);
  });

  test("without a channel a tab leads", async () => {
    delete globalThis.BroadcastChannel;
    const one = await open();
    one.tabs.share();
    assert.equal(one.tabs.leads, true);
  });
});

describe("two changes put together", () => {
  test("keep what was typed at both places", () => {
    assert.equal(merge("", "one", ""), "one");
    assert.equal(merge("", "", "two"), "two");
    assert.equal(merge("a b c", "a x b c", "a b c y"), "a x b c y");
    assert.equal(merge("a b c", "a b c y", "x a b c"), "x a b c y");
    assert.equal(merge("a b c", "a c", "a b c d"), "a c d");
    assert.equal(merge("same", "other", "other"), "other");
  });

  test("with random changes, every letter typed in either place is there", () => {
    let state = 7;
    const below = (n) => {
      state = (state * 1103515245 + 12345) % 2147483648;
      return Math.floor((state / 2147483648) * n);
    };
    const change = (text, typed) => {
      const at = below(text.length + 1);
      return text.slice(0, at) + typed + text.slice(at + below(text.length - at + 1));
    };
    for (let round = 0; round < 5000; round++) {
      const base = "the quick brown 🐇 jumps over 🙂🙂".slice(0, below(34));
      const merged = merge(base, change(base, "ONE"), change(base, "TWO"));
      for (const typed of ["ONE", "TWO"]) assert.ok(merged.includes(typed), `${base} → ${merged}`);
    }
  });
});
