import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";

import { ClassroomStream } from "../../../webui/client/stream.js";

const SERVER = "http://class.test:8080";

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

  describe("where the teacher must answer", () => {
    const question = { pending: "q-1", token: "t2", kind: "again", name: "Ada" };
    const answers = (...list) => {
      const asked = [];
      globalThis.fetch = async (url, init) => {
        asked.push([url.slice(SERVER.length), init.headers?.Authorization]);
        const next = list.length > 1 ? list.shift() : list[0];
        if (next instanceof Error) throw next;
        return new Response(JSON.stringify(next[1]), { status: next[0] });
      };
      return asked;
    };
    const join = (waiting) => ClassroomStream.join({ server: SERVER, code: "ABC-234", name: "Ada", waiting });

    test("waits, also while there is no connection, and keeps who joined after the yes", async () => {
      const yes = { answer: "yes", student_id: "s1", name: "Ada", class_id: "c1" };
      const asked = answers([202, question], new Error("away"), [200, yes]);
      const seen = [];
      const joined = await join(({ kind, online }) => seen.push([kind, online]));
      assert.deepEqual(joined, { token: "t2", student_id: "s1", name: "Ada", class_id: "c1" });
      assert.deepEqual(seen, [
        ["again", true],
        ["again", false],
      ]);
      assert.deepEqual(asked.at(-1), ["/api/v1/join/pending", "Bearer t2"]);
      assert.equal((await ClassroomStream.member({ server: SERVER })).student_id, "s1");
    });

    test("the answer no, and a question that nobody answered in time", async () => {
      answers([202, question], [200, { answer: "no" }]);
      await assert.rejects(join(), { code: "not_let_in" });
      answers([404, { error: { code: "unknown_request", message: "Ask again." } }]);
      await assert.rejects(ClassroomStream.waitForAnswer({ server: SERVER, question }), { code: "unknown_request" });
      assert.equal(await ClassroomStream.member({ server: SERVER }), null);
    });

    test("a student who waits no more takes the question back", async () => {
      const asked = answers([202, question], [200, { answer: "" }]);
      await assert.rejects(
        join(({ cancel }) => cancel()),
        { code: "cancelled" },
      );
      assert.ok(asked.some(([path]) => path === "/api/v1/join/cancel"));
    });

    test("a secret that is needed has its kind", async () => {
      answers([401, { error: { code: "secret_needed", message: "Enter your PIN.", kind: "pin" } }]);
      await assert.rejects(join(), { code: "secret_needed", kind: "pin" });
    });
  });
});
