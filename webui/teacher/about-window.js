import { find } from "../shared/page.js";
import { counted } from "../shared/text.js";
import { NO_CONNECTION } from "./api.js";
import { size } from "./figures.js";

/** The window about the program: version, space, licences, and a button to stop it. */
export class AboutWindow {
  #classes;
  #api;
  #page;

  /** @param {{stopping: () => void, stopped: () => void, stopFailed: () => void}} page */
  constructor(classes, api, page) {
    this.#classes = classes;
    this.#api = api;
    this.#page = page;
    find("about-open").addEventListener("click", () => this.open());
    find("licences-show").addEventListener("click", () => showLicences());
    find("stop").addEventListener("click", () => this.#stopProgram());
  }

  open() {
    find("about-result").textContent = "";
    if (!find("about").open) find("about").showModal();
  }

  /** @param {object} status the answer of /api/v1/status */
  draw(status) {
    find("version").textContent = status.version;
    find("stop").hidden = !status.here;
    if (!status.space) return;
    const { archive_bytes: stored, free_bytes: free } = status.space;
    find("space").textContent = `Stored so far: ${size(stored)}. Free space: ${size(free)}.`;
  }

  async #stopProgram() {
    const online = this.#classes.online();
    const warning = online ? `${counted(online, "student is", "students are")} online. ` : "";
    const question = "Stop Classroom Observer on this computer?";
    const effect = "Until it starts again, students' work waits in their browsers.";
    if (!confirm(`${warning}${question} ${effect}`)) return;
    this.#page.stopping();
    try {
      await this.#api.post("/api/v1/stop");
      find("about").close();
      this.#page.stopped();
    } catch (error) {
      this.#page.stopFailed();
      find("about-result").textContent = error.message;
    }
  }
}

async function showLicences() {
  const answer = await fetch("/api/v1/licences").catch(() => null);
  find("licences").value = answer?.ok ? await answer.text() : NO_CONNECTION;
  find("licences").hidden = false;
}
