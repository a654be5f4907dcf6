"""The network between pages and the program cuts, delays and doubles connections, and fails for a while."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from tests.faults.proxy import Proxy, a_proxy
from tests.faults.world import RESTLESS, a_class
from tests.launcher import Program

# Real pages wait for 20 s before they close a silent connection; with that, this test would take hours.
SILENT = 1.5


async def test_a_network_that_cuts_delays_and_doubles_connections(
    tmp_path: Path, chance: random.Random, long: bool
) -> None:
    program = Program(tmp_path, environment=RESTLESS)
    async with a_proxy(program.port, random.Random(chance.random())) as proxy:
        async with a_class(program, chance, 20, url=lambda: proxy.url, silent_seconds=SILENT) as room:
            proxy.delay, proxy.cut, proxy.twice = 0.05, 0.03, 0.3
            room.connect()
            room.begin_typing(per_second=20)
            end = time.monotonic() + (60 if long else 5)
            while time.monotonic() < end or proxy.cuts < 40 or proxy.doubles < 10:
                await room.at_work()
                room.no_promise_broken()
            proxy.delay = proxy.cut = proxy.twice = 0.0
            await room.end_typing()
            await room.complete()
            assert sum(student.connections for student in room.students) > 60
            await room.replayed_alike(tmp_path)


async def flapping(proxy: Proxy, chance: random.Random) -> None:
    """Unstable Wi-Fi: sometimes connections end, sometimes they only become silent."""
    ends = True
    while True:
        await asyncio.sleep(chance.uniform(0.2, 2.0))
        proxy.up.clear()
        if ends:
            proxy.drop_all()
        ends = chance.random() < 0.5
        await asyncio.sleep(chance.uniform(0.1, 2.5))
        proxy.up.set()


async def test_a_class_of_40_whose_wifi_flaps(tmp_path: Path, chance: random.Random, long: bool) -> None:
    program = Program(tmp_path, environment=RESTLESS)
    # Four access points that fail independently.
    async with (
        a_proxy(program.port, random.Random(chance.random())) as one,
        a_proxy(program.port, random.Random(chance.random())) as two,
        a_proxy(program.port, random.Random(chance.random())) as three,
        a_proxy(program.port, random.Random(chance.random())) as four,
    ):
        points = [one, two, three, four]
        async with a_class(program, chance, 40, silent_seconds=SILENT) as room:
            for number, student in enumerate(room.students):
                student.move(lambda point=points[number % 4]: point.url)
            room.connect()
            room.begin_typing(per_second=5)
            await room.everybody_online()
            storms = [asyncio.create_task(flapping(p, random.Random(chance.random()))) for p in points]
            try:
                await asyncio.sleep(120 if long else 10)
            finally:
                for storm in storms:
                    storm.cancel()
                await asyncio.wait(storms)
            for point in points:
                point.up.set()
            await room.end_typing()
            await room.complete()
            assert all(student.connections > 1 for student in room.students), "the Wi-Fi was not that bad"
            await room.replayed_alike(tmp_path)
