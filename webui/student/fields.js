import { find } from "../shared/page.js";
import { soon } from "../shared/soon.js";
import { counted } from "../shared/text.js";
import { countWords } from "./edits.js";

const WORDS_MS = 200;

/** What the student changes on the writing page: title, text and hand, with what is shown of them. */
export class Fields {
  title = find("title");
  text = find("text");
  hand = find("hand");
  raised = false;
  showWords = soon(WORDS_MS, () => {
    find("words").textContent = counted(countWords(this.text.value), "word");
    find("full").hidden = this.text.value.length < this.text.maxLength;
  });

  read() {
    return { title: this.title.value, text: this.text.value, raised: this.raised };
  }

  /** Whether title or text differ from these. */
  differFrom({ title, text }) {
    return this.title.value !== title || this.text.value !== text;
  }

  fill({ title = "", text = "", raised = false }) {
    this.title.value = title;
    this.text.value = text;
    this.raise(raised === true);
    this.showTitle();
    this.showWords();
  }

  /** Change text and title without moving the cursor. */
  replace(text, title, cursor = this.text.selectionStart) {
    this.text.value = text;
    this.title.value = title;
    this.text.setSelectionRange(cursor, cursor);
    this.showTitle();
    this.showWords();
  }

  raise(up) {
    this.raised = up;
    this.hand.setAttribute("aria-pressed", String(up));
    this.hand.textContent = up ? "Hand is up" : "Raise hand";
    this.hand.classList.toggle("is-warning", up);
  }

  /** Let the student write here, or not. */
  lock(locked) {
    this.title.readOnly = this.text.readOnly = locked;
  }

  showTitle() {
    document.title = this.title.value.trim() || "Write";
  }
}
