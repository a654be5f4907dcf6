/** An element of the page, by its id. */
export function find(id) {
  return document.getElementById(id);
}

/** Change an element's text only if it differs: screen readers announce what is set anew. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A new element. */
export function element(tag, className = "", text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}
