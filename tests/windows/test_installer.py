"""The installer installs the program on Windows for one user; an upgrade and the uninstaller lose nothing."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

import appliance
from tests.faults.world import a_class, until
from tests.launcher import PATIENCE, free_port
from tests.launcher import until as wait
from tests.windows.world import (
    CONSOLE,
    PROGRAM,
    RUN_KEY,
    TITLE,
    UNINSTALL_KEY,
    Built,
    Screen,
    WindowsProgram,
    Wine,
    configure,
    data,
    gone,
    later_setup,
    registry,
    shortcuts,
)

pytestmark = pytest.mark.windows

SECONDS = 120


def installed(windows: Wine) -> Path:
    return windows.user / "AppData" / "Local" / "Programs" / TITLE


def uninstall(windows: Wine, *flags: str) -> None:
    """Run the uninstaller, which continues in a copy of itself."""
    windows.run(installed(windows) / "uninstall.exe", "/S", *flags, seconds=SECONDS)
    wait(lambda: not installed(windows).exists() and not registry(windows, UNINSTALL_KEY), "it is uninstalled")


def health(port: int) -> dict[str, Any]:
    """The answer of ``/healthz``; nothing while no program listens."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=PATIENCE) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except (URLError, ConnectionError):
        return {}


def test_it_installs_for_one_user_and_says_so_to_windows(windows: Wine, built: Built) -> None:
    windows.run(built.setup, "/S", seconds=SECONDS)
    folder = installed(windows)
    assert {path.name for path in folder.iterdir()} == {
        PROGRAM,
        CONSOLE,
        "_internal",
        "LICENSE.txt",
        "uninstall.exe",
    }
    menu, desktop = shortcuts(windows)
    assert menu.exists()
    assert desktop.exists()
    entry = registry(windows, UNINSTALL_KEY)
    assert entry["DisplayName"] == TITLE
    assert entry["DisplayVersion"] == appliance.__version__
    assert entry["InstallLocation"] == windows.windows_path(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert abs(int(entry["EstimatedSize"], 16) - size // 1024) < 1024
    # Whether it starts at sign-in is for the user to choose.
    assert TITLE not in registry(windows, RUN_KEY)
    assert windows.run(folder / CONSOLE, "version") == f"classroom-observer {appliance.__version__}\n"
    uninstall(windows)
    assert not menu.exists()
    assert not desktop.exists()


def test_the_start_menu_starts_it(windows: Wine, built: Built) -> None:
    windows.run(built.setup, "/S", seconds=SECONDS)
    port = free_port()
    configure(windows, f'[web]\nhost = "127.0.0.1"\nport = {port}\n[desktop]\nbrowser = false\n')
    menu, _ = shortcuts(windows)
    # The program that it starts has no standard handles, but keeps these pipes open.
    with windows.start("start", "/unix", menu) as start:
        assert start.wait(PATIENCE) == 0
    wait(lambda: health(port), "it serves")
    assert health(port)["version"] == appliance.__version__
    [process] = windows.running(PROGRAM)
    [log] = data(windows).rglob("classroom-observer.log")
    wait(lambda: "Students join" in log.read_text(encoding="utf-8"), "the log says where students join")
    # A second start finds the first.
    assert "uses the data folder" in windows.run(installed(windows) / CONSOLE, "run", "--no-browser", ok=(2,))
    assert windows.running(PROGRAM) == [process]
    # The uninstaller ends it, and keeps the data.
    uninstall(windows)
    gone(windows)
    assert (data(windows) / "classroom-observer" / "credentials.json").exists()


async def test_an_upgrade_over_a_running_copy_keeps_choices_and_data(
    windows: Wine, built: Built, tmp_path: Path
) -> None:
    later = later_setup(built)
    windows.run(built.setup, "/S", "/LOGIN=1", "/DESKTOP=0", seconds=SECONDS)
    folder = installed(windows)
    command = f'"{windows.windows_path(folder / PROGRAM)}" run --no-browser'
    assert registry(windows, RUN_KEY)[TITLE] == command
    left = folder / "_internal" / "of-an-earlier-version.txt"
    left.write_text("Python would find it.")
    own = data(windows) / "classroom-observer"
    configure(windows, "[web]\nannounce = false\n")
    program = WindowsProgram(windows, tmp_path, folder, data=own)
    async with a_class(program, random.Random(3), 2) as room:
        room.connect()
        room.begin_typing(per_second=20)
        await until(lambda: all(student.acked > 20 for student in room.students), "the class is at work")
        room.may.clear()
        windows.run(later, "/S", seconds=SECONDS)
        # Exit code 0: the installer requested an orderly stop.
        assert program.ended() == 0
        assert registry(windows, UNINSTALL_KEY)["DisplayVersion"] == "99.1.0"
        assert registry(windows, RUN_KEY)[TITLE] == command
        assert not shortcuts(windows)[1].exists()
        assert not left.exists()
        counts = room.archived()
        program.start()
        await room.stands_at(counts)
        room.may.set()
        await room.end_typing()
        await room.complete()
    uninstall(windows, "/DELETEDATA")
    assert TITLE not in registry(windows, RUN_KEY)
    assert not data(windows).exists()


def test_a_copy_that_does_not_end_is_left_whole(windows: Wine, built: Built, tmp_path: Path) -> None:
    later = later_setup(built)
    windows.run(built.setup, "/S", seconds=SECONDS)
    # On another data folder the installer does not find it to ask it.
    program = WindowsProgram(windows, tmp_path, installed(windows))
    try:
        program.start()
        windows.run(later, "/S", seconds=SECONDS, ok=(2,))
        assert registry(windows, UNINSTALL_KEY)["DisplayVersion"] == appliance.__version__
        assert program.get("/api/v1/students") == []
        assert program.stop() == 0
    finally:
        program.end()
    windows.run(later, "/S", seconds=SECONDS)
    assert registry(windows, UNINSTALL_KEY)["DisplayVersion"] == "99.1.0"
    uninstall(windows)


def test_the_uninstaller_asks_before_it_deletes_what_was_recorded(windows: Wine, built: Built) -> None:
    windows.run(built.setup, "/S", seconds=SECONDS)
    kept = configure(windows, "")
    process = windows.start(installed(windows) / "uninstall.exe")
    try:
        screen = Screen(windows)
        screen.wait_for("Classroom Observer Uninstall")
        screen.press_until("Return", lambda: screen.shows("What was recorded"))
        # The box is not ticked at first; the shortcut key D ticks it.
        screen.press("alt+d")
        screen.press_until("Return", lambda: not installed(windows).exists())
        wait(lambda: not kept.exists(), "what was recorded is deleted")
    finally:
        windows.end_all()
        process.communicate(timeout=PATIENCE)
