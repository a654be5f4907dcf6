"""The clock of the server is changed back and forth while a class types."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import time
from pathlib import Path

from appliance.archive import Record, segments
from appliance.recovery.snapshot import snapshots
from tests.clock import Clock
from tests.faults.world import RESTLESS, a_class, records, until
from tests.launcher import Program

JUMPS = (-3600, +86400, -2 * 86400, +90, -400 * 86400)
"""Seconds by which the clock is changed: an hour back, a day forward, two back, some forward, more than a year back."""


async def test_the_clock_is_set_while_a_class_types(tmp_path: Path, chance: random.Random, long: bool) -> None:
    clock = Clock(tmp_path)
    program = Program(tmp_path, environment={**RESTLESS, **clock.environment})
    async with a_class(program, chance, 5) as room:
        room.connect()
        room.begin_typing(per_second=30)
        await room.at_work()
        for seconds in JUMPS * (3 if long else 1):
            clock.set_by(seconds)
            await room.at_work(10)
            # Also after a crash and a start: files from before the clock was set back must not hide later ones.
            room.may.clear()
            await asyncio.to_thread(program.kill)
            counts = room.archived()
            await asyncio.to_thread(program.start)
            await room.stands_at(counts)
            room.may.set()
            await room.at_work(10)
            snapshot = (snapshots(program.data / "snapshots") or [None])[-1]
            await until(
                lambda before=snapshot: (snapshots(program.data / "snapshots") or [None])[-1] != before,
                "a snapshot is written",
            )
        await room.end_typing()
        await room.complete()
        await room.replayed_alike(tmp_path)
    streams: dict[str, list[Record]] = {}
    for record in records(program.data / "archive"):
        streams.setdefault(record.stream, []).append(record)
    days = {re.search(r"events-(\d{8})", path.name)[1] for path in segments(program.data / "archive")}  # type: ignore[index]
    assert len(days) >= 3, "the program's clock was not set at all"
    for stream in streams.values():
        assert any(b.received < a.received - 3000 for a, b in itertools.pairwise(stream))
        assert all(a.at <= b.at for a, b in itertools.pairwise(stream)), "time went back in a stream"
    verified = program.run("verify", "--data-dir", str(program.data))
    assert verified.returncode == 0, verified.stdout + verified.stderr


async def test_the_students_clocks_are_wrong_and_are_set(tmp_path: Path, chance: random.Random) -> None:
    """A page's time is used only as far as it is possible."""
    offsets = dict.fromkeys(range(1, 9), 0.0)
    program = Program(tmp_path)
    async with a_class(program, chance, 8) as room:
        for number, student in enumerate(room.students, 1):
            offsets[number] = chance.uniform(-1e7, 1e7)
            student.set_clock(lambda n=number: time.time() + offsets[n])
        room.connect()
        room.begin_typing(per_second=20)
        for _ in range(4):
            await room.at_work(10)
            for number in offsets:
                offsets[number] += chance.choice((-86400.0, -60.0, 60.0, 86400.0))
        await room.end_typing()
        await room.complete()
        await room.replayed_alike(tmp_path)
    last: dict[str, float] = {}
    for record in records(program.data / "archive"):
        assert record.at <= record.received
        assert record.at >= last.get(record.stream, 0.0)
        last[record.stream] = record.at
