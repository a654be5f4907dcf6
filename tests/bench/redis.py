"""``python -m tests.bench.redis``: the cost of a commit to Redis by several methods, and the speed of messages.

Each commit is of 200 students with 4 states of 1.5 KB each. The methods take turns; each figure is the median of the
rounds; only ratios within one run mean anything. Processor time, of this program and of the server, depends less on
what else the machine does. docs/redis.md shows such a run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from redis.asyncio import Redis

from appliance.counters import Counters
from appliance.kvs import Change, Encoded, open_kvs
from appliance.kvs.redis import RedisKVS
from appliance.pubsub import open_pubsub
from tests.services.servers import RedisCluster, RedisServer

STUDENTS = 200
STATES = 4
STATE_BYTES = 1500

Way = Callable[[int], Awaitable[None]]


def _changes(version: int) -> list[Change]:
    value = os.urandom(STATE_BYTES)
    return [
        Change(f"student/{number}", version, {f"state/{state}//": Encoded(value) for state in range(STATES)})
        for number in range(STUDENTS)
    ]


class _Commits:
    """A method to commit.

    Attributes:
        version: of all rows, which each commit raises by one.
    """

    def __init__(self, name: str, url: str) -> None:
        store = open_kvs(url, Counters())
        assert isinstance(store, RedisKVS)
        self.name = name
        self.store = store
        self.version = 0

    async def round(self, times: int) -> float:
        """Students a second."""
        began = time.perf_counter()
        for _ in range(times):
            assert await self.store.commit(_changes(self.version)) == []
            self.version += 1
        return times * STUDENTS / (time.perf_counter() - began)


class _Unchecked(_Commits):
    """A pipeline of HSET, which compares nothing: the baseline."""

    async def round(self, times: int) -> float:
        client = Redis.from_url(f"redis://{self.store.url.addresses}")
        began = time.perf_counter()
        for _ in range(times):
            pipeline = client.pipeline(transaction=False)
            for change in _changes(0):
                words = [word for name, value in change.fields.items() if value for word in (name, value.encode())]
                pipeline.execute_command("HSET", "unchecked:" + change.key, *words)
            await pipeline.execute()
        seconds = time.perf_counter() - began
        await client.aclose()
        return times * STUDENTS / seconds


class _EachWatched(_Commits):
    """WATCH, HGET, MULTI, HSET, EXEC for one student after the other, as many at once as there are connections."""

    async def round(self, times: int) -> float:
        client = Redis.from_url(f"redis://{self.store.url.addresses}", max_connections=40)
        room = asyncio.Semaphore(40)

        async def one(change: Change) -> None:
            key = "watched:" + change.key
            async with room, client.pipeline(transaction=True) as pipe:
                await pipe.watch(key)
                await pipe.hget(key, "v")
                pipe.multi()
                pipe.hset(key, mapping={name: value.encode() for name, value in change.fields.items() if value})
                await pipe.execute()

        began = time.perf_counter()
        for _ in range(times):
            await asyncio.gather(*(one(change) for change in _changes(0)))
        seconds = time.perf_counter() - began
        await client.aclose()
        return times * STUDENTS / seconds


def _cpu_seconds(processes: list[int]) -> float:
    """Processor time that these processes have used, all threads."""
    ticks = 0
    for pid in processes:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def _publish(url: str, at_once: int, messages: int) -> float:
    """Messages a second from one node to another, until the last has arrived."""
    here = open_pubsub(url, Counters(), queue=1)
    there = open_pubsub(url, Counters(), queue=messages)
    async with there.subscribe("class/1") as subscription:
        began = time.perf_counter()
        for _ in range(messages // at_once):
            await asyncio.gather(*(here.publish("class/1", b"x" * 300) for _ in range(at_once)))
        received = 0
        async for _ in subscription:
            received += 1
            if received == messages:
                break
        seconds = time.perf_counter() - began
    await here.close()
    await there.close()
    return messages / seconds


async def _delays(url: str, messages: int, per_second: int) -> list[float]:
    """Seconds from publishing to receiving, at a realistic rate for a school."""
    here = open_pubsub(url, Counters(), queue=1)
    there = open_pubsub(url, Counters(), queue=messages)
    found: list[float] = []

    async with there.subscribe("class/1") as subscription:

        async def listen() -> None:
            async for message in subscription:
                found.append(time.perf_counter() - float(message))  # type: ignore[arg-type]
                if len(found) == messages:
                    return

        task = asyncio.create_task(listen())
        for _ in range(messages):
            await here.publish("class/1", b"%.9f" % time.perf_counter())
            await asyncio.sleep(1 / per_second)
        await task
    await here.close()
    await there.close()
    return sorted(found)


async def _measure(server: RedisServer, cluster: RedisCluster, rounds: int, times: int, messages: int) -> None:
    ways: list[_Commits] = [
        _Unchecked("pipeline of HSET, nothing compared", server.url("prefix=none")),
        _Commits("EVALSHA for each, pipelined", server.url("prefix=script")),
        _EachWatched("WATCH and MULTI for each, 40 at once", server.url("prefix=each")),
        _Commits("cluster of 3: EVALSHA for each", cluster.url("prefix=script")),
    ]
    figures: dict[str, list[tuple[float, float, float]]] = {way.name: [] for way in ways}
    for number in range(rounds + 1):
        for way in ways:
            processes = [node.pid for node in cluster.nodes] if way.store.url.form == "cluster" else [server.pid]
            ours, theirs = time.process_time(), _cpu_seconds(processes)
            figure = await way.round(times)
            ours, theirs = time.process_time() - ours, _cpu_seconds(processes) - theirs
            if number:  # the first round only warms up
                students = times * STUDENTS / 1e6
                figures[way.name].append((figure, ours / students, theirs / students))
    print(f"{STUDENTS} students a commit, {STATES} states of {STATE_BYTES} bytes each; medians of {rounds} rounds")
    print(f"  {'':40} students/s  ms a commit  our CPU us/student  server's CPU us/student")
    for name, found in figures.items():
        speed, ours, theirs = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"  {name:40} {speed:10,.0f} {STUDENTS / speed * 1000:12.1f} {ours:19.0f} {theirs:24.0f}")
    for way in ways:
        await way.store.close()
    print("messages of 300 bytes from one node to another")
    for at_once in (1, 100):
        print(f"  {at_once:3} at once {await _publish(server.url(), at_once, messages):20,.0f} messages/s")
    delays = await _delays(server.url(), messages // 10, 200)
    middle, late = delays[len(delays) // 2], delays[len(delays) * 99 // 100]
    print(f"  at 200 a second: p50 {middle * 1000:.1f} ms, p99 {late * 1000:.1f} ms")


def main(arguments: list[str] | None = None) -> None:
    """Start the servers, measure, and print the results."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.redis", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--commits", type=int, default=20, help="commits in each round")
    parser.add_argument("--messages", type=int, default=5000)
    parsed = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        server, cluster = RedisServer(Path(folder) / "one"), RedisCluster(Path(folder) / "cluster")
        with server, cluster:
            asyncio.run(_measure(server, cluster, parsed.rounds, parsed.commits, parsed.messages))
            # pytest shows the output of servers only for failed tests.
            server.log_file.write_text("")


if __name__ == "__main__":
    main()
