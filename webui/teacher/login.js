// The page on which a teacher signs in.

import { find } from "../shared/page.js";
import { Api } from "./api.js";

find("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  find("error").textContent = "";
  try {
    await new Api().post("/api/v1/login", { token: find("token").value });
    location.assign("/");
  } catch (error) {
    find("error").textContent = error.message;
  }
});
find("token").focus();
