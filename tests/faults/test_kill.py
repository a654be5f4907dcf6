"""The program is killed or stopped at random moments while a class types."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from tests.faults.world import RESTLESS, Class, a_class, until
from tests.launcher import Program

STOP_SECONDS = 5.0
"""The promised time for stopping the program."""


async def one_life(room: Class, chance: random.Random) -> None:
    """Start, let the class work for a while, kill the program; then check the disk."""
    program = room.program
    room.may.clear()
    program.begin()
    if chance.random() < 0.25:
        # During the start, which takes about a second.
        await asyncio.sleep(chance.uniform(0, 1))
    else:
        counts = room.archived()
        await asyncio.to_thread(program.wait_ready)
        await room.stands_at(counts)
        before = sum(student.acked for student in room.students)
        room.may.set()
        if chance.random() < 0.9:
            await until(lambda: sum(s.acked for s in room.students) > before, "something is acknowledged")
        await asyncio.sleep(chance.uniform(0, 1))
    await asyncio.to_thread(program.kill)
    room.archived()
    room.no_promise_broken()


async def test_killed_at_random_moments(tmp_path: Path, chance: random.Random, long: bool) -> None:
    program = Program(tmp_path, environment=RESTLESS)
    async with a_class(program, chance, 20) as room:
        room.connect()
        room.begin_typing(per_second=20)
        await until(lambda: any(student.acked for student in room.students), "something is acknowledged")
        await asyncio.to_thread(program.kill)
        # Several times, with the data of the earlier runs.
        for _ in range(30 if long else 5):
            await one_life(room, chance)
        await asyncio.to_thread(program.start)
        room.may.set()
        await room.end_typing()
        await room.complete()
        await room.replayed_alike(tmp_path)


async def test_stopped_under_load(tmp_path: Path, chance: random.Random, long: bool) -> None:
    program = Program(tmp_path, environment=RESTLESS)
    async with a_class(program, chance, 20) as room:
        room.connect()
        room.begin_typing(per_second=40)
        for _ in range(10 if long else 2):
            await room.at_work(20)
            await asyncio.sleep(chance.uniform(0, 0.5))
            began = time.monotonic()
            assert await asyncio.to_thread(program.stop) == 0
            assert time.monotonic() - began < STOP_SECONDS
            room.may.clear()
            counts = room.archived()
            await asyncio.to_thread(program.start)
            await room.stands_at(counts)
            room.may.set()
        await room.end_typing()
        await room.complete()
        await room.replayed_alike(tmp_path)
