"""A pubsub on a real server that is stopped, silent or sends nonsense only delays updates, until it is back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from appliance.pubsub.xmpp.connection import Pace
from tests.faults.proxy import Proxy, a_proxy
from tests.services.prosody import Prosody
from tests.services.servers import RedisServer
from tests.services.xmpp import url
from tests.web.test_supervision import all_are_covered
from tests.web.world import Student, World, until, world

pytestmark = pytest.mark.services

SHORT, LONG = 1.5, 60.0
PATIENCE = 40.0
WORD = {"event": "edit", "document": "essay", "offset": 0, "insert": "word "}
NONSENSE = {"redis": b"$nonsense\r\n" * 20, "xmpp": b"<?xml version='1.0'?><nonsense><<>\x00\xff" * 20}


class Backend:
    """A pubsub server behind a proxy."""

    def __init__(self, name: str, proxy: Proxy, address: str) -> None:
        self.name = name
        self.proxy = proxy
        self.url = address

    def go(self, how: str) -> None:
        """Fail in one of three ways."""
        if how == "silent":
            self.proxy.up.clear()
            return
        self.proxy.refuse = how == "refusing"
        self.proxy.nonsense = NONSENSE[self.name] if how == "nonsense" else b""
        self.proxy.drop_all()

    def come(self) -> None:
        """Work again; earlier connections are closed."""
        self.proxy.refuse, self.proxy.nonsense = False, b""
        self.proxy.drop_all()
        self.proxy.up.set()


@pytest.fixture(params=["redis", "xmpp"])
async def backend(
    request: pytest.FixtureRequest, tmp_path: Path, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Backend]:
    monkeypatch.setattr("appliance.pubsub.redis.PING_SECONDS", 0.5)
    pace = Pace(connect=2.0, answer=1.0, ping=0.5, longest_pause=2.0, final_pause=2.0)
    monkeypatch.setattr("appliance.pubsub.xmpp.backend.Pace", lambda: pace)
    if request.param == "redis":
        with RedisServer(tmp_path / "redis") as redis:
            async with a_proxy(redis.port, chance) as proxy:
                yield Backend("redis", proxy, f"redis://127.0.0.1:{proxy.port}?timeout=1")
    else:
        with Prosody(tmp_path / "prosody") as prosody:
            async with a_proxy(prosody.port, chance) as proxy:
                yield Backend("xmpp", proxy, url(proxy.port, prosody.ca))


async def shown(dashboard: aiohttp.ClientWebSocketResponse, wanted: Callable[[dict[str, Any]], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not wanted(await dashboard.receive_json()):
            pass


def words(name: str, number: int) -> Callable[[dict[str, Any]], bool]:
    def found(frame: dict[str, Any]) -> bool:
        return any(
            entry["name"] == name and entry["summaries"].get("writing", {}).get("words", 0) >= number
            for entry in frame.get("students", ())
        )

    return found


def paused(frame: dict[str, Any]) -> bool:
    return any(section["state"] == "paused" for section in frame.get("classes") or ())


async def works_meanwhile(w: World, dashboard: aiohttp.ClientWebSocketResponse, ada: Student) -> None:
    """Join, write, pause and resume while the pubsub cannot be reached."""
    await w.join("Ben")
    await shown(dashboard, words("Ben", 0))
    assert [entry["name"] for entry in await w.get("/api/v1/students")] == ["Ada", "Ben"]
    await ada.send(WORD)
    await ada.acked(1)
    await shown(dashboard, words("Ada", 1))
    assert await w.post("/api/v1/class/pause", {}) == {"state": "paused"}
    await shown(dashboard, paused)
    assert (await ada.receive_type("state"))["state"] == "paused"
    assert await w.post("/api/v1/class/resume", {}) == {"state": "open"}
    assert (await ada.receive_type("state"))["state"] == "open"


async def alive(seconds: float, *sockets: aiohttp.ClientWebSocketResponse) -> None:
    """Wait for a time in which pages answer pings, as browsers do, and ignore other messages."""

    async def read(socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            assert (await socket.receive()).type is aiohttp.WSMsgType.TEXT, "the server has closed"

    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*map(read, sockets))
    except TimeoutError:
        pass


def well(w: World) -> bool:
    return not w.node.health.findings()


@pytest.mark.parametrize("how", ["refusing", "silent", "nonsense"])
@pytest.mark.parametrize("when", ["at the start", "at the opening", "in the middle"])
async def test_dashboards_live_again_without_a_reload(
    tmp_path: Path, backend: Backend, how: str, when: str, long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.web.educators.feed.POLL_SECONDS", 0.5)
    if when == "at the start":
        backend.go(how)
    async with world(tmp_path, pubsub={"url": backend.url}) as w, w.student("Ada") as ada:
        if when == "at the opening":
            backend.go(how)
        async with w.dashboard() as dashboard:
            await shown(dashboard, words("Ada", 0))
            if when == "in the middle":
                backend.go(how)
            await works_meanwhile(w, dashboard, ada)
            async with asyncio.timeout(PATIENCE):
                while "pubsub.away" not in {found.code for found in w.node.health.findings()}:
                    await asyncio.sleep(0.05)
            await alive(LONG if long else SHORT, ada.socket, dashboard)
            backend.come()
            async with asyncio.timeout(PATIENCE):
                while not well(w):
                    await asyncio.sleep(0.05)
            await ada.send(WORD)
            await shown(dashboard, words("Ada", 2))
            # Now by hints, and not by periodic reading.
            await until(lambda: w.node.web.feed.all_live)
            monkeypatch.setattr("appliance.web.educators.feed.POLL_SECONDS", 3600.0)
            await ada.send(WORD)
            await shown(dashboard, words("Ada", 3))
            assert await w.post("/api/v1/class/message", {"text": "Hello"}) == {"sent": 1}
            assert (await ada.receive_type("message"))["text"] == "Hello"


async def test_no_task_is_unwatched(tmp_path: Path, backend: Backend) -> None:
    async with world(tmp_path, pubsub={"url": backend.url}) as w:
        await all_are_covered(w)
        names = {state.name for state in w.node.tasks.states()}
        assert names & {"pubsub.listen", "pubsub.connection"}
    assert w.node.tasks.states() == []
