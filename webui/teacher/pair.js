// The page on which a tablet signs in, with a QR code or six digits that a signed-in computer shows.

import { find } from "../shared/page.js";
import { Api } from "./api.js";
import { fillWords } from "./words.js";

const DIGITS = 6;

const WORDS = {
  title: "Sign in on this device",
  how: "On the computer on which you are signed in, open Accounts, and press “Show the code”.",
  code: "The six digits",
  scanned: "You scanned the code of your computer. Press the button to sign in here.",
  pair: "Sign in",
  incomplete: "Type all six digits.",
  warning: "Use a device that only you use. The dashboard shows your students’ names and texts.",
  login: "Sign in with a name and a password instead",
};

// The secret of a QR code is in the part of the address that no server gets, and leaves the history at once.
let secret = location.hash.slice(1);
if (secret) history.replaceState(null, "", location.pathname);

function digits() {
  return find("code").value.replace(/\D/g, "");
}

function showScanned() {
  find("scanned").hidden = !secret;
  find("code-part").hidden = Boolean(secret);
  (secret ? find("pair") : find("code")).focus();
}

async function pair() {
  if (!secret && digits().length !== DIGITS) throw new Error(WORDS.incomplete);
  await new Api().post("/api/v1/pair", { code: secret || digits() });
  location.replace("/");
}

find("form").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  find("error").textContent = "";
  find("pair").disabled = true;
  try {
    await pair();
  } catch (error) {
    find("error").textContent = error.message;
    // A scanned code that has ended is of no more use; digits can be typed.
    secret = "";
    showScanned();
    find("code").select();
  } finally {
    find("pair").disabled = false;
  }
});

/** Two groups of three, as they are shown on the computer. */
find("code").addEventListener("input", () => {
  const typed = digits().slice(0, DIGITS);
  const shown = typed.length > 3 ? `${typed.slice(0, 3)} ${typed.slice(3)}` : typed;
  // The caret stays where it is, unless it is at the end.
  if (find("code").selectionStart === find("code").value.length) find("code").value = shown;
});

fillWords(WORDS);
document.title = `${WORDS.title} · Classroom Observer`;
find("content").hidden = false;
showScanned();
