import { element, find } from "../shared/page.js";
import { WORDS } from "./roster-words.js";

/** The columns of a list, and what each means. */
export class Columns {
  /** @param {(options: object) => void} readAgain reads the list with other options */
  constructor(readAgain) {
    find("columns-again").addEventListener("click", () => readAgain({ columns: chosen() }));
  }

  /** @param {boolean} asked whether the list cannot be read without an answer */
  show(columns, asked) {
    find("columns-part").hidden = !columns.length;
    find("columns-part").open = asked;
    find("columns").replaceChildren(...columns.map(lineOf));
  }

  focus() {
    find("columns").querySelector("select")?.focus();
  }
}

function lineOf({ heading, meaning, samples }, place) {
  const line = element("div", "line meaning");
  const label = element("label", "grow");
  const select = element("select");
  select.id = `column-${place}`;
  label.htmlFor = select.id;
  label.append(element("strong", "", heading || WORDS.column(place + 1)));
  if (samples?.length) label.append(element("span", "weak", samples.slice(0, 3).join(" · ")));
  const known = meaning in WORDS.meanings ? meaning : "";
  select.append(...Object.entries(WORDS.meanings).map(([value, words]) => new Option(words, value)));
  select.value = known;
  select.dataset.before = known;
  select.dataset.number = String(place + 1);
  const frame = element("div", "select");
  frame.append(select);
  line.append(label, frame);
  return line;
}

/** Meaning -> number of the column, from 1. */
function chosen() {
  const selects = [...find("columns").querySelectorAll("select")];
  return Object.fromEntries(selects.filter(({ value }) => value).map(({ value, dataset }) => [value, dataset.number]));
}
