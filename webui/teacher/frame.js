// What the teachers' pages beside the dashboard share: the header, who is signed in, and the line that says what was done.

import { element, find } from "../shared/page.js";
import { Api } from "./api.js";
import { Said } from "./said.js";
import { fillWords } from "./words.js";

const WORDS = {
  pages: "Pages",
  again: "Try again",
  dashboard: "Dashboard",
  people: "People",
  lists: "Lists",
  accounts: "Accounts",
};
const LINKS = [
  ["/", WORDS.dashboard],
  ["/people", WORDS.people],
  ["/roster", WORDS.lists],
  ["/accounts", WORDS.accounts],
];

/**
 * Start a page: fill in its sentences and its header, find out who is signed in, and go on with `open`.
 *
 * @param {object} words the page's sentences by id
 * @param {(page: {api: Api, said: Said, account: object}) => Promise<void>} open
 */
export async function startPage(words, open) {
  fillWords(words);
  document.title = `${words.title} · Classroom Observer`;
  const said = new Said();
  const api = new Api(() => location.assign("/login"));
  drawLinks(false);
  try {
    const account = await api.get("/api/v1/account");
    drawLinks(account.role === "administrator");
    await open({ api, said, account });
    find("content").hidden = false;
  } catch (error) {
    said.fail(error.message, { words: WORDS.again, act: () => location.reload() });
  }
}

function drawLinks(administers) {
  const links = element("nav", "links");
  links.setAttribute("aria-label", WORDS.pages);
  for (const [path, words] of LINKS) {
    if (path === "/roster" && !administers) continue;
    const link = element("a", "", words);
    link.href = path;
    if (path === location.pathname) link.setAttribute("aria-current", "page");
    links.append(link);
  }
  find("bar").replaceChildren(links);
}
