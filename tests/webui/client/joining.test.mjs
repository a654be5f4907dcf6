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
});
