// The sentences of a page are in one object, by id. A value is a text, or a function that makes one.

/**
 * Fill the elements of a page with its sentences. `data-words` marks those whose text is the id of a sentence,
 * `data-hint="ID"` is for the placeholder of a field.
 */
export function fillWords(words) {
  for (const node of document.querySelectorAll("[data-words]")) node.textContent = wordsOf(words, node.textContent);
  for (const node of document.querySelectorAll("[data-hint]")) node.placeholder = wordsOf(words, node.dataset.hint);
}

function wordsOf(words, id) {
  if (typeof words[id] !== "string") throw new Error(`There is no sentence ${id}`);
  return words[id];
}
