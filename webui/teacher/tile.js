import { counted } from "../shared/text.js";
import { excerptOf, fit, withCaret } from "./excerpt.js";
import { eventsPerMinute, lateOf, missingOf, timeOf, wordsOf } from "./figures.js";
import { handUp, stateOf, stateText } from "./presence.js";

// The bars are at least so many events high, so that a single event does not seem much.
const LEAST_EVENTS = 10;

/** One student's tile. It changes only what differs, since a class redraws often. */
export class Tile {
  #parts;
  #drawn = {};
  #student = null;

  /** @param {() => void} open shows the student whole */
  constructor(id, open) {
    const button = d3.create("button").attr("type", "button").attr("class", "tile").attr("data-student", id);
    const top = button.append("span").attr("class", "top");
    const part = (parent, name) => parent.append("span").attr("class", name).node();
    const name = top.append("span").attr("class", "name").attr("dir", "auto").node();
    const state = part(top, "state");
    const numbers = button.append("span").attr("class", "numbers");
    this.#parts = { name, state, words: part(numbers, "words"), time: part(numbers, "time") };
    this.#parts.time.title = "Time on task";
    this.#parts.bars = button
      .append("svg")
      .attr("class", "sparkline")
      .attr("viewBox", "0 0 100 20")
      .attr("preserveAspectRatio", "none")
      .attr("role", "img");
    this.#parts.excerpt = part(button, "excerpt");
    this.#parts.late = part(button, "late");
    this.#parts.late.title = "What was done without a connection has arrived. It counts at the time when it was done.";
    this.#parts.missing = part(button, "missing");
    /** The tile's element. */
    this.node = button.node();
    this.node.addEventListener("click", open);
  }

  /**
   * @param {object} student
   * @param {number} now in seconds by the server's clock
   * @returns {boolean} whether the excerpt is new, and may be longer than its box; see `fitExcerpt`
   */
  draw(student, now) {
    this.#student = student;
    const { words, time, late, missing, bars } = this.#parts;
    this.#drawStudent(student, now);
    this.#put("words", wordsOf(student), (text) => words.replaceChildren(text));
    this.#put("time", timeOf(student), (text) => time.replaceChildren(text));
    this.#put("late", lateOf(student, now), (text) => showLine(late, text && `⇣ ${text}`));
    this.#put("missing", missingOf(student, now, true), (sentences) => {
      showLines(missing, sentences);
      missing.title = missingOf(student, now).join(" ");
    });
    this.#put("bars", eventsPerMinute(student, now), (events) => drawBars(bars, events));
    return this.#put("excerpt", excerptOf(student), () => this.drawExcerpt());
  }

  #drawStudent(student, now) {
    const { name, state } = this.#parts;
    this.#put("name", student.name, (text) => {
      name.textContent = text;
      name.title = text;
    });
    this.#put("state", [stateOf(student, now), stateText(student, now), handUp(student)], ([kind, text, hand]) => {
      this.node.dataset.state = kind;
      state.dataset.state = kind;
      state.textContent = text;
      this.node.classList.toggle("hand", hand);
    });
  }

  drawExcerpt() {
    withCaret(this.#parts.excerpt, excerptOf(this.#student));
  }

  /** Cut the excerpt to its box; whether that could be done, since a tile that is not shown has no size. */
  fitExcerpt() {
    return fit(this.#parts.excerpt, this.#student);
  }

  /** Write a value if it differs from what was written last; whether it did. */
  #put(what, value, write) {
    const key = JSON.stringify(value);
    if (this.#drawn[what] === key) return false;
    this.#drawn[what] = key;
    write(value);
    return true;
  }
}

function showLine(node, text) {
  node.hidden = !text;
  node.textContent = text;
}

/** Sentences below one another, each with a warning sign. */
function showLines(node, sentences) {
  node.hidden = !sentences.length;
  d3.select(node)
    .selectAll("span")
    .data(sentences)
    .join("span")
    .text((sentence) => `⚠ ${sentence}`);
}

function drawBars(svg, events) {
  const x = d3.scaleBand(d3.range(events.length), [0, 100]).paddingInner(0.2);
  const y = d3.scaleSqrt([0, Math.max(LEAST_EVENTS, d3.max(events))], [0, 20]);
  svg
    .attr("aria-label", `${counted(d3.sum(events), "event")} in the last 20 minutes`)
    .selectAll("rect")
    .data(events)
    .join("rect")
    .attr("x", (_, index) => x(index))
    .attr("width", x.bandwidth())
    .attr("y", (count) => 20 - y(count))
    .attr("height", (count) => y(count));
}
