"""Nodes that share a Redis: compared with a store in memory, two workers with one, and the cost of more students."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.load import ACK_EVERY, Plan
from tests.bench.servers import Server, ours, play
from tests.services.servers import RedisServer

_LIMITS = {
    "CLASSROOM_OBSERVER_LIMITS__CONNECTIONS": "20000",
    "CLASSROOM_OBSERVER_LIMITS__STUDENTS_PER_CLASS": "20000",
}


@contextmanager
def with_redis(workers: int = 1) -> Iterator[tuple[Server, RedisServer]]:
    """One node, or some workers, with an empty Redis of their own whose append-only file is on."""
    with tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(Path(folder)).start()
        options = {
            "CLASSROOM_OBSERVER_KVS__URL": redis.url(),
            "CLASSROOM_OBSERVER_PUBSUB__URL": redis.url(),
            "CLASSROOM_OBSERVER_WEB__WORKERS": str(workers),
        }
        try:
            with ours(_LIMITS | options) as server:
                yield server, redis
        finally:
            redis.stop()


def _usage(redis: RedisServer) -> dict[str, float]:
    """The work of Redis: reads from sockets, which are the round trips, and processor time."""
    with redis.client() as client:
        info: dict[str, Any] = client.info("stats") | client.info("cpu") | client.info("memory")
    cpu = info["used_cpu_sys"] + info["used_cpu_user"]
    return {"trips": info["total_reads_processed"], "cpu": cpu, "mib": info["used_memory"] / 2**20}


def _rate(server: Server, students: int, events: int, frame: int) -> float:
    tokens = asyncio.run(server.tokens(students))
    result = play(Plan(server.port, tokens, events, frame, 1000, metadata=True))
    return result.events / result.seconds


def beside_memory(loads: Sequence[tuple[str, int, int, int]], rounds: int) -> None:
    """Events per second of a node with Redis and of one with its store in memory, and round trips to Redis."""
    print(f"\n{'store, load':44} {'memory':>10} {'Redis':>10}   ratio   round trips per 1,000 events")
    for name, students, events, frame in loads:
        memory, redis, trips = [], [], []
        for _ in range(rounds):
            with ours(_LIMITS) as server:
                memory.append(_rate(server, students, events, frame))
            with with_redis() as (server, store):
                tokens = asyncio.run(server.tokens(students))
                before = _usage(store)
                result = play(Plan(server.port, tokens, events, frame, 1000, metadata=True))
                redis.append(result.events / result.seconds)
                trips.append((_usage(store)["trips"] - before["trips"]) / result.events * 1000)
        ratio = statistics.median(redis) / statistics.median(memory)
        print(
            f"{name:44} {statistics.median(memory):10,.0f} {statistics.median(redis):10,.0f}   {ratio:5.2f}   "
            f"{statistics.median(trips):10.2f}",
            flush=True,
        )


def workers(students: int, events: int, rounds: int) -> None:
    """Two workers compared with one."""
    found: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for number, rates in found.items():
            with with_redis(number) as (server, _):
                rates.append(_rate(server, students, events, 1))
    one, two = (statistics.median(found[number]) for number in (1, 2))
    print(
        f"\nworkers, single frames, {students} students: one {one:,.0f} events/s, two {two:,.0f}, ratio {two / one:.2f}"
    )


def cost(numbers: Sequence[int], rate: float, seconds: int) -> None:
    """The resources of a node and of Redis for a number of students at their usual pace."""
    print(
        f"\n{'students at ' + format(rate, 'g') + ' events/s':24} {'events/s':>9} {'node':>7} {'Redis':>7} "
        f"{'node':>9} {'Redis':>9}   acknowledged p50, p99"
    )
    for students in numbers:
        with with_redis() as (server, redis):
            tokens = asyncio.run(server.tokens(students))
            events = round(rate * seconds / ACK_EVERY + 0.5) * ACK_EVERY
            before, cpu = _usage(redis), server.cpu_seconds()
            result = play(Plan(server.port, tokens, events, rate=rate, educator=server.token))
            after, cpu = _usage(redis), server.cpu_seconds() - cpu
            cuts = statistics.quantiles(result.acks, n=1000)
            print(
                f"{students:24,} {result.events / result.seconds:9,.0f} {cpu / result.seconds:7.0%} "
                f"{(after['cpu'] - before['cpu']) / result.seconds:7.0%} {server.resident_mib():5.0f} MiB "
                f"{after['mib']:5.0f} MiB   {cuts[499] * 1e3:.0f} ms, {cuts[989] * 1e3:.0f} ms",
                flush=True,
            )


def nodes(quick: bool, rounds: int) -> None:
    """All of it."""
    if shutil.which("redis-server") is None:
        print("\nSKIPPED: nodes that share a Redis, because there is no redis-server (Debian: redis-server).")
        return
    if quick:
        beside_memory([("single, 5 students", 5, 200, 1)], 1)
        workers(6, 200, 1)
        cost([5], 40.0, 1)
        return
    beside_memory(
        [
            ("430 bytes, single, 30 students", 30, 3000, 1),
            ("430 bytes, single, 1,000 students", 1000, 150, 1),
            ("430 bytes, by 20, 1,000 students", 1000, 300, 20),
        ],
        rounds,
    )
    workers(200, 500, rounds)
    cost([100, 500, 1000, 2000], 2.0, 24)
    cost([5000], 0.5, 100)
