"""Hints: a lost message only delays updates, and an unreadable row affects one student only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from appliance.errors import BackendError
from appliance.kvs import Change, Encoded
from appliance.pubsub import Subscription
from appliance.states import student_key
from appliance.web.educators import dashboard as dashboard_module
from appliance.web.educators import feed
from tests.web.world import PATIENCE, World, until, world

WORD = {"event": "edit", "document": "essay", "offset": 0, "insert": "word "}
TOPIC = "class/class-1"


class Away:
    """Makes the pubsub of a node unreachable and reachable again, as a server that ends all subscriptions."""

    def __init__(self, w: World) -> None:
        self._pubsub: Any = w.node.pubsub
        self._publish = self._pubsub.publish
        self._subscribe = self._pubsub.subscribe

    def go(self, *, hang: bool = False) -> None:
        async def publish(topic: str, message: bytes) -> None:
            if hang:
                await asyncio.get_running_loop().create_future()
            raise BackendError("The pubsub is away.")

        @asynccontextmanager
        async def subscribe(topic: str) -> AsyncIterator[Subscription]:
            raise BackendError("The pubsub is away.")
            yield

        self._pubsub.publish, self._pubsub.subscribe = publish, subscribe
        self._pubsub.subscribers.end()

    def come(self) -> None:
        self._pubsub.publish, self._pubsub.subscribe = self._publish, self._subscribe


def codes(w: World) -> set[str]:
    return {found.code for found in w.node.health.findings()}


async def shown(dashboard: aiohttp.ClientWebSocketResponse, wanted: Callable[[dict[str, Any]], object]) -> None:
    """Read frames until one fulfils a condition."""
    async with asyncio.timeout(10):
        while True:
            frame = await dashboard.receive_json()
            if wanted(frame):
                return


def has(name: str, words: int | None = None) -> Callable[[dict[str, Any]], bool]:
    def found(frame: dict[str, Any]) -> bool:
        entries = [entry for entry in frame.get("students", ()) if entry["name"] == name]
        return bool(entries) and (words is None or entries[0]["summaries"].get("writing", {}).get("words") == words)

    return found


@pytest.mark.slow
@pytest.mark.parametrize("hang", [False, True])
async def test_joining_pausing_and_removing_answer_as_they_took_effect(tmp_path: Path, hang: bool) -> None:
    async with world(tmp_path) as w, w.dashboard() as dashboard:
        await dashboard.receive_json()
        away = Away(w)
        away.go(hang=hang)
        joined = await w.join("Ada")
        await shown(dashboard, has("Ada"))
        assert [student["name"] for student in await w.get("/api/v1/students")] == ["Ada"]
        async with w.connect() as ada:
            assert (await ada.hello(joined["token"]))["type"] == "welcome"
            assert await w.post("/api/v1/class/pause", {}) == {"state": "paused"}
            assert (await ada.receive_type("state"))["state"] == "paused"
            await shown(dashboard, lambda frame: (frame.get("classes") or [{}])[0].get("state") == "paused")
            assert w.node.counters["publish_failures"] >= 3
            assert "pubsub.away" in codes(w)
            removing = asyncio.create_task(w.post(f"/api/v1/students/{joined['student_id']}/remove", {}))
            assert await ada.close_code() == 4403
            await removing
        await shown(dashboard, lambda frame: joined["student_id"] in frame.get("removed", ()))
        away.come()
        assert await w.post("/api/v1/class/resume", {}) == {"state": "open"}
        await until(lambda: not codes(w))


async def test_a_message_that_cannot_be_sent_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student("Ada") as ada:
        away = Away(w)
        away.go()
        url = f"{w.url}/api/v1/class/message"
        async with w.client.post(url, headers=w.educator, json={"text": "Hello"}) as answer:
            assert answer.status == 503
            assert (await answer.json())["error"]["code"] == "not_sent"
        away.come()
        await until(lambda: not codes(w))
        assert await w.post("/api/v1/class/message", {"text": "Hello"}) == {"sent": 1}
        assert await ada.receive_type("message") == {"type": "message", "text": "Hello"}


async def test_a_dashboard_opened_while_the_pubsub_is_away_is_live_when_it_is_back(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student("Ada") as ada:
        away = Away(w)
        away.go()
        async with w.dashboard() as dashboard:
            began = time.monotonic()
            await shown(dashboard, has("Ada"))
            assert time.monotonic() - began < 5
            away.come()
            await until(lambda: w.node.web.feed.all_live)
            await ada.send(WORD)
            await shown(dashboard, has("Ada", 1))


async def test_while_the_pubsub_is_away_dashboards_read_the_store_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "POLL_SECONDS", 0.2)
    async with world(tmp_path) as w, w.student("Ada") as ada, w.dashboard() as dashboard:
        await shown(dashboard, has("Ada"))
        Away(w).go()
        await ada.send(WORD)
        await shown(dashboard, has("Ada", 1))


@pytest.mark.parametrize(
    "message",
    [
        b"no JSON",
        b'{"valid":"but no list"}',
        b"[1,2]",
        b'["\\ud83d"]',
        b'["\xed\xa0\x80"]',
        b"\xff\xfe",
        b"[" * 100_000,
        b'["' + b"x" * (2 << 20) + b'"]',
        b'["no such student","\\u0000"]',
    ],
)
async def test_a_message_that_cannot_be_read_is_left_out(tmp_path: Path, message: bytes) -> None:
    async with world(tmp_path) as w, w.student("Ada") as ada, w.dashboard() as dashboard:
        await shown(dashboard, has("Ada"))
        for topic in (TOPIC, "control/class-1"):
            await w.node.pubsub.publish(topic, message)
        await ada.send(WORD)
        await shown(dashboard, has("Ada", 1))
        await w.post("/api/v1/class/pause", {})
        assert (await ada.receive_type("state"))["state"] == "paused"
        assert w.node.counters["messages_unreadable"] >= 1
        assert [state.failure for state in w.node.tasks.states() if state.failure] == []


async def test_after_a_message_that_cannot_be_read_the_class_is_read_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.dashboard() as dashboard:
        await dashboard.receive_json()
        publish = w.node.pubsub.publish

        async def spoilt(topic: str, message: bytes) -> None:
            await publish(topic, b"spoilt on its way")

        w.node.pubsub.publish = spoilt  # type: ignore[method-assign]
        await w.join("Ada")
        await shown(dashboard, has("Ada"))
        await w.post("/api/v1/class/pause", {})
        await shown(dashboard, lambda frame: (frame.get("classes") or [{}])[0].get("state") == "paused")


async def test_a_read_that_fails_while_a_pause_is_received_is_done_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student("Ada") as ada:
        [row] = await w.node.kvs.read(["class/class-1"])
        await w.node.kvs.commit([Change("class/class-1", row.version, {"state": Encoded(b"paused")})])
        read = w.node.kvs.read
        failed: list[set[str]] = []

        async def away(*given: Any) -> Any:
            failed.append(codes(w))
            if len(failed) <= 3:
                raise BackendError("The store is away.")
            return await read(*given)

        w.node.kvs.read = away  # type: ignore[method-assign]
        await w.node.pubsub.publish("control/class-1", b'{"state":"paused"}')
        await w.node.pubsub.publish("control/class-1", b'{"message":"Hello"}')
        assert (await ada.receive_type("state"))["state"] == "paused"
        assert (await ada.receive_type("message"))["text"] == "Hello"
        assert "store.unread" in failed[2]
        await until(lambda: not codes(w))


async def test_dashboards_show_a_pause_of_another_node_though_their_own_hint_came_first(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.dashboard() as dashboard:
        await dashboard.receive_json(timeout=PATIENCE)
        [row] = await w.node.kvs.read(["class/class-1"])
        await w.node.kvs.commit([Change("class/class-1", row.version, {"state": Encoded(b"paused")})])
        await w.node.pubsub.publish("control/class-1", b'{"state":"paused"}')
        await shown(dashboard, lambda frame: (frame.get("classes") or [{}])[0].get("state") == "paused")


@pytest.mark.parametrize("function", ["read", "classes"])
async def test_a_dashboard_stays_open_while_the_store_is_away(
    tmp_path: Path, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard_module, "ALIVE_SECONDS", 0.2)
    monkeypatch.setattr(feed, "CHECK_SECONDS", 0.05)
    async with world(tmp_path) as w, w.student("Ada") as ada:
        owner: Any = w.node.kvs if function == "read" else w.node.roster
        original = getattr(owner, function)

        async def away(*given: object) -> None:
            raise BackendError("The store is away.")

        setattr(owner, function, away)
        async with w.dashboard() as dashboard:
            # Nothing changed, but the server shows a sign of life.
            assert (await dashboard.receive_json(timeout=10))["type"] == "alive"
            await until(lambda: "task.down" in codes(w))
            setattr(owner, function, original)
            await shown(dashboard, has("Ada"))
            await until(lambda: not codes(w))
            await ada.send(WORD)
            await shown(dashboard, has("Ada", 1))
            setattr(owner, function, away)
            w.node.web.feed.refresh()
            await until(lambda: "task.down" in codes(w))
            setattr(owner, function, original)
            await shown(dashboard, has("Ada", 1))


@pytest.mark.parametrize(("error", "code"), [(BackendError("The store is away."), 1013), (RuntimeError("Ada"), 1011)])
async def test_an_error_in_an_open_socket_is_a_close_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, code: int
) -> None:
    async with world(tmp_path) as w:

        async def fail(dashboard: object) -> bool:
            raise error

        monkeypatch.setattr(dashboard_module.Dashboard, "wait_for_request", fail)
        async with w.dashboard() as dashboard:
            async with asyncio.timeout(10):
                while not dashboard.closed:
                    received = await dashboard.receive()
                    # No HTTP answer is written into the open WebSocket.
                    assert received.type is not aiohttp.WSMsgType.ERROR
            assert dashboard.close_code == code
        assert "Traceback" not in caplog.text
        assert ("RuntimeError in fail()" in caplog.text) is (code == 1011)


@pytest.mark.parametrize("damage", [b"no JSON", b'{"a":1', b'"\xff"', b"[1]"])
@pytest.mark.parametrize("field", ["summary/", "summary/writing"])
async def test_one_damaged_row_spoils_no_other(tmp_path: Path, damage: bytes, field: str) -> None:
    async with world(tmp_path) as w, w.student("Ada") as ada, w.student("Ben") as ben, w.dashboard() as dashboard:
        for student in (ada, ben):
            await student.send(WORD)
            await student.acked(1)
        await shown(dashboard, has("Ben", 1))
        [entry] = [entry for entry in await w.get("/api/v1/students") if entry["name"] == "Ada"]
        key = student_key(entry["student_id"])
        row = w.node.kvs.row(key)  # type: ignore[attr-defined]
        await w.node.kvs.commit([Change(key, row.version, {field: Encoded(damage)})])
        w.node.web.feed.refresh()
        names: list[str] = []

        def whole(frame: dict[str, Any]) -> bool:
            names[:] = [entry["name"] for entry in frame["students"]]
            return frame["type"] == "snapshot" and has("Ben", 1)(frame)

        await shown(dashboard, whole)
        assert names == ["Ada", "Ben"]
        if field == "summary/" or damage != b"[1]":
            assert w.node.counters["rows_unreadable"] >= 1
        assert "feed.push" not in str([f.subject for f in w.node.health.findings()])


async def test_a_store_that_fails_for_one_row_gives_the_others(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student("Ada"), w.student("Ben") as ben, w.dashboard() as dashboard:
        await shown(dashboard, lambda frame: len(frame["students"]) == 2)
        [ada] = [entry["student_id"] for entry in await w.get("/api/v1/students") if entry["name"] == "Ada"]
        read = w.node.kvs.read

        async def fails(keys: Any, *prefix: Any) -> Any:
            keys = list(keys)
            if student_key(ada) in keys:
                raise OverflowError("a number of a plug-in")
            return await read(keys, *prefix)

        w.node.kvs.read = fails  # type: ignore[method-assign]
        await ben.send(WORD)
        await shown(dashboard, has("Ben", 1))
        w.node.web.feed.refresh()
        await shown(dashboard, lambda frame: frame["type"] == "snapshot" and has("Ada")(frame) and has("Ben", 1)(frame))


async def test_a_dashboard_gets_alive_if_nothing_else_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_module, "ALIVE_SECONDS", 0.3)
    monkeypatch.setattr(feed, "CHECK_SECONDS", 0.02)
    async with world(tmp_path) as w, w.dashboard() as dashboard:
        await dashboard.receive_json(timeout=10)
        said = time.monotonic()
        alive = await dashboard.receive_json(timeout=10)
        assert (alive["type"], sorted(alive)) == ("alive", ["now", "type"])
        assert abs(alive["now"] / 1000 - time.time()) < 60
        assert time.monotonic() - said >= 0.25
        # Not soon after another frame.
        for _ in range(5):
            w.node.web.feed.refresh()
            assert (await dashboard.receive_json(timeout=10))["type"] == "snapshot"


@pytest.mark.slow
async def test_a_stuck_dashboard_is_closed_and_slows_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "CHECK_SECONDS", 0.02)
    limits = {"stuck_dashboard_seconds": 1, "send_buffer_bytes": 4096}
    async with world(tmp_path, limits=limits) as w:
        async with w.student("Ada") as ada, w.dashboard() as slow, w.dashboard() as quick:
            await shown(slow, has("Ada"))
            await shown(quick, has("Ada"))
            [stuck, _] = w.node.web.feed.dashboards
            # As if the network had accepted nothing for a while.
            stuck.waiting_bytes = lambda: 5000  # type: ignore[method-assign]
            sent = 0
            while not w.node.counters["limit_stuck_dashboard_seconds"]:
                sent += 1
                await ada.send(WORD)
                await shown(quick, has("Ada", sent))
            await until(lambda: len(w.node.web.feed) == 1)
            assert sent > 1
            assert w.node.counters["limit_send_buffer_bytes"] >= 1
            async with asyncio.timeout(10):
                while not slow.closed:
                    frame = await slow.receive()
                    assert frame.type is not aiohttp.WSMsgType.TEXT
            await ada.send(WORD)
            await shown(quick, has("Ada", sent + 1))
