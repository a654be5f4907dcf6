"""``python -m tests.bench.metrics``: the cost of metrics, per commit and per reading.

One node commits events of so many students at once, in rounds that take turns: measured as it always is, and with the
measuring of backends and the histograms switched off. Processor time, the median of many short rounds, so that what
else the machine does hits both alike; only ratios within one run mean anything. Counters are
plain numbers, there in both.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from prometheus_client import Histogram

from appliance.kvs.memory import MemoryKVS
from appliance.node import Node
from appliance.node.measured import ARCHIVE_OPERATIONS, KVS_OPERATIONS, PUBSUB_OPERATIONS
from appliance.states import Stream
from tests.web.world import settings

STREAM = "0f8fad5b-d9cb-469f-a165-70867728950e"
TEXT = b'{"event":"edit","document":"essay","offset":0,"remove":1,"insert":"a"}'


def _nothing(histogram: Histogram, amount: float) -> None:
    pass


@contextmanager
def switched_off(node: Node) -> Iterator[None]:
    """Without measurements."""
    taken = []
    for backend, names in (
        (node.kvs, KVS_OPERATIONS),
        (node.pubsub, PUBSUB_OPERATIONS),
        (node.archive, ARCHIVE_OPERATIONS),
    ):
        for name in names:
            taken.append((backend, name, vars(backend).pop(name)))
    try:
        with mock.patch.object(Histogram, "observe", _nothing):
            yield
    finally:
        for backend, name, method in taken:
            setattr(backend, name, method)


async def round_of(node: Node, streams: list[Stream], commits: int) -> float:
    """Seconds of processor time per commit in which each stream has one event."""
    began = time.process_time()
    for _ in range(commits):
        for stream in streams:
            node.pipeline.accept(stream, stream.last + 1, [TEXT], 1_700_000_000_000)
        await node.pipeline.settle()
    return (time.process_time() - began) / commits


async def measure(students: int, rounds: int, commits: int) -> tuple[float, float, float, int]:
    """Seconds per commit with and without metrics, seconds and bytes of a reading."""
    with tempfile.TemporaryDirectory() as folder:
        node = Node(settings(Path(folder), archive={"sync": "none"}))
        streams = [
            await node.pipeline.stream(f"s-{n}", "class-1", STREAM, "org.example.bench") for n in range(students)
        ]
        await round_of(node, streams, commits)
        measured, bare = [], []
        for _ in range(rounds):
            measured.append(await round_of(node, streams, commits))
            with switched_off(node):
                bare.append(await round_of(node, streams, commits))
        began = time.process_time()
        for _ in range(rounds):
            text = node.metrics.text()
        reading = (time.process_time() - began) / rounds
        await node.pipeline.close()
        await node.archive.close()
        return statistics.median(measured), statistics.median(bare), reading, len(text)


async def operation(times: int = 20_000) -> float:
    """Seconds that measuring adds to one operation of a backend."""
    with tempfile.TemporaryDirectory() as folder:
        node = Node(settings(Path(folder)))
        spent = {}
        for name, kvs in (("measured", node.kvs), ("bare", MemoryKVS())):
            began = time.process_time()
            for _ in range(times):
                await kvs.epoch()
            spent[name] = (time.process_time() - began) / times
        await node.archive.close()
        return spent["measured"] - spent["bare"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--commits", type=int, default=50, help="in a round with one student; fewer with more")
    chosen = parser.parse_args()
    print(f"{'students':>8}  {'with':>10}  {'without':>10}  ratio  {'a reading':>10}")
    for students in (1, 30, 1000):
        commits = max(1, chosen.commits // students)
        measured, bare, reading, length = asyncio.run(measure(students, chosen.rounds, commits))
        print(
            f"{students:8,}  {measured * 1e6:7,.0f} µs  {bare * 1e6:7,.0f} µs  {measured / bare:5.3f}  "
            f"{reading * 1e3:7.2f} ms  {length:,} bytes"
        )
    print(f"Measuring one operation of a backend takes {asyncio.run(operation()) * 1e6:.1f} µs.")


if __name__ == "__main__":
    main()
