"""Back-pressure: a student who sends too much, or does not read, delays nobody else."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from pathlib import Path

import pytest
from msgspec import structs

from appliance.web.students import protocol
from appliance.web.students.connection import StudentConnection
from appliance.web.students.protocol import Close
from tests.web.students.connections import Hold, only
from tests.web.students.raw import frame, hello, raw
from tests.web.world import until, world

A = {"event": "edit", "document": "d", "offset": 0, "insert": "a"}


@pytest.mark.slow
async def test_pings_are_paid_for_too(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student() as student:
        account = only(w.node.web.registry).account
        account.bytes = 0.0
        account.rates = structs.replace(account.rates, bytes_per_second=1)
        await student.socket.ping(b"x" * 100)
        await until(lambda: w.node.counters["limit_student_bytes_per_second"] == 1)
        account.bytes = 1000.0


async def test_the_end_of_the_program_does_not_wait_for_an_overdrawn_account(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student() as student:
        connection = only(w.node.web.registry)
        connection.account.bytes = -1e9
        connection.account.overdrawn = True
        await student.send(A)
        await until(lambda: connection.throttled)
        ending = asyncio.create_task(w.node.web.close())
        assert await student.close_code() == Close.GOING_AWAY
        await ending
        await until(lambda: not connection.throttled)


async def test_a_students_bytes_wait_for_room_over_all_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, limits={"student_buffer_bytes": 8192}) as w:
        hold = Hold(monkeypatch, w)
        joined = await w.join("Ada")
        async with w.connect() as one, w.connect() as two, w.student("Ben") as ben:
            for student in (one, two):
                await student.hello(joined["token"])
                await student.send({**A, "note": "x" * 5000})
            await until(lambda: w.node.counters["limit_student_buffer_bytes"] > 0)
            account = w.node.web.registry.budgets.of(joined["student_id"])
            for _ in range(3):
                await one.send({**A, "note": "x" * 5000})
                await two.send({**A, "note": "x" * 5000})
            await ben.send(A)
            streams = w.node.pipeline.students()
            await until(lambda: any(stream.last for one in streams.values() for stream in one.streams.values()))
            # One frame of each connection may have been read already.
            assert 8192 <= account.waiting < 8192 + 2 * 6000
            hold.go.set()
            await ben.acked(1)
            await one.acked(4)
            await two.acked(4)
            await until(lambda: account.waiting == 0)


@pytest.mark.slow
async def test_a_student_who_sends_too_much_delays_nobody_else(tmp_path: Path) -> None:
    limits = {"student_bytes_per_second": 200_000, "student_burst_bytes": 100_000}
    async with world(tmp_path, limits=limits) as w, w.student("Ada") as loud, w.student("Ben") as ben:

        async def shout() -> None:
            for _ in range(30):
                await loud.send({**A, "note": "x" * 20_000})

        began = time.monotonic()
        shouting = asyncio.create_task(shout())
        await until(lambda: w.node.counters["limit_student_bytes_per_second"] > 0)
        waits = []
        for number in range(1, 11):
            sent = time.monotonic()
            await ben.send(A)
            await ben.acked(number)
            waits.append(time.monotonic() - sent)
        await shouting
        await loud.acked(30)
        # 600,000 bytes, with a burst of 100,000.
        assert time.monotonic() - began > 2
        # The machine may be busy; waiting for the other student would take seconds.
        assert sorted(waits)[5] < 1
        assert w.node.counters["limit_silent_seconds"] == 0


@pytest.mark.slow
async def test_work_is_paid_for_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w, w.student() as student:
        account = only(w.node.web.registry).account
        account.work_clock = iter(number * 0.3 for number in range(1000)).__next__
        for _ in range(4):
            await student.send({**A, "note": "x" * 2000})
        await until(lambda: w.node.counters["limit_student_work"] == 1)
        assert account.seconds < 0
        await student.acked(2)


async def test_a_client_that_does_not_read_delays_nobody_elses_acknowledgements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, pipeline={"ack_ms": 0}) as w:
        joined = await w.join("Ada")
        async with raw(w.node.port) as deaf, w.student("Ben") as ben:
            assert await deaf.answered() == 101
            deaf.send(frame(hello(joined["token"])))
            await deaf.message("welcome")
            registry = w.node.web.registry
            [connection] = registry.of_student(joined["student_id"])
            transport = connection.request.transport
            assert transport is not None
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            deaf.pause_reading()
            words = protocol.message("x" * 20_000).encode()
            while not connection.request.protocol.writing_paused:
                registry.post((connection,), words)
                await asyncio.sleep(0)
            # Less than the limit of a slow reader, but more than aiohttp allows before it pauses writing.
            monkeypatch.setattr(StudentConnection, "waiting_bytes", lambda self: 1)
            deaf.send(frame(json.dumps({"type": "events", "first": 1, "events": [A] * 200})))
            await until(lambda: w.node.counters["slow_students"] > 0)
            await ben.send(A)
            await ben.acked(1)
            monkeypatch.undo()


async def test_a_client_that_does_not_read_messages_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w, w.student() as student:
        registry = w.node.web.registry
        monkeypatch.setattr(StudentConnection, "waiting_bytes", lambda self: 2_000_000)
        registry.post((only(registry),), b"{}")
        assert await student.close_code() == Close.SILENT
        assert w.node.counters["limit_send_buffer_bytes"] == 1
