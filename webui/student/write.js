/**
 * The page on which a student writes. Every change of the text is logged as one edit. The browser keeps the text too, so
 * that a reload shows it with or without a connection.
 */

import { ClassroomStream } from "../client/stream.js";
import { keepText, recallText } from "./kept-text.js";
import { SecretDialog } from "./secret-dialog.js";
import { textOfServer } from "./text-of-server.js";
import { DOCUMENT, WritingPage } from "./writing-page.js";

async function start() {
  const member = await ClassroomStream.member();
  if (!member) return location.replace("/join");
  const kept = await recallText(member.student_id);
  // A browser that has nothing of this student's may be another one than before.
  const known = kept.at === undefined ? await textOfServer(DOCUMENT) : kept;
  if (known.text && known !== kept) await keepText(member.student_id, known);
  new WritingPage(member).start(known);
  new SecretDialog();
}

start();
