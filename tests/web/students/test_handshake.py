"""The handshake: the errors that end it, and their answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.errors import BackendError
from appliance.web.students.protocol import Close
from tests.web.students.raw import frame, hello, raw
from tests.web.world import until, world


async def test_a_request_that_asks_for_no_websocket_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.client.get(f"{w.url}/ws/events") as answer:
        assert answer.status == 400
        assert len(w.node.web.registry.unauthenticated) == 0


async def test_a_student_who_comes_while_the_server_stops_comes_back_later(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.node.web.registry.close()
        async with w.connect() as student:
            assert await student.close_code() == Close.GOING_AWAY


async def test_a_hello_that_no_store_can_answer_is_sent_away_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        token = (await w.join())["token"]

        async def away(token: str) -> None:
            raise BackendError("The store is away.")

        monkeypatch.setattr(w.node.roster, "student_by_token", away)
        async with w.connect() as student:
            await student.say_hello(token)
            assert await student.close_code() == Close.GOING_AWAY
        assert w.node.counters["openings_unserved"] == 1


async def test_a_first_message_that_is_not_text_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.connect() as student:
        await student.socket.send_bytes(b"hello")
        assert await student.close_code() == Close.BAD_HELLO


async def test_an_address_that_sends_too_much_before_it_is_known_comes_back_later(tmp_path: Path) -> None:
    limits = {"stranger_bytes_per_second": 1024, "stranger_burst_bytes": 4096, "opening_seconds": 1}
    async with world(tmp_path, limits=limits) as w:
        token = (await w.join())["token"]
        padded = hello(token) + " " * 3500
        codes = []
        for _ in range(4):
            async with raw(w.node.port) as client:
                assert await client.answered() == 101
                client.send(frame(padded))
                opcode, content = await client.frame()
                codes.append(int.from_bytes(content[:2], "big") if opcode == 8 else 0)
        assert codes[0] == 0
        assert codes[-1] == Close.TRY_AGAIN
        assert w.node.counters["limit_stranger_bytes_per_second"] >= 1


async def test_what_cannot_be_used_is_answered_also_after_the_hello(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student() as student:
        await student.socket.send_bytes(b"\x00")
        assert (await student.receive_type("error"))["code"] == "binary"
        await student.socket.pong(b"unasked")
        await student.send({"event": "e", "t": 1})
        await student.acked(1)


async def test_the_end_acknowledges_what_is_durable(tmp_path: Path) -> None:
    """Acknowledgements are far apart, and the test ends before the next one."""
    async with world(tmp_path, pipeline={"ack_ms": 10_000, "ack_events": 1000}) as w, w.student() as student:
        await student.send({"event": "e", "t": 1})
        [stream] = [one.stream for one in w.node.web.registry.connections()]
        await until(lambda: stream.durable_to == 1)
        ending = asyncio.create_task(w.node.web.close())
        await student.acked(1)
        assert await student.close_code() == Close.GOING_AWAY
        await ending


async def test_a_client_that_never_answers_a_close_is_cut_off(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        async with raw(w.node.port) as client:
            assert await client.answered() == 101
            client.send(frame(hello((await w.join())["token"])))
            await client.message("welcome")
            [connection] = w.node.web.registry.connections()
            ending = asyncio.create_task(connection.socket.end(Close.SILENT, "x" * 500, seconds=0.2))
            assert await client.close_code() == Close.SILENT
            await ending
            await client.ended()


async def test_sending_to_a_connection_that_was_lost_does_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        async with w.student() as student:
            [connection] = w.node.web.registry.connections()
            await student.send({"event": "e", "t": 1})
            await student.acked(1)
        await until(lambda: not w.node.web.registry.connections())
        await connection.send(b"{}")
        await connection.ping()
        await connection.pong(b"")
        await connection.socket.refuse(Close.SILENT, "It is closed already.")
        assert not connection.open


async def test_the_fault_of_a_bad_hello_is_named_before_the_connection_is_closed(tmp_path: Path) -> None:
    async with world(tmp_path) as w, raw(w.node.port) as page:
        assert await page.answered() == 101
        page.send(frame('{"type":"hello","protocol":2}'))
        error = await page.message("error")
        assert error["code"] == "bad_protocol"
        assert await page.close_code() == Close.BAD_HELLO
