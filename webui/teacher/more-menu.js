import { find } from "../shared/page.js";

/** Make the menu work that leads to the other pages of the teacher. */
export function startMoreMenu(api) {
  const menu = find("more");
  menu.addEventListener("toggle", () => {
    if (menu.open) showLists(api);
  });
  menu.addEventListener("keydown", ({ key }) => {
    if (key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  document.addEventListener("click", ({ target }) => {
    if (!menu.contains(target)) menu.open = false;
  });
  menu.addEventListener("focusout", ({ relatedTarget }) => {
    if (relatedTarget && !menu.contains(relatedTarget)) menu.open = false;
  });
}

/** Only administrators import lists. */
async function showLists(api) {
  const account = await api.get("/api/v1/account").catch(() => null);
  find("lists").hidden = account?.role !== "administrator";
}
