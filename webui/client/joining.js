// Joining a class: what `ClassroomStream.join`, `waitForAnswer`, `member`, `me` and `forget` do.

import { browserStorage, originOf, sleep, uuid } from "./browser.js";
import { ClassroomError } from "./errors.js";
import { keepMember, memberOf } from "./membership.js";
import { request } from "./request.js";
import { Store } from "./store.js";

// How often a page that waits asks whether the teacher has answered.
const ASK_MS = 2_000;
const DEVICE = "classroom-observer device";

export async function join({ server, code, name, studentId, secret, ask, waiting }) {
  const origin = originOf(server);
  const before = await memberOf(origin);
  const who = studentId === undefined ? { name } : { student_id: studentId };
  const answer = await post(origin, "/api/v1/join", {
    code,
    ...who,
    ...(before ? { token: before.token } : {}),
    ...(secret === undefined ? {} : { secret }),
    ...(ask ? { ask: true } : {}),
    ...device(),
  });
  if (answer.pending) return waitForAnswer({ server: origin, question: answer, waiting });
  return keep(origin, answer);
}

export async function waitForAnswer({ server, question, waiting }) {
  const origin = originOf(server);
  const headers = { Authorization: `Bearer ${question.token}` };
  let cancelled = false;
  let online = true;
  const cancel = () => {
    cancelled = true;
    return post(origin, "/api/v1/join/cancel", {}, headers).catch(() => {});
  };
  const say = () => waiting?.({ ...question, online, cancel });
  say();
  while (!cancelled) {
    const answer = await request(origin, "/api/v1/join/pending", { headers }).catch((error) => error);
    if (cancelled) break;
    if (answer.code === "unknown_request") throw answer;
    if (answer.answer === "yes") return keep(origin, { token: question.token, ...answer });
    if (answer.answer === "no") throw new ClassroomError("not_let_in", "Your teacher said no. Ask your teacher.");
    const reached = !(answer instanceof Error);
    if (reached !== online) {
      online = reached;
      say();
    }
    await sleep(ASK_MS);
  }
  throw new ClassroomError("cancelled", "You do not wait any more.");
}

export async function joinableNames({ server, code }) {
  return post(originOf(server), "/api/v1/join/names", { code, ...device() });
}

export async function joinedMember({ server } = {}) {
  const member = await memberOf(originOf(server));
  return member ? { student_id: member.student_id, name: member.name, class_id: member.class_id } : null;
}

export async function askWhoIAm({ server } = {}) {
  const origin = originOf(server);
  const token = (await memberOf(origin))?.token;
  if (!token) return null;
  try {
    return await request(origin, "/api/v1/me", { headers: { Authorization: `Bearer ${token}` } });
  } catch (error) {
    if (error.status === 401) return null;
    throw error;
  }
}

export async function forgetMember({ server } = {}) {
  await keepMember(originOf(server), null);
}

async function keep(origin, answer) {
  const before = await memberOf(origin);
  const member = {
    token: answer.token,
    student_id: answer.student_id,
    name: answer.name,
    class_id: answer.class_id,
  };
  if (before && before.student_id !== member.student_id && before.name === member.name)
    // The server does not know the student of that token any more: its data was lost, with all that it had
    // acknowledged. The events that wait here are of the same person.
    await Store.use((store) => store.inherit(origin, before, member));
  await keepMember(origin, member);
  return { ...member };
}

function post(origin, path, body, headers = {}) {
  return request(origin, path, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
}

/** `{device}`, a random name of this browser, so that wrong codes of one device do not count for the others at its address; `{}` where it stores nothing. */
function device() {
  try {
    const storage = browserStorage("localStorage");
    if (!storage) return {};
    if (!storage.getItem(DEVICE)) storage.setItem(DEVICE, uuid());
    return { device: storage.getItem(DEVICE) };
  } catch {
    return {};
  }
}
