"""A program that cannot start explains why in a window to a person who sees no terminal."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desktop.world import Desk, desk, posix, until

pytestmark = posix


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as made:
        yield made


def test_without_a_terminal_a_window_says_why_and_where_the_log_is(here: Desk) -> None:
    here.with_browser()
    window = here.fake_program("zenity")
    with socket.create_server(("127.0.0.1", 0)) as other:
        failed = here.start("--port", str(other.getsockname()[1]))
        assert failed.wait() == 3
    until(lambda: window.exists() and "log is in" in window.read_text(), "the window opens")
    assert "is in use by" in window.read_text()
    assert str(here.log_file) in window.read_text()
    assert "is in use by" in here.log_file.read_text()


def test_a_wrong_setting_is_explained_before_there_is_a_log_folder(here: Desk) -> None:
    here.with_browser()
    window = here.fake_program("zenity")
    del here.environment["CLASSROOM_OBSERVER_LOG_DIR"]
    here.environment["CLASSROOM_OBSERVER_WEB__PORT"] = "http"
    failed = here.start()
    assert failed.wait() == 2
    until(lambda: window.exists() and "log is in" in window.read_text(), "the window opens")
    log = Path(here.environment["XDG_STATE_HOME"]) / "classroom-observer" / "log" / "classroom-observer.log"
    assert "must be a whole number" in log.read_text()


def test_started_by_a_program_no_window_opens(here: Desk) -> None:
    here.with_browser()
    window = here.fake_program("zenity")
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert here.start("--no-browser", "--port", str(other.getsockname()[1])).wait() == 3
    assert not window.exists()
