"""The tray icon in real trays: found by its window and clicked; the effect of an entry is checked at the server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from appliance.config import Settings
from appliance.desktop.status import MENU_CHARACTERS, TrayStatus, status_text, tray_status, worst_finding
from appliance.listeners import Listeners
from appliance.node import Status
from tests.desktop.screen import ENTRIES, Screen, missing, screen
from tests.desktop.world import ROOT, Desk, Program, desk, signs_in, until

YELLOW, BLUE = (255, 210, 63), (47, 110, 219)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Desk]:
    if sys.platform != "linux":
        pytest.skip("the trays of Linux")
    lacking = missing()
    if lacking and os.environ.get("CI") == "true":
        pytest.fail(f"CI must have {lacking}")
    if lacking:
        pytest.skip(f"not installed: {lacking}")
    with desk(tmp_path) as made:
        yield made


@pytest.fixture
def shown(here: Desk) -> Iterator[Screen]:
    with screen(here) as made:
        yield made


def state_of(running: Program) -> str:
    return str(running.ask("GET", "/api/v1/classes")[0]["state"])


def mostly(shown: Screen, colour: tuple[int, int, int], folder: Path) -> bool:
    """Whether this colour covers more than a fifth of the icon on the screen."""
    colours = shown.colours(folder / "icon.png")
    near = sum(
        number for found, number in colours.items() if all(abs(a - b) < 12 for a, b in zip(found, colour, strict=True))
    )
    return near > 0.2 * colours.total()


class TestStatusNotifierPanel:
    """A panel as in Xfce, KDE, and GNOME with its extension."""

    def test_a_lesson_from_the_tray(self, here: Desk, shown: Screen) -> None:
        shown.bus()
        shown.panel("xfce4-panel")
        opened = here.fake_program("browser")
        here.environment["BROWSER"] = str(opened.with_suffix(""))
        folders = here.fake_program("xdg-open")
        running = here.start("--no-browser").ready()
        until(lambda: mostly(shown, BLUE, here.folder), "the icon is blue")

        shown.choose("Open dashboard", button=1)
        until(lambda: opened.exists() and opened.read_text().count("\n") == 1, "the dashboard opens")
        assert signs_in(opened.read_text().strip())
        shown.choose("Show join screen")
        until(lambda: opened.read_text().count("\n") == 2, "the join screen opens")
        assert urlsplit(opened.read_text().splitlines()[1]).fragment == "join"
        shown.choose("About")
        until(lambda: opened.read_text().count("\n") == 3, "About opens")
        assert urlsplit(opened.read_text().splitlines()[2]).fragment == "about"

        [view] = running.ask("GET", "/api/v1/classes")
        shown.choose("Copy join address")
        until(lambda: clipboard(here) == f"{view['join_url']}#{view['code']}", "the address is on the clipboard")

        shown.choose("Pause class")
        until(lambda: state_of(running) == "paused", "the class is paused")
        until(lambda: mostly(shown, YELLOW, here.folder), "the icon shows it")
        shown.choose("Resume class")
        until(lambda: state_of(running) == "open", "the class goes on")
        until(lambda: mostly(shown, BLUE, here.folder), "the icon shows it")

        # A change of the status leaves the open menu open, and appears in it.
        x, y, width, height = shown.open_menu()
        running.ask("POST", "/api/v1/class/pause", {})
        until(lambda: mostly(shown, YELLOW, here.folder), "the icon shows it")
        # It may be narrower because of its new text.
        assert (still := shown.menu()) is not None
        assert still[1] == y
        shown.click(x + width // 3, y + round(height * ENTRIES["Resume class"]))
        until(lambda: state_of(running) == "open", "the class goes on")
        until(lambda: shown.menu() is None, "the menu has closed")
        # The panel draws the icon anew, and may lose a click meanwhile.
        until(lambda: mostly(shown, BLUE, here.folder), "the icon shows it")

        shown.choose("Open data folder")
        until(lambda: folders.exists() and folders.read_text().strip() == str(running.data), "the folder opens")
        entry = here.folder / "config" / "autostart" / "classroom-observer.desktop"
        shown.choose("Start at login")
        until(entry.exists, "the tick is set")
        assert f'"{running.data}"' in entry.read_text()
        shown.choose("Start at login")
        until(lambda: not entry.exists(), "the tick is gone")

        shown.choose("Quit")
        assert running.wait() == 0
        assert running.log.count("WARNING") == 0, running.log


class TestOlderTray:
    """A tray of the kind that XEMBED describes, as in window managers alone."""

    def test_the_icon_has_a_window_with_the_status_and_a_menu_that_works(self, here: Desk, shown: Screen) -> None:
        shown.bus()
        shown.panel("trayer")
        running = here.start("--no-browser").ready()
        until(lambda: shown.title() == "Classroom Observer: Ready: no students yet", "the icon is there")
        shown.choose("Pause class")
        until(lambda: state_of(running) == "paused", "the class is paused")
        until(
            lambda: shown.title() == "Classroom Observer: The class is paused (0 students online)", "the title shows it"
        )
        until(lambda: mostly(shown, YELLOW, here.folder), "it is shown")
        x, y, width, height = shown.open_menu()
        running.ask("POST", "/api/v1/class/resume", {})
        until(lambda: mostly(shown, BLUE, here.folder), "the icon shows it")
        # It may be narrower because of its new text.
        assert (still := shown.menu()) is not None
        assert still[1] == y
        shown.click(x + width // 3, y + round(height * ENTRIES["Pause class"]))
        until(lambda: state_of(running) == "paused", "the class is paused")
        until(lambda: shown.menu() is None, "the menu has closed")
        # Changes by the dashboard appear in the tray as well.
        running.ask("POST", "/api/v1/class/resume", {})
        until(lambda: mostly(shown, BLUE, here.folder), "the icon shows it")
        shown.choose("Quit")
        assert running.wait() == 0

    def test_a_signal_ends_the_program_with_its_icon(self, here: Desk, shown: Screen) -> None:
        shown.bus()
        shown.panel("trayer")
        running = here.start("--no-browser").ready()
        shown.icon()
        assert running.stop() == 0
        until(lambda: shown.title() == "", "the icon is gone")


class TestNoTray:
    def test_one_line_says_so_and_an_icon_comes_with_the_panel(self, here: Desk, shown: Screen) -> None:
        shown.bus()
        running = here.start("--no-browser").ready()
        until(lambda: "There is no tray icon: this desktop has no place" in running.log, "the line is written")
        assert state_of(running) == "open"
        shown.panel("trayer")
        until(lambda: shown.title(), "the icon comes with the panel")
        assert running.log.count("There is no tray icon") == 1
        assert running.ask("POST", "/api/v1/stop", {})
        assert running.wait() == 0

    def test_without_a_session_bus_the_program_goes_on(self, here: Desk, shown: Screen) -> None:
        shown.panel("trayer")
        running = here.start("--no-browser").ready()
        until(lambda: "There is no tray icon: there is no session bus" in running.log, "the line is written")
        assert state_of(running) == "open"
        assert running.stop() == 0

    def test_a_display_that_does_not_answer_is_no_tray(self, here: Desk) -> None:
        here.environment["DISPLAY"] = ":none"
        here.environment["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/nowhere"
        running = here.start("--no-browser").ready()
        until(lambda: "There is no tray icon" in running.log, "the line is written")
        assert running.stop() == 0


@pytest.mark.parametrize(
    ("changed", "picture", "text"),
    [
        ({}, TrayStatus.READY, "Ready: no students yet"),
        ({"students": 1}, TrayStatus.STUDENTS, "1 student online"),
        ({"students": 24}, TrayStatus.STUDENTS, "24 students online"),
        ({"students": 24, "paused": True}, TrayStatus.PAUSED, "The class is paused (24 students online)"),
        (
            {"paused": True, "findings": 1, "worst": "error"},
            TrayStatus.TROUBLE,
            "1 thing needs attention: see the dashboard (0 students online)",
        ),
        (
            {"students": 24, "findings": 3, "worst": "critical"},
            TrayStatus.TROUBLE,
            "3 things need attention: see the dashboard (24 students online)",
        ),
        (
            {"students": 24, "findings": 2, "worst": "warning"},
            TrayStatus.STUDENTS,
            "24 students online. 2 things need attention: see the dashboard",
        ),
    ],
)
def test_what_needs_the_teacher_shows_first(changed: dict[str, Any], picture: TrayStatus, text: str) -> None:
    given = {
        "students": 0,
        "paused": False,
        "findings": 0,
        "worst": "ok",
        "sentence": "",
        "join_url": "",
        "code": "",
        **changed,
    }
    status = Status(**given)
    assert (tray_status(status), status_text(status)) == (picture, text)


def test_the_worst_finding_is_a_line_of_the_menu() -> None:
    status = Status(0, False, 2, "error", "The disk is full.", "", "")
    assert worst_finding(status) == "The disk is full."
    long = worst_finding(msgspec.structs.replace(status, sentence="word " * 100))
    assert len(long) <= MENU_CHARACTERS
    assert long.endswith("word…")
    assert worst_finding(msgspec.structs.replace(status, sentence="")) == worst_finding(None) == ""


class FakeProgram:
    """A program of which only the status changes."""

    quitting = False

    def __init__(self) -> None:
        self.status: Status | None = None
        self.on_status: Listeners[[]] = Listeners("the status")
        self.on_quit: Listeners[[]] = Listeners("the end")

    def with_dashboard_link(self, use: Callable[[str], None]) -> None: ...

    def set_paused(self, paused: bool) -> None: ...

    def quit(self) -> None: ...


def test_the_menu_has_that_line_only_while_something_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSTRAY_BACKEND", "dummy")
    from appliance.desktop.tray_menu import TrayMenu

    well = Status(0, False, 0, "ok", "", "", "")
    program = FakeProgram()
    for with_status in (True, False):
        menu = TrayMenu(program, Settings(), None, lambda text: None).build(with_status)
        lines = {}
        for status in (None, well, msgspec.structs.replace(well, findings=1, worst="error", sentence="It is full.")):
            program.status = status
            lines[status] = [item.text for item in menu]
        *before, bad = lines.values()
        assert all("It is full." not in line for line in before)
        assert bad.index("It is full.") == int(with_status)
        assert bad[int(with_status) + 1] == menu.SEPARATOR.text
        assert len(bad) == len(before[1]) + (1 if with_status else 2), "only this line and its separator were added"


def test_before_it_serves_it_says_that_it_starts() -> None:
    assert (tray_status(None), status_text(None)) == (TrayStatus.READY, "Starting…")


def test_the_number_of_students_stands_on_the_icon() -> None:
    from appliance.desktop.picture import picture

    pictures = {number: picture(TrayStatus.STUDENTS, number).tobytes() for number in (1, 7, 24, 42, 99, 100)}
    assert len(set(pictures.values())) == len(pictures)
    assert picture(TrayStatus.STUDENTS, 100).tobytes() == picture(TrayStatus.STUDENTS, 1000).tobytes()
    assert picture(TrayStatus.READY, 5).tobytes() == picture(TrayStatus.READY).tobytes()


def clipboard(here: Desk) -> str:
    """What another program finds on the clipboard."""
    code = (
        "import gi; gi.require_version('Gtk', '3.0'); from gi.repository import Gdk, Gtk; Gtk.init([]);"
        "print(Gtk.Clipboard.get(Gdk.SELECTION_CLIPBOARD).wait_for_text() or '')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=here.environment, capture_output=True, text=True, timeout=30
    )
    return done.stdout.strip()
