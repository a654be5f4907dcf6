// The page for lists of students: import with a preview, questions of watched lists, export.

import { startPage } from "./frame.js";
import { startExport } from "./roster-export.js";
import { ListForm } from "./roster-form.js";
import { Preview } from "./roster-preview.js";
import { WatchedLists } from "./roster-watched.js";
import { WORDS } from "./roster-words.js";

async function start({ api, said }) {
  const preview = new Preview(api, said, () => {
    form.reset();
    return watched.load();
  });
  const form = new ListForm(api, said, (answer, options) => preview.show(answer, options));
  const watched = new WatchedLists(api, said, (list) => preview.showWatched(list));
  startExport(api, said);
  await watched.load();
}

startPage(WORDS, start);
