"""The progress bar on a terminal, and nothing if the output goes elsewhere."""

from __future__ import annotations

import io

import pytest

from appliance.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_it_shows_the_share_and_the_time_left_and_is_removed(clock: list[float]) -> None:
    terminal = Terminal()
    progress = Progress("Reading", terminal)
    progress(0.0)
    clock[0] += 60
    progress(0.5)
    assert terminal.getvalue().endswith("\rReading [###############...............]  50%, 1:00 left")
    progress.close()
    last = terminal.getvalue().rpartition("left")[2]
    assert last.strip("\r ") == ""
    assert last.endswith("\r")


def test_it_is_drawn_at_most_ten_times_a_second_and_always_at_the_end(clock: list[float]) -> None:
    terminal = Terminal()
    progress = Progress("Reading", terminal)
    for share in range(101):
        progress(share / 100)
        clock[0] += 0.01
    assert 10 <= terminal.getvalue().count("Reading") <= 13
    assert "100%" in terminal.getvalue()


def test_nothing_is_drawn_into_a_file_or_a_pipe(clock: list[float]) -> None:
    file = io.StringIO()
    progress = Progress("Reading", file)
    progress(1.0)
    progress.close()
    assert file.getvalue() == ""
