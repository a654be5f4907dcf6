"""Unauthenticated connections: limits on their number, bytes and time."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from appliance.errors import BackendError
from appliance.web.security import client_address
from appliance.web.students.protocol import Close
from tests.web.students.raw import Raw, frame, hello, raw
from tests.web.world import World, until, world

A = {"event": "edit", "document": "d", "offset": 0, "insert": "a"}


def events(first: int, *sent: object) -> bytes:
    return frame(json.dumps({"type": "events", "first": first, "events": sent}))


@asynccontextmanager
async def silent(w: World, number: int) -> AsyncIterator[list[Raw]]:
    """Open connections that send nothing, one after the other."""
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(number):
            client = await stack.enter_async_context(raw(w.node.port))
            assert await client.answered() == 101
            clients.append(client)
        yield clients


async def test_a_new_connection_takes_the_place_of_the_one_that_was_silent_for_longest(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"strangers": 3}) as w, silent(w, 5) as clients:
        assert [await client.close_code() for client in clients[:2]] == [Close.TRY_AGAIN, Close.TRY_AGAIN]
        assert w.node.counters["limit_strangers"] == 2
        assert len(w.node.web.registry.unauthenticated) == 3
        # Authenticated connections are counted separately, and are not closed to make room.
        async with w.student("Ada") as ada, w.student("Ben") as ben, silent(w, 4):
            for student in (ada, ben):
                await student.send(A)
                await student.acked(1)
            assert len(w.node.web.registry) == 2


async def test_unauthenticated_connections_of_one_address_are_counted_together(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"strangers_per_address": 2}) as w, silent(w, 3) as clients:
        assert await clients[0].close_code() == Close.TRY_AGAIN
        assert w.node.counters["limit_strangers_per_address"] == 1
        assert w.node.counters["limit_strangers"] == 0
    await until(lambda: len(w.node.web.registry.unauthenticated) == 0)


@pytest.mark.slow
async def test_silent_connections_keep_nobody_out(tmp_path: Path) -> None:
    limits = {"strangers": 60, "strangers_per_address": 50, "connections": 30}
    async with world(tmp_path, limits=limits) as w, AsyncExitStack() as stack:
        tokens = [(await w.join(f"Student {number}"))["token"] for number in range(30)]

        async def press() -> None:
            client = await stack.enter_async_context(raw(w.node.port))
            assert await client.answered() == 101

        async def enter(token: str) -> None:
            student = await stack.enter_async_context(w.connect())
            assert (await student.hello(token))["type"] == "welcome"
            await student.send(A)
            await student.acked(1)

        async with asyncio.timeout(60):
            for token in tokens:
                await asyncio.gather(*(press() for _ in range(15)), enter(token))
        assert len(w.node.web.registry) == 30
        assert w.node.counters["limit_connections"] == 0
        assert w.node.counters["limit_strangers_per_address"] >= 400


@pytest.mark.parametrize(
    ("remote", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_all_addresses_of_one_ipv6_network_are_one(remote: str, counted: str) -> None:
    assert client_address(make_mocked_request("GET", "/").clone(remote=remote)) == counted


async def test_a_hello_of_the_largest_size_is_taken_and_a_larger_one_is_not(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        token = (await w.join())["token"]
        for size, opcode in ((4096, 1), (4097, 8)):
            async with raw(w.node.port) as client:
                assert await client.answered() == 101
                text = hello(token)
                client.send(frame(text + " " * (size - len(text))))
                found = await client.frame()
                assert found[0] == opcode, found
                if opcode == 8:
                    assert struct.unpack("!H", found[1][:2]) == (Close.BAD_HELLO,)
        assert w.node.counters["limit_hello_bytes"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("fragments", [False, True])
async def test_an_endless_first_message_is_cut_off_early(tmp_path: Path, fragments: bool) -> None:
    async with world(tmp_path) as w, AsyncExitStack() as stack:
        huge = struct.pack("!BBQ", 0x81, 0x80 | 127, 4_100_000) + bytes(4)
        part = struct.pack("!BBH", 0x01, 0x80 | 126, 1000) + bytes(4 + 1000)
        more = struct.pack("!BBH", 0x00, 0x80 | 126, 1000) + bytes(4 + 1000)
        clients = [await stack.enter_async_context(raw(w.node.port)) for _ in range(20)]
        for client in clients:
            assert await client.answered() == 101
            client.send(part + more * 300 if fragments else huge + bytes(300_000))
        for client in clients:
            assert await client.close_code() == Close.BAD_HELLO
            await client.ended()
        assert w.node.counters["limit_hello_bytes"] == 20
        assert w.node.counters["frames_refused{not_json}"] == 0, "it was not parsed"
        await until(lambda: len(w.node.web.registry.unauthenticated) == 0)


async def test_bytes_behind_the_request_count_too(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        token = (await w.join())["token"]
        async with raw(w.node.port, behind=frame(hello(token))) as client:
            assert await client.answered() == 101
            await client.message("welcome")
        async with raw(w.node.port, behind=frame(hello(token) + " " * 40_000)) as client:
            assert await client.answered() == 413
        assert w.node.counters["limit_hello_bytes"] == 1


async def test_a_client_that_does_not_wait_for_the_welcome_loses_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        joined = await w.join()
        async with raw(w.node.port) as client:
            assert await client.answered() == 101
            frames = [events(1 + number, {**A, "note": "x" * 90_000}) for number in range(5)]
            client.send(frame(hello(joined["token"])) + b"".join(frames))
            await client.message("welcome")
            while (await client.message("ack"))["seq"] < 5:
                pass
        seen = await w.get(f"/api/v1/students/{joined['student_id']}")
        assert seen["documents"]["d"]["writing"]["text"] == "aaaaa"


@pytest.mark.slow
async def test_a_wrong_token_is_named_though_more_was_sent_behind_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w, raw(w.node.port) as client:
        assert await client.answered() == 101
        client.send(frame(hello("nonsense")) + events(1, {**A, "note": "x" * 500_000}))
        assert await client.close_code() == Close.BAD_TOKEN
        await client.ended()


async def test_pings_before_hello_are_answered(tmp_path: Path) -> None:
    async with world(tmp_path) as w, raw(w.node.port) as client:
        token = (await w.join())["token"]
        assert await client.answered() == 101
        client.send(b"\x89\x82" + bytes(4) + b"hi")
        assert await client.frame() == (10, b"hi")
        client.send(frame(hello(token)))
        await client.message("welcome")


async def test_compressed_frames_are_not_accepted(tmp_path: Path) -> None:
    async with world(tmp_path) as w, raw(w.node.port) as client:
        assert await client.answered() == 101
        client.send(bytes([frame(hello("x"))[0] | 0x40]) + frame(hello("x"))[1:])
        assert await client.close_code() == 1002


async def test_an_address_that_sends_much_waits(tmp_path: Path) -> None:
    limits = {"stranger_bytes_per_second": 1, "stranger_burst_bytes": 500, "opening_seconds": 1}
    async with world(tmp_path, limits=limits) as w:
        token = (await w.join())["token"]
        async with w.connect() as first, w.connect() as second:
            assert (await first.hello(token))["type"] == "welcome"
            await second.say_hello(token, note="x" * 1000)
            assert await second.close_code() == Close.TRY_AGAIN
        assert w.node.counters["limit_stranger_bytes_per_second"] == 1


class Slow:
    """A part of the appliance that does not answer until the test allows it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        self.asked = 0
        self.go = asyncio.Event()
        before = getattr(owner, name)

        async def slow(*args: Any) -> Any:
            self.asked += 1
            await self.go.wait()
            return await before(*args)

        monkeypatch.setattr(owner, name, slow)


@pytest.mark.slow
@pytest.mark.parametrize(("owner", "name"), [("roster", "student_by_token"), ("pipeline", "stream")])
async def test_a_slow_store_does_not_use_up_the_time_for_hello(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str, name: str
) -> None:
    async with world(tmp_path, limits={"hello_seconds": 1, "opening_seconds": 2}) as w:
        token = (await w.join())["token"]
        slow = Slow(monkeypatch, getattr(w.node, owner), name)
        async with w.connect() as student:
            await student.say_hello(token)
            assert await student.close_code() == Close.TRY_AGAIN
        assert slow.asked == 1
        assert w.node.counters["limit_opening_seconds"] == 1
        assert w.node.counters["limit_hello_seconds"] == 0
        slow.go.set()
        async with w.connect() as student:
            assert (await student.hello(token))["type"] == "welcome"


async def test_connections_are_counted_before_anything_is_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, limits={"connections_per_student": 3}) as w, AsyncExitStack() as stack:
        token = (await w.join())["token"]
        slow = Slow(monkeypatch, w.node.pipeline, "stream")
        students = [await stack.enter_async_context(w.connect()) for _ in range(12)]
        for student in students:
            await student.say_hello(token)
        await until(lambda: w.node.counters["limit_connections_per_student"] == 9)
        assert slow.asked == 3
        slow.go.set()
        answers = [await student.socket.receive() for student in students]
        assert sum(type(answer.data) is str for answer in answers) == 3
        assert sum(answer.data == Close.TOO_MANY_CONNECTIONS for answer in answers) == 9


async def test_a_page_that_comes_back_needs_no_further_place(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"connections_per_student": 1}) as w:
        token = (await w.join())["token"]
        async with w.connect() as lost, w.connect() as back, w.connect() as other:
            await lost.hello(token)
            assert (await back.hello(token, stream=lost.stream))["type"] == "welcome"
            assert await lost.close_code() == Close.OPEN_ELSEWHERE
            await other.say_hello(token)
            assert await other.close_code() == Close.TOO_MANY_CONNECTIONS


@pytest.mark.parametrize(
    ("error", "code"), [(BackendError("The store is away."), Close.GOING_AWAY), (ValueError("x"), Close.INTERNAL)]
)
async def test_an_error_while_a_page_opens_is_a_close_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    code: Close,
) -> None:
    async def fail(*args: object) -> None:
        raise error

    async with world(tmp_path) as w:
        token = (await w.join())["token"]
        monkeypatch.setattr(w.node.pipeline, "stream", fail)
        async with w.connect() as student:
            await student.say_hello(token)
            assert await student.close_code() == code
        assert "Traceback" not in caplog.text
        assert ("conversation" in caplog.text) is (code is Close.INTERNAL)
        assert w.node.counters["conversation_errors"] == (code is Close.INTERNAL)


async def test_a_client_that_goes_away_while_it_is_answered_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def goes_away(request: web.Request) -> int:
        assert request.transport is not None
        request.transport.abort()
        return 0

    async with world(tmp_path) as w:
        monkeypatch.setattr("appliance.web.students.handshake.early_bytes", goes_away)
        with pytest.raises(aiohttp.ClientError):
            async with w.connect():
                pass
        await until(lambda: len(w.node.web.registry.unauthenticated) == 0)
        assert not w.node.counters["conversation_errors"]
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_the_end_of_the_program_closes_unauthenticated_connections_too(tmp_path: Path) -> None:
    async with world(tmp_path) as w, silent(w, 2) as clients:
        ending = asyncio.create_task(w.node.web.close())
        assert [await client.close_code() for client in clients] == [Close.GOING_AWAY] * 2
        for client in clients:
            client.writer.close()
        await ending
