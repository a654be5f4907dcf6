"""Supervision of tasks that only nodes with servers run: membership, refill, and the links of the backends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.proxy import a_proxy
from tests.services.prosody import Prosody
from tests.services.servers import RedisServer
from tests.services.xmpp import url
from tests.web.test_supervision import FAULTS, STEP_SECONDS, all_are_covered, failing, publish_until
from tests.web.world import World, until, world

pytestmark = pytest.mark.services

WORD = {"event": "edit", "document": "essay", "offset": 0, "insert": "word "}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.cluster.membership.STEP_SECONDS", STEP_SECONDS)
    monkeypatch.setattr("appliance.cluster.refill.STEP_SECONDS", STEP_SECONDS)
    monkeypatch.setattr("appliance.cluster.refill.CHECK_SECONDS", 0.02)
    monkeypatch.setattr("appliance.pubsub.hints.HANDLE_SECONDS", STEP_SECONDS)


@asynccontextmanager
async def a_node(folder: Path, redis: RedisServer, silent_seconds: int = 3) -> AsyncIterator[World]:
    """A node that shares its store, without any others."""
    sections: dict[str, dict[str, object]] = {"kvs": {"url": redis.url()}, "pubsub": {"url": redis.url()}}
    async with world(folder, limits={"node_silent_seconds": silent_seconds}, **sections) as w:
        yield w


@pytest.fixture
async def w(tmp_path: Path, redis: RedisServer) -> AsyncIterator[World]:
    async with a_node(tmp_path, redis) as w:
        yield w


async def is_live(w: World, name: str = "Ada") -> None:
    """Check that the work of a student who joins by this name reaches a dashboard."""
    async with w.student(name) as ada, w.dashboard() as dashboard:
        await dashboard.receive_json(timeout=10)
        await ada.send(WORD)
        async with asyncio.timeout(20):
            while True:
                frame = await dashboard.receive_json()
                if any(entry["summaries"].get("writing") for entry in frame.get("students", ())):
                    return


async def test_every_task_of_a_node_in_a_cluster_is_supervised(w: World) -> None:
    await all_are_covered(w)
    names = {state.name for state in w.node.tasks.states()}
    assert {"nodes", "beats", "refill", "pubsub.listen", "pubsub.publish"} <= names


@pytest.mark.parametrize("kind", FAULTS)
async def test_a_node_beats_again(w: World, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    assert w.node.cluster is not None
    membership = w.node.cluster.membership
    membership.silent_seconds = 0.3
    async with failing(w, monkeypatch, "beats", kind, membership, "beat"):
        before = membership.beats
    await until(lambda: membership.beats > before)


@pytest.mark.parametrize("kind", FAULTS)
async def test_other_nodes_are_received_again(
    tmp_path: Path, redis: RedisServer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # A beat reads the other nodes' rows too; none comes while this test runs.
    async with a_node(tmp_path, redis, silent_seconds=3600) as w:
        assert w.node.cluster is not None
        membership = w.node.cluster.membership
        async with failing(w, monkeypatch, "nodes", kind, membership, "read_others") as fault:
            await publish_until(w, "nodes", b'{"node":"other","run":"1","seq":1}', fault)
        changes: list[bool] = []
        membership.on_roster.add(lambda: changes.append(True))
        await w.node.pubsub.publish("nodes", b'{"node":"other","run":"1","roster":true}')
        await until(lambda: changes)


@pytest.mark.parametrize("kind", ["exception", "cancelled"])
@pytest.mark.parametrize("function", ["check", "keep_up"])
async def test_the_store_is_checked_again(w: World, monkeypatch: pytest.MonkeyPatch, kind: str, function: str) -> None:
    assert w.node.cluster is not None
    async with failing(w, monkeypatch, "refill", kind, w.node.cluster.refill, function):
        pass


async def test_upkeep_of_the_store_that_hangs_is_tried_again(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert w.node.cluster is not None
    async with failing(w, monkeypatch, "refill", "hang", w.node.cluster.refill, "keep_up"):
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
    async with failing(w, monkeypatch, "pubsub.listen", kind, listener, "_serve") as fault:
        # The current link is lost; then one new beginning fails.
        fault.left = 1
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
            await is_live(w, "Bob")


@pytest.mark.parametrize("kind", ["exception", "cancelled"])
async def test_xmpp_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    with Prosody(tmp_path / "prosody") as prosody:
        async with world(tmp_path, pubsub={"url": url(prosody.port, prosody.ca)}) as w:
            await is_live(w)
            connection: Any = w.node.pubsub.connection  # type: ignore[attr-defined]
            async with failing(w, monkeypatch, "pubsub.connection", kind, connection, "_live"):
                # The current session ends; then two new beginnings fail.
                connection.client.abort()
            await is_live(w, "Bob")
