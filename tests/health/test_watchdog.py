"""The watchdog of the event loop: it names the code that blocks the loop, and ignores a computer that slept."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.counters import Counters
from appliance.health import Health, watchdog
from appliance.health.watchdog import Watchdog
from tests.web.world import world


class _World:
    def __init__(
        self,
        blocked_ms: int = 100,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self.counters = Counters()
        self.health = Health(self.counters)
        self._clock = clock
        self._measured = 0
        self.watchdog = Watchdog(self.health, self.counters, blocked_ms=blocked_ms, clock=self._read_clock, used=used)

    def _read_clock(self) -> float:
        self._measured += 1
        return self._clock()

    async def until_measured(self) -> None:
        """Wait until the watchdog has checked the loop at least once more; each check reads the clock a few times."""
        wanted = self._measured + 10
        async with asyncio.timeout(10):
            while self._measured < wanted:
                await asyncio.sleep(0.005)

    async def until_counted(self, times: int) -> None:
        async with asyncio.timeout(10):
            while self.counters["loop_blocked"] < times:
                await asyncio.sleep(0.01)


def _a_reducer_that_sleeps() -> None:
    # This blocks the event loop.
    time.sleep(0.4)


async def test_a_block_is_counted_and_its_place_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    w = _World()
    w.watchdog.start()
    try:
        await w.until_measured()
        _a_reducer_that_sleeps()
        await w.until_counted(1)
        async with asyncio.timeout(10):
            while "was blocked for" not in caplog.text:
                await asyncio.sleep(0.01)
    finally:
        w.watchdog.stop()
    assert "for more than 100 ms" in caplog.text
    assert "health/test_watchdog.py:" in caplog.text
    assert "_a_reducer_that_sleeps" in caplog.text
    assert w.health.findings() == []


@pytest.mark.slow
async def test_repeated_blocks_are_a_finding_with_the_longest_and_the_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    w = _World()
    w.watchdog.start()
    try:
        for number in range(watchdog.RECUR_TIMES):
            assert w.health.findings() == []
            await w.until_measured()
            _a_reducer_that_sleeps()
            await w.until_counted(number + 1)
        async with asyncio.timeout(10):
            while not w.health.findings():
                await asyncio.sleep(0.01)
    finally:
        w.watchdog.stop()
    [found] = w.health.findings()
    assert found.code == "loop.blocked"
    assert found.params["count"] == watchdog.RECUR_TIMES
    assert float(found.params["worst"]) >= 0.3
    assert str(found.params["place"]).startswith("health/test_watchdog.py:")
    assert "?" not in found.text


async def test_blocks_long_ago_are_no_finding() -> None:
    now = [0.0]
    w = _World(clock=lambda: now[0])
    for _ in range(5):
        w.watchdog.note(1.0, "there")
        now[0] += watchdog.RECUR_SECONDS / 2 + 1
    assert w.health.findings() == []


@pytest.mark.slow
async def test_a_blocking_call_into_native_code_is_counted_too() -> None:
    # As on an otherwise idle computer: all the time is used by this process.
    w = _World(used=time.monotonic)
    w.watchdog.start()
    try:
        await w.until_measured()
        # One call, during which no other thread runs.
        "x".join(map(str, range(6_000_000)))
        await w.until_counted(1)
    finally:
        w.watchdog.stop()


@pytest.mark.slow
async def test_a_computer_that_slept_or_was_too_busy_is_no_block() -> None:
    # The thread's own wait took an hour, and nothing used the processor meanwhile.
    now = [0.0]

    def clock() -> float:
        now[0] += 3600.0
        return now[0]

    w = _World(clock=clock, used=lambda: 0.0)
    w.watchdog.start()
    try:
        await w.until_measured()
        _a_reducer_that_sleeps()
        await w.until_measured()
    finally:
        w.watchdog.stop()
    assert w.counters["loop_blocked"] == 0


@pytest.mark.slow
async def test_work_that_yields_is_no_block() -> None:
    w = _World(blocked_ms=1000)
    w.watchdog.start()
    try:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            hashlib.sha256(bytes(100_000))
            await asyncio.sleep(0)
    finally:
        w.watchdog.stop()
    assert w.counters["loop_blocked"] == 0


SLOW = """
import time
from appliance.reducer import Event, Reducer, State

class Sleeps(Reducer[State]):
    name = "sleeps"
    State = State

    def reduce(self, state: State, event: Event) -> State:
        time.sleep(0.8)
        return state

    def summarize(self, state: State) -> dict[str, object]:
        return {}
"""


@pytest.mark.slow
async def test_a_reducer_that_sleeps_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "no-plugins"
    folder.mkdir()
    (folder / "sleepy.py").write_text(SLOW)
    async with world(tmp_path) as w, w.student("Ada") as ada:
        await ada.send({"event": "edit", "document": "essay", "offset": 0, "insert": "what Ada wrote"})
        await ada.acked(1)
        async with asyncio.timeout(10):
            while "was blocked" not in caplog.text:
                await asyncio.sleep(0.01)
        assert w.node.counters["loop_blocked"] >= 1
    assert "no-plugins/sleepy.py:10 reduce" in caplog.text
    assert "what Ada wrote" not in caplog.text
