"""Events in a student's browser survive reloads, crashes, sleep, full storage, changed clocks, and a lost server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Playwright, sync_playwright

from appliance.archive import Record, read
from tests.browser.world import ARGUMENTS, HOST, PATIENCE, network, saved
from tests.clock import Clock
from tests.launcher import Program, until

pytestmark = pytest.mark.browser

HELD = '#saved[data-state="waiting"]'


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


class Room:
    """The program, and browsers with profiles that are kept."""

    def __init__(self, playwright: Playwright, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.program = Program(folder, environment={"CLASSROOM_OBSERVER_WEB__HOSTS": HOST, **environment}).start()
        self.port = self.program.port
        self._playwright = playwright
        self.open: list[BrowserContext] = []

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def browser(self, profile: str = "profile") -> BrowserContext:
        """A browser; with the same profile it has the data of its earlier runs."""
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        context = self._playwright.chromium.launch_persistent_context(
            str(self.folder / profile), executable_path=chromium, args=ARGUMENTS
        )
        context.set_default_timeout(PATIENCE * 1000)
        self.open.append(context)
        return context

    def join(self, context: BrowserContext, name: str = "Ada") -> Page:
        """Join by the code, and open the writing page."""
        page = context.new_page()
        page.goto(f"{self.url}/join")
        page.fill("#code", self.program.ready["join_code"])
        page.fill("#name", name)
        page.click("#join")
        page.wait_for_url("**/write")
        saved(page)
        return page

    def crash(self, context: BrowserContext, profile: str = "profile") -> None:
        """End a browser and all its processes between two instructions."""
        self.open.remove(context)
        place = f"--user-data-dir={self.folder / profile}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if place in (process / "cmdline").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)
        with contextlib.suppress(Exception):
            context.close()
        for lock in (self.folder / profile).glob("Singleton*"):
            lock.unlink()

    def back(self, page: Page) -> None:
        """Start the program again; the page gets the event that the network is back, as after a loss of Wi-Fi."""
        self.program.start()
        page.evaluate("() => dispatchEvent(new Event('online'))")

    def whole(self, name: str = "Ada") -> dict[str, Any]:
        """All data that the teacher sees of a student."""
        [student] = [one for one in self.program.get("/api/v1/students") if one["name"] == name]
        found: dict[str, Any] = self.program.get(f"/api/v1/students/{student['student_id']}")
        return found

    def text(self, name: str = "Ada") -> str:
        return str(self.whole(name)["documents"]["essay"]["writing"]["text"])

    def agree(self, page: Page, expected: str) -> None:
        """The page says that all is saved, and every event is saved once."""
        saved(page)
        assert page.input_value("#text") == expected
        until(lambda: self.text() == expected, f"the server has {expected!r}, not {self.text()!r}")
        streams: dict[str, int] = {}
        for record in self.records():
            assert record.seq == streams.get(record.stream, 0) + 1
            streams[record.stream] = record.seq

    def records(self) -> list[Record]:
        return [record for record in read([self.program.data / "archive"]) if isinstance(record, Record)]

    def end(self) -> None:
        for context in self.open:
            context.close()
        self.program.end()


@pytest.fixture
def room(playwright: Playwright, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Room]:
    room = Room(playwright, tmp_path, getattr(request, "param", {}))
    try:
        yield room
    finally:
        room.end()


def write(page: Page, words: str) -> None:
    page.click("#text")
    page.keyboard.press("Control+End")
    page.keyboard.type(words)


def held(page: Page, words: str) -> str:
    """Wait for a sentence about unsent work on this device; returns the whole sentence."""
    page.wait_for_selector(HELD)
    page.wait_for_function("words => document.getElementById('saved-text').textContent.includes(words)", arg=words)
    return page.inner_text("#saved-text")


def test_a_reload_in_the_middle_of_a_word(room: Room) -> None:
    page = room.join(room.browser())
    for words in ("one ", "two ", "three "):
        write(page, words)
        page.reload()
    room.agree(page, "one two three ")


def test_a_browser_that_crashes_while_the_server_is_away(room: Room) -> None:
    browser = room.browser()
    page = room.join(browser)
    write(page, "saved ")
    room.agree(page, "saved ")
    room.program.kill()
    write(page, "and held 🙂")
    held(page, "safe on this device")
    page.wait_for_timeout(1000)  # the page stores what was written every 150 ms
    room.crash(browser)
    room.program.start()
    page = room.browser().new_page()
    page.goto(f"{room.url}/write")
    room.agree(page, "saved and held 🙂")
    assert sum(b'"event":"edit"' in bytes(record.event) for record in room.records()) >= 15


def test_what_arrives_late_is_said_to_the_teacher(playwright: Playwright, tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    room = Room(playwright, tmp_path, clock.environment)
    try:
        page = room.join(room.browser())
        room.program.kill()
        write(page, "held for a while")
        held(page, "on this device")
        # Two minutes pass, for both.
        clock.set_by(120)
        page.evaluate("() => { const now = Date.now; Date.now = () => now() + 120000; }")
        room.back(page)
        room.agree(page, "held for a while")
        assert room.whole()["late"] >= 16
        teacher = room.browser("teacher").new_page()
        teacher.goto(room.program.ready["dashboard_url"])
        teacher.wait_for_selector(".tile .late:visible")
        said = teacher.inner_text(".tile .late")
        assert said == "⇣ Was offline, now up to date"
        # They count at the time at which they happened.
        edits = [record for record in room.records() if b'"event":"edit"' in bytes(record.event)]
        assert all(record.received - record.at > 100 for record in edits)
    finally:
        room.end()


def test_two_tabs_of_one_student(room: Room) -> None:
    browser = room.browser()
    one = room.join(browser)
    write(one, "one ")
    room.agree(one, "one ")
    two = browser.new_page()
    two.goto(f"{room.url}/write")
    two.click("#write-here")
    two.wait_for_selector("#elsewhere", state="hidden")
    write(two, "two ")
    one.wait_for_function("() => document.getElementById('text').value === 'one two '")
    one.click("#write-here")
    one.wait_for_selector("#elsewhere", state="hidden")
    write(one, "three ")
    two.wait_for_function("() => document.getElementById('text').value === 'one two three '")
    two.close()
    one.reload()
    room.agree(one, "one two three ")
    # On a busy computer a tab may answer the other too late; its stream then goes on under a third id, complete.
    assert len({record.stream for record in room.records()}) in (2, 3)


DENIED = "throw new DOMException('denied', 'SecurityError')"


@pytest.mark.parametrize(
    "script",
    [
        "Object.defineProperty(globalThis, 'indexedDB', { value: undefined })",
        f"Object.defineProperty(globalThis, 'indexedDB', {{ get() {{ {DENIED}; }} }})",
        f"IDBFactory.prototype.open = () => {{ {DENIED}; }}",
    ],
    ids=["missing", "denied", "denied at opening"],
)
def test_a_browser_that_keeps_nothing(room: Room, script: str) -> None:
    browser = room.browser()
    browser.add_init_script(script)
    page = room.join(browser)
    write(page, "one ")
    room.agree(page, "one ")
    room.program.kill()
    write(page, "two")
    assert "do not close this page" in held(page, "only in this page")
    room.back(page)
    room.agree(page, "one two")


def test_a_browser_whose_storage_is_full(room: Room) -> None:
    browser = room.browser()
    errors: list[str] = []
    browser.on("weberror", lambda error: errors.append(str(error.error)))
    page = room.join(browser)
    write(page, "one ")
    room.agree(page, "one ")
    page.evaluate(
        """() => {
            IDBObjectStore.prototype.put = () => { throw new DOMException("full", "QuotaExceededError"); };
        }"""
    )
    room.program.kill()
    write(page, "two ")
    held(page, "only in this page")
    room.back(page)
    room.agree(page, "one two ")
    # The next page has space again, and what was kept before is not sent again.
    page.reload()
    saved(page)
    write(page, "three")
    room.agree(page, "one two three")
    # Another site's page may report each unhandled error.
    assert errors == []


def test_a_clock_that_is_set_back_and_forth(room: Room) -> None:
    page = room.join(room.browser())
    expected = ""
    page.evaluate("globalThis.trueNow = Date.now")
    for days in (-1, 2, -400, 0):
        page.evaluate("days => { Date.now = () => trueNow() + days * 86400000 }", days)
        write(page, f"{days} ")
        expected += f"{days} "
        room.agree(page, expected)
    times = [record.at for record in room.records()]
    assert times == sorted(times)
    assert all(abs(record.received - record.at) < PATIENCE for record in room.records())


def test_a_laptop_that_wakes_with_a_dead_connection(room: Room) -> None:
    with network(room.program.port) as proxy:
        room.port = proxy.port
        browser = room.browser()
        page = room.join(browser)
        write(page, "one ")
        room.agree(page, "one ")
        proxy.strand()
        # An hour has passed without the page noticing.
        page.evaluate("() => { const now = Date.now; Date.now = () => now() + 3600000; }")
        write(page, "two")
        room.agree(page, "one two")
        browser.close()
        room.open.clear()


def test_a_pause_that_a_page_missed_is_corrected(room: Room) -> None:
    with network(room.program.port) as proxy:
        room.port = proxy.port
        browser = room.browser()
        page = room.join(browser)
        write(page, "Written before the pause. ")
        room.agree(page, "Written before the pause. ")
        proxy.silence()
        room.program.post("/api/v1/class/pause", {})
        page.evaluate("document.getElementById('text').setSelectionRange(0, 0)")
        page.keyboard.type("In front. ")
        paused = lambda: [one for one in room.records() if one.paused and _event(one).get("event") == "edit"]  # noqa: E731
        until(lambda: len(paused()) == len("In front. "), "all came while the class was paused")
        room.program.post("/api/v1/class/resume", {})
        assert not page.is_visible("#paused")
        assert page.get_attribute("#saved", "data-state") == "saving"
        assert room.text() == "Written before the pause. "
        proxy.loop.call_soon_threadsafe(proxy.drop_all)
        saved(page)
        page.evaluate("document.getElementById('text').setSelectionRange(3, 3)")
        page.keyboard.type("(amid) ")
        room.agree(page, "In (amid) front. Written before the pause. ")
        browser.close()
        room.open.clear()


def test_a_server_that_starts_again_on_another_day(playwright: Playwright, tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    room = Room(playwright, tmp_path, clock.environment)
    try:
        page = room.join(room.browser())
        write(page, "one ")
        room.agree(page, "one ")
        assert room.program.stop() == 0
        clock.set_by(86400)
        write(page, "two ")
        held(page, "on this device")
        room.back(page)
        room.agree(page, "one two ")
        page.reload()
        saved(page)
        write(page, "three")
        room.agree(page, "one two three")
        days = {path.name[:15] for path in (room.program.data / "archive").glob("events-*")}
        assert len(days) == 2
    finally:
        room.end()


def test_a_server_that_has_lost_its_data_gets_all_that_is_held(room: Room) -> None:
    page = room.join(room.browser())
    write(page, "one ")
    room.agree(page, "one ")
    room.program.kill()
    shutil.rmtree(room.program.data)
    write(page, "two ")
    held(page, "on this device")
    room.back(page)
    page.wait_for_selector("#rejoin:visible")
    assert "not sent yet" in page.inner_text("#saved-text")
    page.click("#rejoin")
    page.wait_for_selector("#join:visible")
    assert page.input_value("#name") == "Ada"
    page.fill("#code", room.program.ready["join_code"])
    page.click("#join")
    page.wait_for_url("**/write")
    room.agree(page, "one two ")
    # Not only the text, but also the events while the server could not be reached.
    inserted = "".join(event["insert"] for record in room.records() if (event := _event(record)).get("event") == "edit")
    assert inserted == "two "


def _event(record: Record) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(record.event))
    return found
