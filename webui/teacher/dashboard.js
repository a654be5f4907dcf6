// The class, live: a tile per student, the join panel, and what a teacher can do to a class.

import { counted } from "../shared/text.js";
import { Link } from "./connection.js";
import { excerptOf, fit, withCaret } from "./excerpt.js";
import { inWords, isSaving, keyOf, noteOf, worstFirst } from "./findings.js";
import {
  handUp,
  lateOf,
  missingOf,
  moment,
  neverCame,
  Roster,
  STATES,
  size,
  sorted,
  spark,
  stateOf,
  timeOf,
  wordsOf,
} from "./model.js";
import { partsOf } from "./student-details.js";

const $ = (id) => document.getElementById(id);
const roster = new Roster();
const tiles = new Map();
// Those whose excerpt may be longer than its box.
const unfitted = new Set();
const shown = { classId: null, student: null, joinChosen: false, loadedAt: Number.NEGATIVE_INFINITY, stale: false };
let drawn = false;
let stopped = false;
let connected = false;
let saving = true;
let findings = [];
// What is said of the findings, and which of them were put away.
let said = "";
const dismissed = new Set();

const NO_CONNECTION = "No connection right now. Try again in a moment.";
const CALL_MS = 15_000;

async function call(method, path, body) {
  // Over a network that is gone an answer would be waited for for minutes.
  const options = { method, headers: {}, signal: AbortSignal.timeout(CALL_MS) };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error(NO_CONNECTION);
  }
  if (answer.status === 401) signedOut();
  // What stands between may answer in the server's place, with a page of its own.
  const content = answer.status === 204 ? {} : await answer.json().catch(() => null);
  if (content === null) throw new Error(NO_CONNECTION);
  if (!answer.ok) throw new Error(content.error?.message ?? NO_CONNECTION);
  return content;
}

// What a button does; why it failed is said at the top.
function act(button, action) {
  button.addEventListener("click", async () => {
    $("failed").textContent = "";
    try {
      await action();
    } catch (error) {
      $("failed").textContent = error.message;
    }
  });
}

function connection(state, text, title = "") {
  $("connection").dataset.state = state;
  if ($("connection").textContent !== text) $("connection").textContent = text;
  $("connection").title = title;
}

function showLive() {
  if (connected && !stopped) connection(saving ? "live" : "unsaved", saving ? "Live" : "Live, not saving");
}

function showLost(reason) {
  const known = roster.lostAt !== null;
  const said = known ? `Connection lost. Showing ${moment(roster.lostAt)}.` : "No connection yet.";
  connection("reconnecting", said, "This page tries again by itself.");
  $("why").textContent = `${reason} This page tries again by itself.`;
  $("why").hidden = !reason;
  for (const place of [$("tiles"), $("student-content")]) place.classList.toggle("stale", known);
  $("student-lost").textContent = said;
  $("student-lost").hidden = false;
}

function showFound() {
  connected = true;
  showLive();
  // Names of students may be known only now.
  showFindings();
  $("why").hidden = true;
  for (const place of [$("tiles"), $("student-content")]) place.classList.remove("stale");
  $("student-lost").hidden = true;
}

function signedOut() {
  connected = false;
  connection("signed-out", "Signed out");
  location.assign("/login");
}

const scheme = location.protocol === "https:" ? "wss" : "ws";
const link = new Link(`${scheme}://${location.host}/ws/dashboard`, {
  heard(frame) {
    if (stopped) return;
    const enough = roster.take(frame);
    // Before the first snapshot nothing that is shown is live.
    if (roster.version !== null && !connected) {
      showFound();
      // What failed for want of a connection can be done again now.
      for (const id of ["failed", "message-result"]) if ($(id).textContent === NO_CONNECTION) $(id).textContent = "";
    }
    if (!enough) link.send('{"type":"snapshot"}');
    else draw();
  },
  lost(reason) {
    if (stopped) return;
    connected = false;
    // Only this page's own link is gone: what the tiles say is what was known last.
    roster.lost();
    showLost(reason);
    draw();
    // Whether the session ended cannot be seen from the socket.
    call("GET", "/api/v1/status").catch(() => {});
  },
});

function draw() {
  if (drawn) return;
  drawn = true;
  requestAnimationFrame(() => {
    drawn = false;
    if (stopped) return;
    drawClass();
    drawTiles();
    if (shown.student) drawStudent();
  });
}

// Touches a list only where it says something else than before: somebody may be choosing from it.
const listed = new Map();
function options(select, entries, chosen) {
  const key = JSON.stringify(entries);
  if (listed.get(select) !== key) {
    listed.set(select, key);
    select.replaceChildren(
      ...entries.map(([value, text]) => {
        const option = document.createElement("option");
        option.value = value;
        option.textContent = text;
        return option;
      }),
    );
  }
  if (select.value !== chosen) select.value = chosen;
}

function drawClass() {
  const view = roster.current();
  if (!view) return;
  shown.classId = view.class_id;
  const several = roster.classes.length > 1;
  $("class-title").textContent = view.title;
  $("class-title").hidden = several;
  $("class-choice").hidden = !several;
  options(
    $("class"),
    roster.classes.map((one) => [one.class_id, one.title]),
    view.class_id,
  );
  const address = view.join_url;
  $("join-url").textContent = address;
  $("address-choice").hidden = view.addresses.length < 2;
  options(
    $("address"),
    view.addresses.map((one) => [one, one]),
    address,
  );
  $("code").textContent = view.code;
  $("name-address").hidden = !view.name_url || view.name_url === address;
  $("name-url").textContent = view.name_url.replace(/^http:\/\//, "");
  $("hint").textContent = view.hint;
  $("hint").hidden = !view.hint;
  const picture = `${view.qr}?address=${encodeURIComponent(address)}&v=${encodeURIComponent(view.code)}`;
  if ($("qr").getAttribute("src") !== picture) $("qr").src = picture;
  $("open").checked = view.open;
  const paused = view.state === "paused";
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Resume" : "Pause";
  $("paused").hidden = !paused;
}

function members() {
  return [...roster.students.values()].filter((student) => student.class_id === shown.classId);
}

function drawTiles() {
  const students = members();
  const now = roster.now();
  const online = students.filter((student) => student.online).length;
  const hands = students.filter(handUp).length;
  const counts = `${online} of ${students.length} online${hands ? ` · ✋ ${hands}` : ""}`;
  if ($("counts").textContent !== counts) $("counts").textContent = counts;
  $("empty").hidden = students.length > 0;
  if (!shown.joinChosen) toggleJoin(students.every(neverCame));

  const kept = new Set(students.map((student) => student.student_id));
  for (const [id, tile] of tiles) {
    if (!kept.has(id)) {
      tile.node.remove();
      unfitted.delete(tile);
      tiles.delete(id);
    }
  }
  for (const student of students) {
    if (!tiles.has(student.student_id)) tiles.set(student.student_id, makeTile(student.student_id));
    fill(tiles.get(student.student_id), student, now);
  }
  order(students);
  for (const tile of unfitted) if (fit(tile.excerpt, tile.student)) unfitted.delete(tile);
}

// Tiles move only when the order was chosen anew, somebody came or went, or a hand went up or down.
let lastOrder = "";
function order(students) {
  const wanted = $("filter").value.trim().toLocaleLowerCase();
  const key = JSON.stringify([
    $("sort").value,
    wanted,
    students.map((s) => [s.student_id, s.name, handUp(s), neverCame(s)]),
  ]);
  if (key === lastOrder) return;
  lastOrder = key;
  const focused = document.activeElement;
  const nodes = sorted(students, $("sort").value).map((student) => {
    const { node } = tiles.get(student.student_id);
    node.hidden = !student.name.toLocaleLowerCase().includes(wanted);
    return node;
  });
  $("tiles").replaceChildren(...nodes);
  if (focused?.isConnected) focused.focus();
}

function makeTile(id) {
  const node = d3.create("button").attr("type", "button").attr("class", "tile").attr("data-student", id);
  const top = node.append("span").attr("class", "top");
  const tile = { node: node.node(), seen: {} };
  tile.name = top.append("span").attr("class", "name").attr("dir", "auto").node();
  tile.state = top.append("span").attr("class", "state").node();
  const numbers = node.append("span").attr("class", "numbers");
  tile.words = numbers.append("span").attr("class", "words").node();
  tile.time = numbers.append("span").attr("class", "time").node();
  tile.spark = node
    .append("svg")
    .attr("class", "sparkline")
    .attr("viewBox", "0 0 100 20")
    .attr("preserveAspectRatio", "none")
    .attr("role", "img");
  tile.excerpt = node.append("span").attr("class", "excerpt").node();
  tile.late = node.append("span").attr("class", "late").node();
  tile.missing = node.append("span").attr("class", "missing").node();
  tile.node.addEventListener("click", () => openStudent(id));
  return tile;
}

// Touches only what changed since the tile was filled last.
function fill(tile, student, now) {
  const put = (what, value, write) => {
    const text = JSON.stringify(value);
    if (tile.seen[what] === text) return;
    tile.seen[what] = text;
    write(value);
  };
  tile.student = student;
  const state = stateOf(student, now);
  const hand = handUp(student);
  put("name", student.name, (name) => {
    tile.name.textContent = name;
    tile.name.title = name;
  });
  put("state", [state, hand], () => {
    tile.node.dataset.state = state;
    tile.state.dataset.state = state;
    tile.node.classList.toggle("hand", hand);
    tile.state.textContent = `${hand ? "✋ " : ""}${STATES[state].symbol} ${STATES[state].word}`.trim();
  });
  put("late", lateOf(student, now), (late) => {
    tile.late.hidden = !late;
    tile.late.textContent = late && `⇣ ${late}`;
    tile.late.title = "They were done without a connection, and count at the time at which they were done.";
  });
  put("missing", missingOf(student, now), (missing) => {
    tile.missing.hidden = !missing.length;
    tile.missing.textContent = missing.length ? `⚠ ${missing.join(" ")}` : "";
  });
  put("words", wordsOf(student), (words) => {
    tile.words.textContent = words;
  });
  put("time", timeOf(student), (time) => {
    tile.time.textContent = time;
    tile.time.title = "Time on task";
  });
  put("spark", spark(student, now), (bins) => drawSpark(tile.spark, bins));
  put("excerpt", excerptOf(student), (excerpt) => {
    withCaret(tile.excerpt, excerpt);
    unfitted.add(tile);
  });
}

function drawSpark(svg, bins) {
  const x = d3.scaleBand(d3.range(bins.length), [0, 100]).paddingInner(0.2);
  // At least ten events high, so that a single event is no mountain.
  const y = d3.scaleSqrt([0, Math.max(10, d3.max(bins))], [0, 20]);
  svg
    .attr("aria-label", `${counted(d3.sum(bins), "event")} in the last 20 minutes`)
    .selectAll("rect")
    .data(bins)
    .join("rect")
    .attr("x", (_, index) => x(index))
    .attr("width", x.bandwidth())
    .attr("y", (count) => 20 - y(count))
    .attr("height", (count) => y(count));
}

function toggleJoin(open) {
  $("join").hidden = !open;
  $("join-toggle").setAttribute("aria-expanded", String(open));
  // What is wrong stands above it, and the page may be scrolled.
  if (open) $("join").scrollIntoView({ block: "nearest" });
}

// One student, whole

async function openStudent(id) {
  shown.student = id;
  shown.loadedAt = Number.NEGATIVE_INFINITY;
  $("student-content").replaceChildren();
  $("student-failed").textContent = "";
  $("student").showModal();
  drawStudent();
}

// Reads the student anew, at most once a second.
function drawStudent() {
  const student = roster.students.get(shown.student);
  if (!student) {
    $("student").close();
    return;
  }
  $("student-name").textContent = student.name;
  if (shown.stale || !connected) return;
  shown.stale = true;
  setTimeout(
    async () => {
      shown.stale = false;
      shown.loadedAt = performance.now();
      const id = shown.student;
      // Once the page is live again it is read again.
      if (!id || !connected) return;
      try {
        const whole = await call("GET", `/api/v1/students/${encodeURIComponent(id)}`);
        if (id === shown.student) showStudent(whole);
        $("student-failed").textContent = "";
      } catch (error) {
        // What was read last stays in view.
        if (id === shown.student && connected) $("student-failed").textContent = error.message;
      }
    },
    Math.max(0, 1000 - (performance.now() - shown.loadedAt)),
  );
}

function showStudent(student) {
  const scroll = $("student-content").querySelector(".text")?.scrollTop ?? 0;
  $("student-content").replaceChildren(...partsOf(student, roster.now()));
  const text = $("student-content").querySelector(".text");
  if (text) text.scrollTop = scroll;
}

// Findings that an educator should know of

const STATUS_MS = 5000;
let asking = false;

async function askStatus() {
  if (stopped || asking) return;
  asking = true;
  try {
    showStatus(await call("GET", "/api/v1/status"));
  } catch {
    // The connection line says that the server is away.
  } finally {
    asking = false;
  }
}

function showStatus(status) {
  findings = worstFirst(status.findings ?? []);
  saving = isSaving(findings);
  showLive();
  showFindings();
  $("version").textContent = status.version;
  $("stop").hidden = !status.here;
  const { archive_bytes: taken, free_bytes: free } = status.space ?? {};
  if (status.space) $("space").textContent = `Stored so far: ${size(taken)}. Free space: ${size(free)}.`;
}

function showFindings() {
  const keys = new Set(findings.map(keyOf));
  // What went away and comes again is shown again.
  for (const key of dismissed) if (!keys.has(key)) dismissed.delete(key);
  const notes = findings
    .filter((finding) => !dismissed.has(keyOf(finding)))
    .map((finding) => ({ key: keyOf(finding), ...inWords(finding, nameOf, roster.now()) }));
  // What is there anew is read aloud; so only what differs is put there.
  if (said === JSON.stringify(notes)) return;
  said = JSON.stringify(notes);
  $("findings").replaceChildren(...notes.map((note) => noteOf(note, () => dismissed.add(note.key))));
}

function nameOf(id) {
  return roster.students.get(id)?.name;
}

// Buttons

$("class").addEventListener("change", () => {
  roster.choose($("class").value);
  draw();
});
$("address").addEventListener("change", async () => {
  $("failed").textContent = "";
  const chosen = $("address").value;
  $("address").blur();
  try {
    await call("POST", "/api/v1/address", { url: chosen });
  } catch (error) {
    $("failed").textContent = error.message;
  }
});
for (const id of ["filter", "sort"]) $(id).addEventListener("input", draw);
$("join-toggle").addEventListener("click", () => {
  shown.joinChosen = true;
  toggleJoin($("join").hidden);
});
act($("pause"), () =>
  call("POST", `/api/v1/class/${roster.current().state === "paused" ? "resume" : "pause"}`, {
    class_id: shown.classId,
  }),
);
act($("open"), () => call("POST", "/api/v1/class/change", { class_id: shown.classId, open: $("open").checked }));
act($("new-code"), async () => {
  if (confirm("Make a new code? The old one stops working; students who have joined stay.")) {
    await call("POST", "/api/v1/class/change", { class_id: shown.classId, new_code: true });
  }
});
$("message-open").addEventListener("click", () => {
  $("message-result").textContent = "";
  $("message").showModal();
});
$("message-send").addEventListener("click", async () => {
  try {
    const text = $("message-text").value;
    const { sent } = await call("POST", "/api/v1/class/message", { text, class_id: shown.classId });
    $("message-result").textContent = `Sent to ${counted(sent, "student")}.`;
    $("message-text").value = "";
  } catch (error) {
    $("message-result").textContent = error.message;
  }
});
act($("remove"), async () => {
  const student = roster.students.get(shown.student);
  if (student && confirm(`Take ${student.name} out of the class? What was written is kept.`)) {
    await call("POST", `/api/v1/students/${encodeURIComponent(student.student_id)}/remove`, {});
    $("student").close();
  }
});
// The program itself

function openAbout() {
  $("about-result").textContent = "";
  if (!$("about").open) $("about").showModal();
}

$("about-open").addEventListener("click", openAbout);
$("licences-show").addEventListener("click", async () => {
  const answer = await fetch("/api/v1/licences").catch(() => null);
  $("licences").value = answer?.ok ? await answer.text() : NO_CONNECTION;
  $("licences").hidden = false;
});
$("stop").addEventListener("click", async () => {
  const online = [...roster.students.values()].filter((student) => student.online).length;
  const warning = online ? `${counted(online, "student is", "students are")} online. ` : "";
  if (
    !confirm(`${warning}Stop Classroom Observer on this computer? What students do meanwhile waits in their browsers.`)
  ) {
    return;
  }
  stopped = true;
  try {
    await call("POST", "/api/v1/stop", {});
    link.stop();
    $("about").close();
    connection("stopped", "Stopped");
    document.querySelector("main").replaceChildren();
    for (const control of document.querySelectorAll(".bar button, .bar input, .bar select")) control.disabled = true;
    $("ended").hidden = false;
  } catch (error) {
    stopped = false;
    $("about-result").textContent = error.message;
  }
});

// The tray icon opens the dashboard at one of its parts.
function toPlace() {
  if (location.hash === "#join") {
    shown.joinChosen = true;
    toggleJoin(true);
    draw();
  }
  if (location.hash === "#about") openAbout();
  if (location.hash) history.replaceState(null, "", location.pathname);
}
addEventListener("hashchange", toPlace);

for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
$("student").addEventListener("close", () => {
  shown.student = null;
});

toPlace();
link.start();
addEventListener("online", () => link.hurry());
addEventListener("pageshow", () => link.hurry());
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && link.hurry());
askStatus();
setInterval(askStatus, STATUS_MS);
addEventListener("resize", () => {
  for (const tile of tiles.values()) {
    withCaret(tile.excerpt, excerptOf(tile.student));
    unfitted.add(tile);
  }
  draw();
});
// Time passes without events, too.
setInterval(draw, 5000);
