"""A node's health while its backends fail, and while it accepts no students."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.health.codes import COMPONENTS
from appliance.kvs import Change, Encoded
from tests.services.servers import RedisServer
from tests.web.world import PATIENCE, World, world

pytestmark = pytest.mark.services


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def there(tmp_path: Path, redis: RedisServer) -> AsyncIterator[World]:
    url = redis.url("timeout=1")
    async with world(tmp_path, kvs={"url": url, "refill_seconds": 2}, pubsub={"url": url}) as made:
        yield made


async def health(there: World, wanted: Callable[[int, dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until ``/healthz`` answers as wanted."""
    said: dict[str, Any] = {}
    try:
        async with asyncio.timeout(2 * PATIENCE):
            while True:
                async with there.client.get(f"{there.url}/healthz") as answer:
                    said = await answer.json()
                if wanted(answer.status, said):
                    return said
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"Waited in vain; it says {said}.")


def well(status: int, said: dict[str, Any]) -> bool:
    return status == 200 and said["status"] == "ok" and said["components"] == dict.fromkeys(COMPONENTS, "ok")


AWAY = {"commit.failing", "kvs.away", "pubsub.away"}


async def test_each_backend_that_is_away_is_named_until_it_is_back(there: World, redis: RedisServer) -> None:
    async with there.student("Ada") as ada, there.dashboard() as dashboard:
        await health(there, well)
        redis.kill()
        said = await health(
            there, lambda status, said: (said["components"]["kvs"], said["components"]["pubsub"]) == ("error", "error")
        )
        assert said["components"]["roster"] == "ok"
        await ada.send({"event": "a"})
        said = await health(there, lambda status, said: status == 503)
        assert (said["status"], said["reasons"], said["archive"]) == ("trouble", ["commit.failing"], "waiting")
        texts = {found["code"]: found["text"] for found in (await there.get("/api/v1/status"))["findings"]}
        # Tasks that need the store are restarted until it is back.
        assert AWAY <= set(texts) <= {*AWAY, "task.down", "store.unread"}
        assert all("127.0.0.1" in text for text in texts.values())
        redis.start()
        await ada.acked(1)
        await health(there, well)
        assert not dashboard.closed


async def test_a_node_that_other_nodes_are_newer_than_says_that_it_takes_no_students(there: World) -> None:
    await health(there, well)
    [row] = await there.node.kvs.read(["reducers"])
    assert await there.node.kvs.commit([Change("reducers", row.version, {"version/writing": Encoded(b"99")})]) == []
    said = await health(there, lambda status, said: status == 503)
    assert (said["status"], said["reasons"], said["components"]["nodes"]) == ("trouble", ["nodes.outdated"], "critical")
    status = await there.node.status()
    assert status.worst == "critical"
    assert status.sentence.startswith("This node accepts no students: other nodes run newer versions of writing.")


async def test_a_node_that_fills_its_store_again_takes_no_students_and_says_so(
    there: World, redis: RedisServer
) -> None:
    await health(there, well)
    assert there.node.cluster is not None
    there.node.cluster.refill.marks.add_nodes(["another"])
    with redis.client() as client:
        client.flushall()
    said = await health(there, lambda status, said: status == 503)
    seen = set(said["reasons"])
    while not well(*(answer := await _now(there))):
        seen |= set(answer[1]["reasons"])
        await asyncio.sleep(0.02)
    assert "refill.waiting" in seen
    assert seen <= {"refill.checking", "refill.running", "refill.waiting"}


async def _now(there: World) -> tuple[int, dict[str, Any]]:
    async with there.client.get(f"{there.url}/healthz") as answer:
        return answer.status, json.loads(await answer.text())
