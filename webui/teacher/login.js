// The page on which a teacher signs in: with an account, or as the owner with the teacher key.

import { find } from "../shared/page.js";
import { Api } from "./api.js";
import { fillWords } from "./words.js";

const WORDS = {
  title: "Sign in",
  account: "With your account",
  name: "Name",
  password: "Password",
  signIn: "Sign in",
  key: "With the teacher key",
  keyIn: "The key is in the file",
  keyWhere: "To find it: icon by the clock, Open data folder.",
  token: "Teacher key",
  signInKey: "Sign in with the key",
  pair: "I have six digits",
  student: "I am a student",
};

function onSubmit(id, bodyOf, wrong) {
  find(id).addEventListener("submit", async (submitted) => {
    submitted.preventDefault();
    find("error").textContent = "";
    try {
      await new Api().post("/api/v1/login", bodyOf());
      location.assign("/");
    } catch (error) {
      find("error").textContent = error.message;
      find(wrong).select();
    }
  });
}

fillWords(WORDS);
document.title = `${WORDS.title} · Classroom Observer`;
onSubmit("account-form", () => ({ name: find("name").value, password: find("password").value }), "password");
onSubmit("form", () => ({ token: find("token").value }), "token");
find("content").hidden = false;
find("name").focus();
