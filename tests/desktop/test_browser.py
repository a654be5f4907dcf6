"""Pages and folders open with the default programs of the desktop, in its environment."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from appliance.desktop import browser

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems open things in their own way")
URL = "http://127.0.0.1:8000/"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the path, for fake programs; the real openers cannot be found."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("BROWSER", raising=False)
    return folder


def fake_program(folder: Path, name: str, script: str) -> Path:
    """A program that does what `script` says; returns a file for it to write, ``$CALLS``."""
    calls = folder / f"{name}.calls"
    program = folder / name
    program.write_text(f"#!/bin/sh\nCALLS={calls}\n{script}\n")
    program.chmod(0o755)
    return calls


@pytest.mark.parametrize(
    ("platform", "environment", "shown"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ""}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("win32", {}, True),
        ("darwin", {}, True),
    ],
)
def test_where_there_is_a_desktop(platform: str, environment: dict[str, str], shown: bool) -> None:
    assert browser.has_desktop(platform, environment) is shown


def test_a_frozen_program_gives_others_the_library_paths_of_the_system() -> None:
    bundle = Path("/tmp/bundle")
    frozen = {
        "HOME": "/home/ann",
        "LD_LIBRARY_PATH": "/tmp/bundle",
        "LD_LIBRARY_PATH_ORIG": "/opt/lib",
        "XDG_DATA_DIRS": os.pathsep.join(["/tmp/bundle/share", "/usr/share"]),
        "GIO_MODULE_DIR": "/tmp/bundle/gio_modules",
        "GTK_PATH": "/tmp/bundle",
        "EMPTY": "",
    }
    assert browser.clean_environment(frozen, bundle) == {
        "HOME": "/home/ann",
        "LD_LIBRARY_PATH": "/opt/lib",
        "XDG_DATA_DIRS": "/usr/share",
        "EMPTY": "",
    }
    assert browser.clean_environment({"LD_LIBRARY_PATH": "/tmp/bundle"}, bundle) == {}
    assert browser.clean_environment({"LD_LIBRARY_PATH": "/opt/lib"}, None) == {"LD_LIBRARY_PATH": "/opt/lib"}


@linux
@pytest.mark.parametrize("what", ["page", "folder"])
def test_a_frozen_program_opens_things_with_them(
    programs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    calls = fake_program(programs, "xdg-open", 'echo "$1 ${LD_LIBRARY_PATH-unset}" > $CALLS')
    monkeypatch.setenv("LD_LIBRARY_PATH", "/tmp/bundle")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", "/tmp/bundle", raising=False)
    if what == "page":
        assert browser.show(URL)
        assert calls.read_text() == f"{URL} unset\n"
    else:
        browser.show_folder(tmp_path)
        assert calls.read_text() == f"{tmp_path} unset\n"


@linux
def test_a_browser_can_be_ended_although_our_own_threads_block_the_signals(programs: Path) -> None:
    calls = fake_program(
        programs,
        "xdg-open",
        "while read key mask; do [ $key = SigBlk: ] && echo $mask > $CALLS; done < /proc/self/status; exit 0",
    )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        assert browser.show(URL)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert int(calls.read_text(), 16) == 0


@linux
def test_the_person_s_own_choice_of_a_browser_comes_first(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    xdg = fake_program(programs, "xdg-open", "echo $1 > $CALLS")
    mine = fake_program(programs, "mine", "echo $2 > $CALLS")
    monkeypatch.setenv("BROWSER", "gone %s:mine --new %s")
    assert browser.show(URL)
    assert mine.read_text() == f"{URL}\n"
    assert not xdg.exists()


@linux
def test_what_fails_is_followed_by_the_next(programs: Path) -> None:
    fake_program(programs, "xdg-open", "exit 3")
    calls = fake_program(programs, "firefox", "echo $1 > $CALLS")
    assert browser.show(URL)
    assert calls.read_text() == f"{URL}\n"


@linux
def test_opening_does_not_wait_for_a_browser_that_stays(programs: Path) -> None:
    fake_program(programs, "xdg-open", "echo $$ > $CALLS; exec /bin/sleep 60")
    shown = threading.Event()
    thread = threading.Thread(target=lambda: browser.show(URL, 0.3) and shown.set())
    thread.start()
    try:
        assert shown.wait(10)
    finally:
        os.kill(int((programs / "xdg-open.calls").read_text()), signal.SIGTERM)
        thread.join()


@linux
def test_no_browser_is_no_error_and_the_link_is_in_no_log(programs: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not browser.show(f"{URL}?token=hush")
    assert "could not be opened" in caplog.text
    assert "hush" not in caplog.text
