"""The cost of the archive's chain of checksums: per event of a commit, and per event that is read.

Processor time of one process, without network; only the ratios within one run mean anything.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from appliance.archive import Reader, StreamLines
from appliance.archive.chain import NOTHING, chained
from appliance.node import Node
from appliance.states import Stream
from tests.web.world import settings

STREAM = "0f8fad5b-d9cb-469f-a165-70867728950e"
TEXT = b'{"event":"edit","document":"essay","offset":0,"remove":1,"insert":"a","t":1700000000000}'
COMMITS = ((1, 1), (30, 1), (500, 1), (500, 20))
"""Students, and events of each in one commit."""
GROUPS = (1, 2, 30, 500)
"""Events in a commit group that is read."""


@contextmanager
def measured() -> Iterator[list[float]]:
    """Gives the seconds of processor time that each call for the chain took."""
    spent: list[float] = []

    def timed(lines: bytes, before: bytes) -> tuple[bytes, bytes]:
        began = time.thread_time()
        result = chained(lines, before)
        spent.append(time.thread_time() - began)
        return result

    with mock.patch("appliance.archive.writing.chained", timed):
        yield spent


async def _commits(node: Node, streams: list[Stream], events: int, commits: int) -> float:
    """Seconds of processor time an event."""
    began = time.process_time()
    for _ in range(commits):
        for stream in streams:
            node.pipeline.accept(stream, stream.last + 1, [TEXT] * events, 1_700_000_000_000)
        await node.pipeline.settle()
    return (time.process_time() - began) / commits / len(streams) / events


async def written(students: int, events: int, rounds: int) -> tuple[float, float]:
    """Seconds an event, and those of them that the chain takes: the medians of rounds.

    What the chain costs is less than what two rounds differ by, so it is measured within each.
    """
    with tempfile.TemporaryDirectory() as folder:
        node = Node(settings(Path(folder), archive={"sync": "none"}))
        streams = [
            await node.pipeline.stream(f"s-{n}", "class-1", STREAM, "org.example.bench") for n in range(students)
        ]
        commits = max(1, 500 // students // events)
        await _commits(node, streams, events, commits)
        total, chain = [], []
        for _ in range(rounds):
            with measured() as spent:
                total.append(await _commits(node, streams, events, commits))
            chain.append(sum(spent) / commits / students / events)
        await node.pipeline.close()
        await node.archive.close()
        return statistics.median(total), statistics.median(chain)


def _segment(folder: Path, events: int, per_group: int) -> Path:
    """An archive folder with one segment; groups of 0 are those of the formats 1 and 2."""
    folder.mkdir()
    lines, own = StreamLines("s-12345678", "class-1", "org.example.bench", STREAM), NOTHING
    with (folder / "events-20260101-0001.jsonl").open("wb") as file:
        for first in range(1, events + 1, per_group or 1000):
            pieces: list[bytes] = []
            times = [1_700_000_000_000 + first + number for number in range(per_group or 1000)]
            lines.events(pieces, first, times, times, [TEXT] * len(times))
            text = b"".join(pieces)
            if per_group:
                text, own = chained(text, own)
            file.write(text)
    return folder


def read(events: int, rounds: int) -> dict[int, float]:
    """Seconds of processor time an event that is read, by the size of its group."""
    spent: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folders = {size: _segment(Path(name) / str(size), events, size) for size in (0, *GROUPS)}
        for _ in range(rounds):
            for size, folder in folders.items():
                began = time.process_time()
                count = sum(1 for _ in Reader(folder).records())
                spent.setdefault(size, []).append((time.process_time() - began) / count)
    return {size: statistics.median(some) for size, some in spent.items()}


def checksums(rounds: int, events: int) -> None:
    """Print both tables.

    Args:
        rounds: of each commit and of each archive.
        events: to read.
    """
    print(f"\n{'the archive with and without checksums':44} {'with':>8}   {'without':>8}   ratio")
    for students, each in COMMITS:
        total, chain = asyncio.run(written(students, each, rounds))
        bare = total - chain
        name = f"written: {students} x {each} events a commit"
        print(f"{name:44} {total * 1e6:8.2f}   {bare * 1e6:8.2f} µs an event   {total / bare:5.3f}", flush=True)
    spent = read(events, min(rounds, 5))
    for size in GROUPS:
        name = f"read: {size} events a commit"
        print(f"{name:44} {spent[size] * 1e6:8.2f}   {spent[0] * 1e6:8.2f} µs an event   {spent[size] / spent[0]:5.3f}")
