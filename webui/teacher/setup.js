// The page of the first run: name the class, show how students join.

import { find } from "../shared/page.js";
import { Api } from "./api.js";

const api = new Api();

/** Run what may fail, and show why. */
async function run(action) {
  find("error").textContent = "";
  try {
    await action();
  } catch (error) {
    find("error").textContent = error.message;
  }
}

async function start() {
  const [view] = await api.get("/api/v1/classes");
  find("title").value = view.title;
  find("join-url").textContent = view.join_url;
  find("code").textContent = view.code;
  find("form").addEventListener("submit", (event) => {
    event.preventDefault();
    find("done").textContent = "";
    run(async () => {
      await api.post("/api/v1/class/change", { class_id: view.class_id, title: find("title").value });
      find("done").textContent = "Saved.";
    });
  });
}

run(start);
