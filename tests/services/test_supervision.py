"""Supervision of what only nodes with servers run: membership, refill, and the backends' own links."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.proxy import a_proxy
from tests.services.prosody import Prosody
from tests.services.servers import RedisServer
from tests.services.xmpp import url
from tests.web.test_supervision import FAULTS, STEP_SECONDS, all_are_covered, failing
from tests.web.world import World, until, world

pytestmark = pytest.mark.services

WORD = {"event": "edit", "document": "essay", "offset": 0, "insert": "word "}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def w(tmp_path: Path, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("appliance.cluster.membership._STEP_SECONDS", STEP_SECONDS)
    monkeypatch.setattr("appliance.cluster.refill._STEP_SECONDS", STEP_SECONDS)
    monkeypatch.setattr("appliance.cluster.refill.LOOK_SECONDS", 0.02)
    monkeypatch.setattr("appliance.pubsub.hints.HANDLE_SECONDS", STEP_SECONDS)
    limits = {"node_silent_seconds": 3}
    sections: dict[str, dict[str, object]] = {"kvs": {"url": redis.url()}, "pubsub": {"url": redis.url()}}
    async with world(tmp_path, limits=limits, **sections) as w:
        yield w


async def is_live(w: World) -> None:
    """A student's work reaches a dashboard, by way of the pubsub."""
    async with w.student("Ada") as ada, w.dashboard() as dashboard:
        await dashboard.receive_json(timeout=10)
        await ada.send(WORD)
        async with asyncio.timeout(20):
            while True:
                frame = await dashboard.receive_json()
                if any(entry["summaries"].get("writing") for entry in frame.get("students", ())):
                    return


async def test_no_task_of_a_node_among_others_is_unwatched(w: World) -> None:
    await all_are_covered(w)
    names = {state.name for state in w.node.tasks.states()}
    assert {"nodes", "beats", "refill", "pubsub.listen", "pubsub.publish"} <= names


@pytest.mark.parametrize("kind", FAULTS)
async def test_a_node_beats_again(w: World, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    assert w.node.cluster is not None
    nodes = w.node.cluster.nodes
    nodes._silent = 0.3
    async with failing(w, monkeypatch, "beats", kind, nodes, "beat"):
        before = nodes._beat
    await until(lambda: nodes._beat > before)


@pytest.mark.parametrize("kind", FAULTS)
async def test_other_nodes_are_heard_again(w: World, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    assert w.node.cluster is not None
    listening: Any = w.node.cluster.nodes._listening
    async with failing(w, monkeypatch, "nodes", kind, listening, "_hear") as fault:
        async with asyncio.timeout(20):
            while fault.left:
                await w.node.pubsub.publish("nodes", b'{"node":"other","run":"1"}')
                await asyncio.sleep(0.02)
    await until(lambda: listening.hears)


@pytest.mark.parametrize("kind", ["exception", "cancelled"])
@pytest.mark.parametrize("function", ["_agree", "_note"])
async def test_the_store_is_looked_at_again(
    w: World, monkeypatch: pytest.MonkeyPatch, kind: str, function: str
) -> None:
    assert w.node.cluster is not None
    w.node.cluster._refill._mark_seconds = 0
    async with failing(w, monkeypatch, "refill", kind, w.node.cluster._refill, function):
        pass


async def test_a_place_that_cannot_be_noted_in_time_is_noted_later(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert w.node.cluster is not None
    w.node.cluster._refill._mark_seconds = 0
    async with failing(w, monkeypatch, "refill", "hang", w.node.cluster._refill, "_note"):
        pass


@pytest.mark.parametrize("kind", ["exception", "cancelled"])
async def test_redis_is_published_to_again(w: World, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("appliance.tasks.SETTLED_SECONDS", 0.1)
    publisher = w.node.pubsub.publisher  # type: ignore[attr-defined]
    async with failing(w, monkeypatch, "pubsub.publish", kind, publisher, "_publish") as fault:
        while fault.left:
            await w.node.hints.send("class/class-1", b"[]")
    await is_live(w)


@pytest.mark.parametrize("kind", ["exception", "cancelled"])
async def test_redis_is_listened_to_again(w: World, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    listener = w.node.pubsub.listener  # type: ignore[attr-defined]
    async with failing(w, monkeypatch, "pubsub.listen", kind, listener, "_serve", times=1):
        # The link of now is lost; then the next beginning fails.
        for task in asyncio.all_tasks():
            if task.get_name() == "pubsub link":
                task.cancel()
    await is_live(w)


async def test_a_link_that_hangs_is_given_up_and_made_again(
    tmp_path: Path, redis: RedisServer, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.pubsub.redis.PING_SECONDS", 0.3)
    async with a_proxy(redis.port, chance) as proxy:
        address = f"redis://127.0.0.1:{proxy.port}?timeout=1"
        async with world(tmp_path, pubsub={"url": address}) as w:
            await is_live(w)
            proxy.strand()
            await until(lambda: w.node.counters["pubsub_reconnects"] or w.node.pubsub.findings())
            await until(lambda: not w.node.health.findings())
            await is_live(w)


@pytest.mark.parametrize("kind", ["exception", "cancelled"])
async def test_xmpp_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    with Prosody(tmp_path / "prosody") as prosody:
        async with world(tmp_path, pubsub={"url": url(prosody.port, prosody.ca)}) as w:
            await is_live(w)
            connection: Any = w.node.pubsub.connection  # type: ignore[attr-defined]
            async with failing(w, monkeypatch, "pubsub.connection", kind, connection, "_live"):
                # The session of now ends; then the next two beginnings fail.
                connection.client.abort()
            await is_live(w)
