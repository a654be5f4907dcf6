import { find, setText } from "../shared/page.js";
import { counted } from "../shared/text.js";

const SAVING = { state: "saving", sentence: "Saving…" };

/**
 * Where the text is, in words that are true: `{state, sentence}`.
 *
 * @param {object | null} stream a ClassroomStream
 * @param {{leads: boolean, follows: boolean}} tabs whether this tab writes, or another one; neither at first
 */
export function saveStatus(stream, tabs) {
  if (!stream) return SAVING;
  if (stream.connection === "refused") return refusedStatus(stream);
  if (!tabs.leads && !tabs.follows) return SAVING;
  if (stream.resending) return waiting("Some of your last changes could not be used. Your text is sent again.");
  if (stream.connection === "waiting")
    return waiting(
      stream.pending ? `No connection. ${whereUnsaved(stream)}` : "Saved. No connection right now. Keep writing.",
    );
  if (stream.pending)
    return stream.stalled ? waiting(`Saving takes longer than usual. ${whereUnsaved(stream)}`) : SAVING;
  return stream.connection === "online" ? savedStatus(tabs) : SAVING;
}

function waiting(sentence) {
  return { state: "waiting", sentence };
}

function savedStatus(tabs) {
  return tabs.follows
    ? { state: "elsewhere", sentence: "Shown from another tab" }
    : { state: "saved", sentence: "Saved" };
}

function refusedStatus({ refused, pending }) {
  const left = pending ? `${counted(pending, "change")} not sent yet.` : "You are not in the class any more.";
  const removed = "Your teacher removed you. What you write now is not sent.";
  return { state: "refused", sentence: refused === "removed" ? removed : left };
}

function whereUnsaved({ durable }) {
  const where = durable
    ? "Your work is safe on this device and is sent later."
    : "Your work is only in this page, and is sent later.";
  return `${where} Keep writing; do not close this page.`;
}

/** The line at the foot of the page, and what of it screen readers announce. */
export class SaveStatusLine {
  #alarmed = false;

  show(stream, tabs) {
    const { state, sentence } = saveStatus(stream, tabs);
    find("saved").dataset.state = state;
    setText(find("saved-text"), sentence);
    find("rejoin").hidden = state !== "refused" || stream.refused === "removed";
    const paused = stream?.paused === true && state !== "refused";
    if (find("paused").hidden === paused) find("paused").hidden = !paused;
    setText(find("aloud"), this.#aloud(state, sentence));
  }

  /** Only what a person must know: "Saving" and "Saved" alternate with every word, and so do counts. */
  #aloud(state, sentence) {
    if (state === "waiting" || state === "refused") {
      this.#alarmed = true;
      return sentence.replace(/^[\d,]+ changes?/, "Changes");
    }
    if (state === "saving") return "";
    if (!this.#alarmed) return find("aloud").textContent;
    this.#alarmed = false;
    return "Saved";
  }
}
