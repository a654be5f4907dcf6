"""The log file: it is rotated, its errors stop nothing, and it has no data of students."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance import logs
from appliance.config import LogSettings, Settings


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    hooks = sys.excepthook, threading.excepthook
    root.setLevel(logging.INFO)
    yield
    for handler in [one for one in root.handlers if one not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    sys.excepthook, threading.excepthook = hooks


@pytest.fixture(autouse=True)
def _no_faulthandler(monkeypatch: pytest.MonkeyPatch) -> None:
    # During the test it is the one of pytest.
    monkeypatch.setattr(logs, "has_console", lambda: True)


def settings(folder: Path) -> Settings:
    return replace(Settings(log_dir=str(folder / "log")), log=LogSettings(file_bytes=4096, files=3))


def test_the_oldest_file_goes_when_there_are_too_many(tmp_path: Path) -> None:
    file = logs.to_file(settings(tmp_path))
    assert file is not None
    for number in range(500):
        logging.getLogger("test").info("line %d %s", number, "x" * 50)
    kept = sorted(path.name for path in file.parent.iterdir())
    assert kept == [logs.FILE, f"{logs.FILE}.1", f"{logs.FILE}.2"]
    assert all(path.stat().st_size <= 4096 for path in file.parent.iterdir())
    assert "line 499" in file.read_text()


def test_a_folder_that_cannot_be_written_is_reported_once_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "log").touch()
    assert logs.to_file(settings(tmp_path)) is None
    assert caplog.text.count("cannot be written") == 1


def test_a_file_that_cannot_be_renamed_is_written_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = logs.to_file(settings(tmp_path))
    assert file is not None

    def held(self: object, source: str, to: str) -> None:
        raise PermissionError(13, "another program has it open")

    monkeypatch.setattr(logs.LogFile, "rotate", held)
    for number in range(200):
        logging.getLogger("test").info("line %d %s", number, "x" * 50)
    assert "line 0 " in file.read_text()
    assert "line 199" in file.read_text()


def test_the_text_of_an_exception_is_in_no_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = logs.to_file(settings(tmp_path))
    assert file is not None

    def reduce(text: str) -> None:
        raise ValueError(text)

    try:
        reduce("Dear diary")
    except ValueError as error:
        logging.getLogger("test").exception("It failed.")
        sys.excepthook(type(error), error, error.__traceback__)
    thread = threading.Thread(target=reduce, args=("Dear diary",))
    thread.start()
    thread.join()
    written = file.read_text()
    assert written.count("ValueError, raised at:") == 3
    assert "in reduce" in written
    assert "diary" not in written


def test_a_note_of_the_end_needs_no_log_to_be_set_up(tmp_path: Path) -> None:
    file = logs.note("It ended: the port is in use.")
    assert file is not None
    assert "the port is in use" in file.read_text()


def test_who_has_no_console_gets_streams_to_write_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    logs.give_streams()
    assert sys.stdout is not None
    assert sys.stderr is not None
    with sys.stdout, sys.stderr:
        print("nobody reads this")
        print("nor this", file=sys.stderr)
