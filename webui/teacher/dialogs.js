import { element } from "../shared/page.js";
import { buttonOf } from "./said.js";

/** Open a dialog of the page. Its buttons with `data-close` close it. */
export function openDialog(dialog, said) {
  if (dialog.open) return;
  for (const button of dialog.querySelectorAll("[data-close]")) button.onclick = () => dialog.close();
  dialog.showModal();
  said.moveInto(dialog);
}

/** Close a dialog and wait until it has let go of the page. */
export function closed(dialog) {
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(), { once: true });
    dialog.close();
  });
}

/**
 * Ask once, in a dialog of its own.
 *
 * @param {{title: string, text: string, yes: string, no: string, danger?: boolean}} words
 * @returns {Promise<boolean>} whether the answer was yes
 */
export function ask({ title, text, yes, no, danger = false }) {
  const dialog = element("dialog", "ask");
  const heading = element("h2", "title is-5", title);
  const body = element("p", "", text);
  heading.id = "ask-title";
  body.id = "ask-text";
  dialog.setAttribute("aria-labelledby", heading.id);
  dialog.setAttribute("aria-describedby", body.id);
  const buttons = element("div", "dialog-buttons");
  dialog.append(heading, body, buttons);
  return new Promise((answer) => {
    const close = (value) => () => dialog.close(value);
    const agree = buttonOf(yes, danger ? "button is-danger is-outlined" : "button is-link", close("yes"));
    const refuse = buttonOf(no, "button", close(""));
    // The key Return must not do what cannot be undone.
    refuse.autofocus = danger;
    buttons.append(agree, refuse);
    dialog.addEventListener("close", () => {
      dialog.remove();
      answer(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
