// The page with the own account, the own sessions, pairing, and for administrators all accounts.

import { find } from "../shared/page.js";
import { AccountForm } from "./accounts-form.js";
import { AccountList } from "./accounts-list.js";
import { startOwnAccount } from "./accounts-own.js";
import { WORDS } from "./accounts-words.js";
import { startPage } from "./frame.js";
import { PairingDialog } from "./pairing-dialog.js";
import { SessionList } from "./session-list.js";

async function start({ api, said, account }) {
  const administers = account.role === "administrator";
  const classes = await api.get("/api/v1/classes");
  startOwnAccount(api, said, account, classes);
  const sessions = new SessionList(api, said, administers);
  const pairing = new PairingDialog(api, said, () => sessions.load());
  find("pair-open").addEventListener("click", () => said.act(() => pairing.open()));
  await sessions.load();
  find("accounts-part").hidden = !administers;
  if (!administers) return;
  const form = new AccountForm(api, said, classes);
  await new AccountList(api, said, classes, form).load();
}

startPage(WORDS, start);
