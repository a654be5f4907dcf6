"""The registry of students' WebSockets: how connections end, and which connection has a stream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType

from appliance.lessons.class_control import Control
from appliance.states import Stream, StreamState
from appliance.web.students import protocol
from appliance.web.students.protocol import Close
from tests.web.students.connections import cannot_build, only
from tests.web.world import PATIENCE, until, world

A = {"event": "edit", "document": "d", "offset": 0, "insert": "a"}


async def test_a_frame_of_exactly_the_limit_is_taken_and_a_larger_one_is_not(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"frame_bytes": 20_000}) as w, w.student("Ada") as ada, w.student("Ben") as ben:
        text = json.dumps({"type": "events", "first": 1, "events": [A]})
        await ada.socket.send_str(text + " " * (20_000 - len(text)))
        await ada.acked(1)
        await ben.socket.send_str(text + " " * (20_001 - len(text)))
        assert await ben.close_code() == Close.FRAME_TOO_LARGE
        assert w.node.counters["limit_frame_bytes"] == 1


async def test_an_error_in_a_conversation_is_a_close_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path) as w, w.student("Ada") as ada, w.student("Ben") as ben:
        accept = w.node.pipeline.accept

        def fail(stream: Any, first: int, *more: Any) -> int:
            if first == 2:
                raise ValueError("what a student wrote")
            return accept(stream, first, *more)

        monkeypatch.setattr(w.node.pipeline, "accept", fail)
        await ada.send(A)
        await ada.acked(1)
        await ada.send(A)
        assert await ada.close_code() == Close.INTERNAL
        assert "ValueError in fail()" in caplog.text
        assert "what a student wrote" not in caplog.text
        await ben.send(A)
        await ben.acked(1)


async def test_a_message_to_many_pages_is_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    message = protocol.message

    def count(text: str) -> str:
        made.append(text)
        return message(text)

    monkeypatch.setattr(protocol, "message", count)
    async with world(tmp_path) as w, w.student("Ada") as ada, w.student("Ben") as ben, w.student("Cy") as cy:
        await w.post("/api/v1/class/message", {"text": "Stop."})
        for student in (ada, ben, cy):
            assert await student.receive() == {"type": "message", "text": "Stop."}
    assert made == ["Stop."]


@pytest.mark.slow
async def test_acknowledgements_continue_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w, w.student("Ada") as ada, w.student("Ben") as ben:
        ack = protocol.ack
        failed = []

        def fail_once(seq: int) -> str:
            if not failed:
                failed.append(seq)
                raise ValueError
            return ack(seq)

        monkeypatch.setattr(protocol, "ack", fail_once)
        await ada.send(A)
        await until(lambda: w.node.counters["findings{task.down}"] == 1)
        await ben.send(A)
        await ben.acked(1)
        await ada.send(A)
        await ada.acked(2)
        await until(lambda: "task.down" not in {found.code for found in w.node.health.findings()})


async def test_a_control_that_names_nobody_here_does_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student() as student:
        w.node.class_control.on_control("class-1", Control(removed="somebody"))
        w.node.class_control.on_control("class-2", Control(state="paused"))
        await student.send(A)
        await student.acked(1)


async def test_the_page_of_a_quarantined_stream_is_closed_and_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        joined = await w.join("Ada")
        cannot_build(monkeypatch, "bad")
        async with w.connect() as ada, w.student("Ben") as ben:
            await ada.hello(joined["token"])
            await ada.send(A)
            await ada.acked(1)
            await ada.send({**A, "note": "bad"})
            received = await ada.socket.receive(PATIENCE)
            while received.type is WSMsgType.TEXT:
                received = await ada.socket.receive(PATIENCE)
            assert (received.type, received.data) == (WSMsgType.CLOSE, Close.UNUSABLE)
            assert received.extra == "The server could not use the last changes of this page."
            assert w.node.web.registry.budgets.of(joined["student_id"]).waiting == 0
            async with w.connect() as again:
                welcome = await again.hello(joined["token"], stream=ada.stream)
                assert (welcome["ack"], welcome["paused_to"]) == (2, 2)
                await again.send(A, first=3)
                await again.acked(3)
            await ben.send(A)
            await ben.acked(1)


async def test_events_for_a_closed_stream_close_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w, w.student() as student:
        stream = only(w.node.web.registry).stream
        stream.become(StreamState.CLOSED)
        await student.send(A)
        assert await student.close_code() == Close.UNUSABLE


async def test_a_stream_is_closed_when_its_last_connection_leaves_and_not_before(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        token = (await w.join())["token"]
        async with w.connect() as old, w.connect() as new:
            await old.hello(token)
            await new.hello(token, stream=old.stream)
            assert await old.close_code() == Close.OPEN_ELSEWHERE
            connection = only(w.node.web.registry)
            assert connection.stream.state is StreamState.OPEN
            await new.send(A)
            await new.acked(1)
        await until(lambda: connection.stream.state is StreamState.CLOSED)


async def test_a_stream_that_was_closed_while_it_was_opened_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        token = (await w.join())["token"]
        opened = w.node.pipeline.stream

        async def closed(*args: str) -> Stream:
            stream = await opened(*args)
            stream.become(StreamState.CLOSED)
            return stream

        monkeypatch.setattr(w.node.pipeline, "stream", closed)
        async with w.connect() as student:
            await student.say_hello(token)
            assert await student.close_code() == Close.TRY_AGAIN
            monkeypatch.undo()
        async with w.connect() as student:
            assert (await student.hello(token))["type"] == "welcome"
