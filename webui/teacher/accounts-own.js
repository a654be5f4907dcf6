import { find } from "../shared/page.js";
import { WORDS } from "./accounts-words.js";
import { openDialog } from "./dialogs.js";

/** The own account: who it is, the password, signing out. */
export function startOwnAccount(api, said, account, classes) {
  const owner = account.educator_id === "";
  find("who").textContent = owner ? WORDS.signedInAsOwner : WORDS.signedInAs(account.name, account.role);
  find("owner-note").hidden = !owner;
  find("own-classes").hidden = account.role === "administrator";
  const titles = classes.map((view) => view.title).join(", ");
  find("own-classes").textContent = titles ? WORDS.yourClasses(titles) : WORDS.yourNoClass;
  find("password-open").hidden = owner;
  find("password-open").addEventListener("click", () => {
    find("password-form").reset();
    openDialog(find("password"), said);
  });
  find("password-form").addEventListener("submit", (submitted) => {
    submitted.preventDefault();
    said.act(() => changePassword(api, said));
  });
  find("sign-out").addEventListener("click", () =>
    said.act(async () => {
      await api.post("/api/v1/logout");
      location.assign("/login");
    }),
  );
}

async function changePassword(api, said) {
  if (find("new").value !== find("again").value) {
    find("again").focus();
    throw new Error(WORDS.passwordsDiffer);
  }
  await api.post("/api/v1/account/password", { old: find("old").value, new: find("new").value });
  find("password-form").reset();
  find("password").addEventListener("close", () => said.say(WORDS.passwordChanged), { once: true });
  find("password").close();
}
