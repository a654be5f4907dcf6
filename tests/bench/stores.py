"""What an event in a short and in a long text costs: processor time and bytes to the store, and bytes of a snapshot.

One student types in one document, one event a commit, with all bundled reducers. The lengths take turns, and only
ratios within one run mean anything.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from appliance.counters import Counters
from appliance.kvs import KVS, open_kvs
from appliance.kvs.memory import MemoryKVS
from appliance.recovery.start import Recovery
from appliance.states import Stream
from reducers.activity import ActivityReducer
from reducers.responses import ResponsesReducer
from reducers.time_on_task import TimeOnTaskReducer
from reducers.writing import WritingReducer
from tests.pipeline.world import World, world
from tests.services.servers import RedisServer

LENGTHS = (100, 2_000, 20_000, 200_000)
PROSE = "It was a bright cold day in April, and the clocks were striking thirteen. "
NOW = 1_700_000_000_000
Places = Callable[[int], Iterator[int]]


def typing(length: int) -> Iterator[int]:
    """Offsets of letters that are typed on from the middle of a text."""
    return iter(range(length // 2, length // 2 + 100_000))


def anywhere(length: int) -> Iterator[int]:
    """Random offsets."""
    chance = random.Random(length)
    return iter(lambda: chance.randrange(length), None)


class Writer:
    """A student with a text of a length."""

    def __init__(self, world: World, stream: Stream, places: Iterator[int]) -> None:
        self.world = world
        self.stream = stream
        self.sent = 0
        self.places = places

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path, length: int, places: Places, kvs: KVS) -> AsyncIterator[Writer]:
        """Make the text, as if it were typed; its last letters are typed one by one."""
        reducers = (ActivityReducer(), TimeOnTaskReducer(), ResponsesReducer(), WritingReducer())
        async with world(folder, *reducers, kvs=kvs, commit_seconds=3600) as made:
            writer = cls(made, await made.stream(), places(length))
            text = (PROSE * (length // len(PROSE) + 1))[:length]
            await writer.commit(*(writer.edit(at, text[at : at + 50]) for at in range(0, length, 50)))
            yield writer

    def edit(self, offset: int, insert: str) -> dict[str, object]:
        """An event."""
        self.sent += 1
        return {"event": "edit", "t": NOW + 200 * self.sent, "document": "essay", "offset": offset, "insert": insert}

    async def commit(self, *events: dict[str, object]) -> None:
        """Commit events."""
        for index in range(0, len(events), 100):
            some = events[index : index + 100]
            self.world.accept(self.stream, self.sent - len(events) + index + 1, *some, received=NOW + 10_000_000)
        await self.world.pipeline.settle()

    async def type(self, number: int) -> None:
        """Type letters, one a commit."""
        for _ in range(number):
            await self.commit(self.edit(next(self.places), "x"))


async def kvs_bytes(server: RedisServer, places: Places, folder: Path, events: int) -> dict[int, float]:
    """Bytes that Redis receives for an event, by length of the text."""
    found = {}
    client = server.client()
    for length in LENGTHS:
        kvs = open_kvs(server.url(f"prefix=bytes{length}{places.__name__}"), Counters())
        async with Writer.open(folder / f"{places.__name__}{length}", length, places, kvs) as writer:
            before = client.info("stats")["total_net_input_bytes"]
            await writer.type(events)
            found[length] = (client.info("stats")["total_net_input_bytes"] - before) / events
        await kvs.close()
    client.close()
    return found


async def snapshot_bytes(folder: Path, saves: int) -> dict[int, float]:
    """Bytes of a snapshot after one event, by length of the text."""
    found = {}
    for length in LENGTHS:
        here = folder / f"snapshot{length}"
        kvs = MemoryKVS()
        async with Writer.open(here, length, typing, kvs) as writer:
            made = writer.world
            recovery = Recovery(here, kvs, made.pipeline, made.archive, made.counters)
            await recovery.save()
            sizes = []
            for _ in range(saves):
                await writer.type(1)
                before = _files(here)
                await recovery.save()
                sizes.append(sum(size for name, size in _files(here).items() if name not in before))
        found[length] = statistics.mean(sizes)
    return found


def _files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (folder / "snapshots").iterdir()}


async def seconds(
    kvs: Callable[[int], KVS], places: Places, folder: Path, rounds: int, events: int
) -> dict[int, float]:
    """Processor time of this process for an event, the shortest of the rounds, by length of the text."""
    best = dict.fromkeys(LENGTHS, float("inf"))
    for number in range(rounds):
        for length in LENGTHS:
            store = kvs(length)
            here = folder / f"{number}-{length}"
            async with Writer.open(here, length, places, store) as writer:
                await writer.type(10)
                began = time.process_time()
                await writer.type(events)
                best[length] = min(best[length], (time.process_time() - began) / events)
                await store.remove(await store.keys())
            await store.close()
            shutil.rmtree(here)
    return best


def _show(what: str, found: dict[int, float], unit: str, scale: float = 1.0) -> None:
    first = found[LENGTHS[0]]
    shown = "".join(f"{value * scale:9,.0f} {unit} {value / first:5.2f}" for value in found.values())
    print(f"{what:36}{shown}", flush=True)


async def _measure(rounds: int, events: int, redis: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"\n{'one event, ratio to the shortest':36}" + "".join(f"{length:>12,} letters" for length in LENGTHS))
        for places in (typing, anywhere):
            where = "typed on" if places is typing else "anywhere"
            found = await seconds(lambda _: MemoryKVS(), places, folder / "memory", rounds, events)
            _show(f"memory, {where}", found, "µs", 1e6)
        _show("snapshot, typed on", await snapshot_bytes(folder, min(events, 20)), "B ")
        if not redis:
            return
        server = RedisServer(folder / "redis").start()
        try:
            for places in (typing, anywhere):
                where = "typed on" if places is typing else "anywhere"
                found = await seconds(
                    lambda _: open_kvs(server.url(), Counters()), places, folder / where, rounds, events
                )
                _show(f"Redis, {where}", found, "µs", 1e6)
                _show(f"Redis, {where}", await kvs_bytes(server, places, folder, events), "B ")
        finally:
            server.stop()


def stores(rounds: int, events: int) -> None:
    """Print the costs.

    Args:
        rounds: number of rounds; the fastest counts.
        events: events in each.
    """
    asyncio.run(_measure(rounds, events, shutil.which("redis-server") is not None))


if __name__ == "__main__":
    stores(3, 200)
