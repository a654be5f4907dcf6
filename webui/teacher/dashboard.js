// The teacher's page: the class, live.

import { find } from "../shared/page.js";
import { AboutWindow } from "./about-window.js";
import { forgetFailures } from "./actions.js";
import { Api } from "./api.js";
import { ClassPanel } from "./class-panel.js";
import { DashboardConnection } from "./connection.js";
import { ConnectionLine } from "./connection-line.js";
import { FindingsPanel } from "./findings-panel.js";
import { LiveClasses } from "./live-classes.js";
import { startMessageWindow } from "./message-window.js";
import { startMoreMenu } from "./more-menu.js";
import { OwnClasses } from "./own-classes.js";
import { RequestsPanel } from "./requests-panel.js";
import { StudentWindow } from "./student-window.js";
import { Tiles } from "./tiles.js";

const STATUS_MS = 5_000;
// Time passes without events, too.
const REDRAW_MS = 5_000;

/** Connects the parts of the page: frames of the server go to all of them, and they draw together. */
class Dashboard {
  #connected = false;
  #stopped = false;
  #drawing = false;
  #asking = false;
  #classes = new LiveClasses();
  #api = new Api(() => this.#signedOut());
  #line = new ConnectionLine();
  #findings = new FindingsPanel(this.#classes);
  #requests = new RequestsPanel(this.#classes, this.#api);
  #own = new OwnClasses(this.#classes);
  #panel = new ClassPanel(this.#classes, this.#api, () => this.#drawSoon());
  #student = new StudentWindow(this.#classes, this.#api, () => this.#connected);
  #tiles = new Tiles((id) => this.#student.open(id));
  #about = new AboutWindow(this.#classes, this.#api, {
    stopping: () => {
      this.#stopped = true;
    },
    stopped: () => this.#showStopped(),
    stopFailed: () => {
      this.#stopped = false;
    },
  });
  #connection = new DashboardConnection(dashboardUrl(), {
    heard: (frame) => this.#heard(frame),
    lost: (reason) => this.#lost(reason),
  });

  start() {
    startMessageWindow(this.#classes, this.#api);
    startMoreMenu(this.#api);
    this.#listen();
    this.#openPart();
    this.#connection.start();
    this.#askStatus();
    setInterval(() => this.#askStatus(), STATUS_MS);
    setInterval(() => this.#drawSoon(), REDRAW_MS);
  }

  #listen() {
    for (const id of ["filter", "sort"]) find(id).addEventListener("input", () => this.#drawSoon());
    for (const button of document.querySelectorAll("[data-close]"))
      button.addEventListener("click", () => button.closest("dialog").close());
    for (const name of ["online", "pageshow"]) addEventListener(name, () => this.#connection.hurry());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.#connection.hurry();
    });
    addEventListener("hashchange", () => this.#openPart());
    addEventListener("resize", () => {
      this.#tiles.resized();
      this.#drawSoon();
    });
  }

  /** The tray icon's menu opens the page at one of its parts. */
  #openPart() {
    if (location.hash === "#join") {
      this.#panel.openJoin();
      this.#drawSoon();
    }
    if (location.hash === "#about") this.#about.open();
    if (location.hash) history.replaceState(null, "", location.pathname);
  }

  #heard(frame) {
    if (this.#stopped) return;
    const enough = this.#classes.take(frame);
    // Before the first snapshot nothing that is shown is live.
    if (this.#classes.version !== null && !this.#connected) {
      this.#connected = true;
      this.#line.found();
      // Names of students may be known only now.
      this.#findings.draw();
      forgetFailures();
    }
    if (enough) this.#drawSoon();
    else this.#connection.send('{"type":"snapshot"}');
  }

  #lost(reason) {
    if (this.#stopped) return;
    this.#connected = false;
    this.#classes.lost();
    this.#line.lost(reason, this.#classes.lostAt);
    this.#drawSoon();
    // A socket does not show whether the session has ended.
    this.#api.get("/api/v1/status").catch(() => {});
  }

  #signedOut() {
    this.#connected = false;
    this.#line.signedOut();
    location.assign("/login");
  }

  async #askStatus() {
    if (this.#stopped || this.#asking) return;
    this.#asking = true;
    try {
      this.#showStatus(await this.#api.get("/api/v1/status"));
    } catch {
      // The connection line says that the server is away.
    } finally {
      this.#asking = false;
    }
  }

  #showStatus(status) {
    this.#line.saving = this.#findings.take(status.findings ?? []);
    if (this.#connected && !this.#stopped) this.#line.live();
    this.#about.draw(status);
  }

  /** Draw with the next frame of the screen, once for many calls. */
  #drawSoon() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      if (!this.#stopped) this.#draw();
    });
  }

  #draw() {
    const students = this.#classes.members();
    this.#panel.draw(students);
    this.#requests.draw();
    this.#own.draw();
    this.#tiles.draw(students, this.#classes.now());
    this.#student.draw();
  }

  #showStopped() {
    this.#connection.stop();
    this.#line.stopped();
    document.querySelector("main").replaceChildren();
    for (const control of document.querySelectorAll(".bar button, .bar input, .bar select")) control.disabled = true;
    find("ended").hidden = false;
  }
}

function dashboardUrl() {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/dashboard`;
}

new Dashboard().start();
