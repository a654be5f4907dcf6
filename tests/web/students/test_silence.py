"""Signs of life in both directions, and who counts as online."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from aiohttp import WSMsgType

from appliance.states import Stream
from appliance.web.students.protocol import Close
from tests.web.students.connections import Clock, Hold, only
from tests.web.students.raw import frame, hello, raw
from tests.web.world import PATIENCE, until, world

A = {"event": "edit", "document": "d", "offset": 0, "insert": "a"}


async def test_the_server_sends_alive_if_it_sends_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w, w.student() as student:
        registry = w.node.web.registry
        clock = Clock(monkeypatch, registry)
        await clock.after(0)
        await clock.after(4.9)
        await w.post("/api/v1/class/message", {"text": "Go on."})
        assert (await student.receive())["type"] == "message"
        await clock.after(0.2)
        await clock.after(4.9)
        await clock.after(0.2)
        before = time.time_ns() // 1_000_000
        alive = await student.receive()
        assert alive["type"] == "alive"
        assert abs(alive["now"] - before) < 60_000
        await clock.after(0)
        await clock.after(5.1)
        assert (await student.receive())["type"] == "alive"


@pytest.mark.slow
async def test_connections_are_checked_regularly(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"alive_seconds": 1}) as w, w.student() as student:
        for _ in range(2):
            began = time.monotonic()
            assert (await student.receive())["type"] == "alive"
            assert time.monotonic() - began < 5
        assert [one.state for one in w.node.tasks.states() if one.owner == "students"] == ["running", "running"]


async def test_a_lost_student_is_pinged_and_then_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w:
        registry = w.node.web.registry
        joined = await w.join()
        presence: list[tuple[str, str, bool]] = []
        registry.on_presence.add(lambda _: 1 / 0)
        registry.on_presence.add(lambda of_class, of: presence.append((of_class, of, registry.online(of))))
        async with w.connect(autoping=False) as student:
            await student.hello(joined["token"])
            clock = Clock(monkeypatch, registry)
            await clock.after(0)
            await clock.after(5.1)
            kinds = {(await student.socket.receive(PATIENCE)).type for _ in range(2)}
            assert kinds == {WSMsgType.PING, WSMsgType.TEXT}
            await clock.after(14)
            assert registry.online(joined["student_id"])
            await clock.after(1)
            assert not registry.online(joined["student_id"]), "offline at once, whether the close gets through or not"
            while (received := await student.socket.receive(PATIENCE)).type is not WSMsgType.CLOSE:
                pass
            assert received.data == Close.SILENT
        assert w.node.counters["limit_silent_seconds"] == 1
        who = (joined["class_id"], joined["student_id"])
        assert presence == [(*who, True), (*who, False)]


async def test_a_client_that_answers_pings_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w, w.student() as student:
        registry = w.node.web.registry
        clock = Clock(monkeypatch, registry)
        connection = only(registry)
        # A browser answers pings by itself, as this client does while it reads.
        reading = asyncio.create_task(student.receive_type("message"))
        for _ in range(10):
            await clock.after(0)
            await clock.after(6)
            await until(lambda: connection.has_received)
        await w.post("/api/v1/class/message", {"text": "Still there?"})
        await reading


async def test_part_of_a_large_message_is_a_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w, raw(w.node.port) as slow:
        assert await slow.answered() == 101
        slow.send(frame(hello((await w.join())["token"])))
        await slow.message("welcome")
        registry = w.node.web.registry
        clock = Clock(monkeypatch, registry)
        connection = only(registry)
        message = frame(json.dumps({"type": "events", "first": 1, "events": [A]}) + " " * 1000)
        for start in range(0, len(message), 100):
            await clock.after(0)
            await clock.after(15)
            slow.send(message[start : start + 100])
            await until(lambda: connection.has_received)
        await slow.message("ack")


async def test_a_throttled_connection_does_not_count_as_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, limits={"unacked": 2}) as w, w.student() as student:
        hold = Hold(monkeypatch, w)
        registry = w.node.web.registry
        clock = Clock(monkeypatch, registry)
        for _ in range(4):
            await student.send(A)
        await until(lambda: registry.without_room)
        for _ in range(5):
            await clock.after(19)
        assert only(registry).open
        hold.go.set()
        await student.acked(4)
        assert w.node.counters["limit_unacked"] > 0


async def test_a_student_who_leaves_while_the_page_opens_was_never_online(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        token = (await w.join())["token"]
        registry = w.node.web.registry
        presence: list[str] = []
        registry.on_presence.add(lambda of_class, of: presence.append(of))
        go, asked = asyncio.Event(), asyncio.Event()
        opened = w.node.pipeline.stream

        async def slow(*args: str) -> Stream:
            asked.set()
            await go.wait()
            return await opened(*args)

        monkeypatch.setattr(w.node.pipeline, "stream", slow)
        async with raw(w.node.port) as page:
            assert await page.answered() == 101
            page.send(frame(hello(token)))
            await asked.wait()
            page.writer.transport.abort()
            await until(lambda: registry.reserved == 1)
        go.set()
        await until(lambda: registry.reserved == 0)
        assert presence == []
