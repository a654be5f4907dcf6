/**
 * The page on which a student writes. Every change of the text is logged as one edit. The browser keeps the text too, so
 * that a reload shows it with or without a connection.
 */

import { ClassroomStream } from "../client/stream.js";
import { recallText } from "./kept-text.js";
import { WritingPage } from "./writing-page.js";

async function start() {
  const member = await ClassroomStream.member();
  if (member) new WritingPage(member).start(await recallText(member.student_id));
  else location.replace("/join");
}

start();
