// Joining a class: what `ClassroomStream.join`, `member`, `me` and `forget` do.

import { originOf } from "./browser.js";
import { keepMember, memberOf } from "./membership.js";
import { request } from "./request.js";
import { Store } from "./store.js";

export async function join({ server, code, name, studentId }) {
  const origin = originOf(server);
  const before = await memberOf(origin);
  const who = studentId === undefined ? { name } : { student_id: studentId };
  const answer = await request(origin, "/api/v1/join", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ code, ...who, ...(before ? { token: before.token } : {}) }),
  });
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
