"""Pubsubs compared: notifications per second, and how long one takes from one node to three others."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.counters import Counters
from appliance.pubsub import RESYNC, PubSub, Subscription, open_pubsub
from tests.services.ejabberd import Ejabberd
from tests.services.prosody import Prosody
from tests.services.servers import RedisServer
from tests.services.xmpp import url

TOPIC = "class/1"
BYTES = 300
"""Of a notification: ten ids of students."""
LISTENERS = 3
AT_ONCE = 100
"""Notifications that one node publishes at the same time in the fast part, as one for each class of a large school."""


@contextmanager
def _running(kind: Callable[[Path], Any]) -> Iterator[Any]:
    """A server with its data in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        server = kind(Path(folder))
        try:
            yield server.start()
        finally:
            server.stop()


@contextmanager
def memory() -> Iterator[list[str]]:
    """One process that receives its own messages."""
    yield ["memory://"]


@contextmanager
def redis() -> Iterator[list[str]]:
    """A Redis without TLS."""
    with _running(RedisServer) as server:
        yield [server.url()] * (1 + LISTENERS)


@contextmanager
def prosody() -> Iterator[list[str]]:
    """Prosody as it is documented, with TLS."""
    with _running(Prosody) as server:
        yield [url(server.port, server.ca, user) for user in ("node1", "node2", "node3", "node1")]


@contextmanager
def ejabberd() -> Iterator[list[str]]:
    """ejabberd as it is documented, with TLS."""
    with _running(Ejabberd) as server:
        yield [url(server.port, server.ca, user) for user in ("node1", "node2", "node3", "node1")]


PUBSUBS: dict[str, Callable[[], contextmanager[list[str]]]] = {
    "memory": memory,
    "Redis": redis,
    "Prosody": prosody,
    "ejabberd": ejabberd,
}


def pubsubs(number: int, rate: int, seconds: int) -> None:
    """A table of all pubsubs whose servers are installed.

    Args:
        number: notifications that are published as fast as possible.
        rate: notifications a second in the paced part, and for how many `seconds`.
    """
    print(f"\n{BYTES} bytes to {LISTENERS} nodes, all in one process")
    print(f"{'pubsub':10} {'notifications/s':>16} {'CPU each':>10}   at {rate} a second: p50, p99, most")
    for name, opened in PUBSUBS.items():
        try:
            with opened() as urls:
                asyncio.run(_measure(name, urls, number, rate, seconds))
        except pytest.skip.Exception as missing:
            print(f"{name:10} {missing}")


async def _measure(name: str, urls: list[str], number: int, rate: int, seconds: int) -> None:
    async with AsyncExitStack() as stack:
        nodes = [open_pubsub(text, Counters(), queue=number + 1, outgoing=number + 1) for text in urls]
        for node in nodes:
            stack.push_async_callback(node.close)
        publisher, *others = nodes
        listeners = others or [publisher] * LISTENERS
        opened = [await stack.enter_async_context(node.subscribe(TOPIC)) for node in listeners]
        cpu, started = time.process_time(), time.perf_counter()
        await asyncio.gather(_burst(publisher, number), *(_count(subscription, number) for subscription in opened))
        taken, cpu = time.perf_counter() - started, time.process_time() - cpu
        waits: list[float] = []
        await asyncio.gather(
            _paced(publisher, rate, seconds), *(_waits(subscription, rate * seconds, waits) for subscription in opened)
        )
    cuts = statistics.quantiles(waits, n=100)
    print(
        f"{name:10} {number / taken:16,.0f} {cpu / number * 1e6:7.0f} µs   "
        f"{cuts[49] * 1e3:.1f} ms, {cuts[98] * 1e3:.1f} ms, {max(waits) * 1e3:.1f} ms",
        flush=True,
    )


async def _burst(pubsub: PubSub, number: int) -> None:
    for _ in range(number // AT_ONCE):
        await asyncio.gather(*(pubsub.publish(TOPIC, b"x" * BYTES) for _ in range(AT_ONCE)))


async def _count(subscription: Subscription, number: int) -> None:
    async for message in subscription:
        assert message is not RESYNC, "some were lost"
        number -= 1
        if not number:
            return


async def _paced(pubsub: PubSub, rate: int, seconds: int) -> None:
    started = time.perf_counter()
    for count in range(rate * seconds):
        await asyncio.sleep(max(0.0, started + count / rate - time.perf_counter()))
        await pubsub.publish(TOPIC, (b"%.6f " % time.perf_counter()).ljust(BYTES, b"x"))


async def _waits(subscription: Subscription, number: int, waits: list[float]) -> None:
    async for message in subscription:
        assert message is not RESYNC, "some were lost"
        waits.append(time.perf_counter() - float(message.partition(b" ")[0]))
        number -= 1
        if not number:
            return
