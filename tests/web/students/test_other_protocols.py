"""Another protocol on the registry: it gets presence, limits and closing without additional code."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from appliance.web.students.handshake import Handshake, RefusedError
from appliance.web.students.protocol import Close
from tests.web.students.connections import cannot_build
from tests.web.world import PATIENCE, World, world

A = {"event": "edit", "document": "d", "offset": 0, "insert": "a"}


class Tiny:
    """Another protocol: the token, then one JSON event a frame; each is answered once it is durable."""

    def __init__(self, w: World) -> None:
        self._node = w.node
        self._registry = w.node.web.registry

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return await self._registry.serve(request, self._converse)

    async def _converse(self, handshake: Handshake) -> None:
        token = await handshake.first_message()
        async with handshake.time_limit():
            student = await self._node.roster.student_by_token(token.data.decode())
        if student is None:
            raise RefusedError(Close.BAD_TOKEN, "Who are you?")
        with self._registry.reserve(handshake, student.student_id, "tiny"):
            async with handshake.time_limit():
                stream = await self._node.pipeline.stream(student.student_id, student.class_id, "tiny", "tiny.example")
            with self._registry.register(handshake, student, stream) as connection:
                while (received := await connection.receive()).type is WSMsgType.TEXT:
                    size = len(received.data)
                    began = connection.account.begin(size)
                    self._node.pipeline.accept(stream, stream.last + 1, [received.data], time.time_ns() // 1_000_000)
                    connection.pay(size, began)
                    room = connection.accepted(size)
                    number = stream.last
                    await stream.durable(number)
                    await connection.send(b"%d" % number)
                    if not room:
                        await connection.wait_for_room()


@asynccontextmanager
async def tiny(w: World, token: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A client of the tiny protocol, on a separate server in the same process."""
    application = web.Application()
    application.router.add_get("/tiny", Tiny(w).handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        async with w.client.ws_connect(f"http://127.0.0.1:{port}/tiny") as socket:
            await socket.send_str(token)
            yield socket
    finally:
        await runner.cleanup()


async def test_another_protocol_needs_no_code_for_presence_limits_and_closing(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student("Ben") as ben:
        joined = await w.join("Ada")
        async with tiny(w, joined["token"]) as ada:
            for number in (1, 2, 3):
                await ada.send_str(json.dumps(A))
                assert await ada.receive_str(timeout=PATIENCE) == str(number)
            assert w.node.web.registry.online(joined["student_id"])
            await ben.send(A)
            await ben.acked(1)
            seen = await w.get(f"/api/v1/students/{joined['student_id']}")
            assert seen["documents"]["d"]["writing"]["text"] == "aaa"
            assert seen["online"]
            await w.post("/api/v1/class/message", {"text": "For those who understand it."})
            assert (await ben.receive_type("message"))["text"].startswith("For")
            await w.post(f"/api/v1/students/{joined['student_id']}/remove", {})
            received = await ada.receive(PATIENCE)
            assert (received.type, received.data) == (WSMsgType.CLOSE, Close.REMOVED)
        async with tiny(w, "nonsense") as nobody:
            received = await nobody.receive(PATIENCE)
            assert (received.type, received.data) == (WSMsgType.CLOSE, Close.BAD_TOKEN)
        async with tiny(w, "x" * 5000) as huge:
            received = await huge.receive(PATIENCE)
            assert (received.type, received.data) == (WSMsgType.CLOSE, Close.BAD_HELLO)


async def test_a_connection_of_another_protocol_is_closed_if_its_events_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        joined = await w.join("Ada")
        cannot_build(monkeypatch, "bad")
        async with tiny(w, joined["token"]) as ada:
            await ada.send_str(json.dumps({**A, "note": "bad"}))
            received = await ada.receive(PATIENCE)
            assert (received.type, received.data) == (WSMsgType.CLOSE, Close.UNUSABLE)
