// Finding names as people type them: without accents, capitals, apostrophes.

// The accents of European languages, Arabic vowel signs and Hebrew points.
const ACCENTS = /[\u0300-\u036f\u0591-\u05c7\u064b-\u0652]/g;
// Letters that Unicode does not take apart into a letter and a mark.
const PLAIN = { ł: "l", ø: "o", đ: "d", ð: "d", þ: "th", æ: "ae", œ: "oe", ß: "ss", ı: "i", ħ: "h" };

/** A name in the form in which names are searched. */
export function folded(name) {
  return name
    .normalize("NFKD")
    .toLowerCase()
    .replace(ACCENTS, "")
    .replace(/[łøđðþæœßıħ]/g, (letter) => PLAIN[letter])
    .replace(/[\p{P}\p{Cf}\p{Sk}]+/gu, " ")
    .trim();
}

/** Those of some students whose names have a word that begins with each word of a text; all for an empty one. */
export function withName(students, text) {
  const wanted = folded(text).split(/\s+/).filter(Boolean);
  return students.filter(({ name }) => {
    const words = folded(name).split(/\s+/);
    return wanted.every((word) => words.some((one) => one.startsWith(word)));
  });
}

const NAMES = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

/** Students or accounts by name. */
export function byName(a, b) {
  return NAMES.compare(a.name, b.name);
}
