"""The registry of students' sockets: the truth about the link, budgets, ends, and protocols that it does not know."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from msgspec import structs

from appliance.errors import BackendError
from appliance.lessons.class_control import Control
from appliance.pipeline.batch import Batch, BatchBuilder
from appliance.states import QueuedFrame, Stream, StreamState
from appliance.web.students import protocol
from appliance.web.students.connection import Connection
from appliance.web.students.protocol import Close
from appliance.web.students.registry import Registry
from appliance.web.students.unauthenticated import Guest, RefusedError
from tests.web.students.raw import frame, hello, raw
from tests.web.world import PATIENCE, World, until, world

A = {"event": "edit", "document": "d", "offset": 0, "insert": "a"}


class Hold:
    """Commits wait before the archive is synced, until the test lets them go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, w: World) -> None:
        self.go = asyncio.Event()
        sync = w.node.archive.sync

        async def held() -> None:
            await self.go.wait()
            await sync()

        monkeypatch.setattr(w.node.archive, "sync", held)


class Clock:
    """A clock of the test's own, for what the registry does after a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, registry: Registry) -> None:
        self.now = time.monotonic()
        self._registry = registry
        monkeypatch.setattr(registry, "_clock", lambda: self.now)

    async def after(self, seconds: float) -> None:
        """Let seconds pass, then look."""
        self.now += seconds
        await self._registry.look(0)


def only(registry: Registry) -> Connection:
    [connection] = registry._streams.values()
    return connection


async def test_the_server_says_that_it_is_there_when_it_has_nothing_else_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w, w.student() as student:
        registry = w.node.web._sockets
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


async def test_the_look_comes_by_itself_in_time(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"alive_seconds": 1}) as w, w.student() as student:
        for _ in range(2):
            began = time.monotonic()
            assert (await student.receive())["type"] == "alive"
            assert time.monotonic() - began < 5
        assert [one.state for one in w.node.tasks.states() if one.owner == "students"] == ["running", "running"]


async def test_who_is_lost_is_asked_and_then_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w:
        registry = w.node.web._sockets
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


async def test_who_answers_pings_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w, w.student() as student:
        registry = w.node.web._sockets
        clock = Clock(monkeypatch, registry)
        connection = only(registry)
        # A browser answers pings by itself, as this client does while it reads.
        reading = asyncio.create_task(student.receive_type("message"))
        for _ in range(10):
            await clock.after(0)
            await clock.after(6)
            await until(lambda: connection._ear.heard)
        await w.post("/api/v1/class/message", {"text": "Still there?"})
        await reading


async def test_part_of_a_large_message_is_a_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w, raw(w.node.port) as slow:
        assert await slow.answered() == 101
        slow.send(frame(hello((await w.join())["token"])))
        await slow.message("welcome")
        registry = w.node.web._sockets
        clock = Clock(monkeypatch, registry)
        connection = only(registry)
        message = frame(json.dumps({"type": "events", "first": 1, "events": [A]}) + " " * 1000)
        for start in range(0, len(message), 100):
            await clock.after(0)
            await clock.after(15)
            slow.send(message[start : start + 100])
            await until(lambda: connection._ear.heard)
        await slow.message("ack")


async def test_pings_are_paid_for_too(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student() as student:
        account = only(w.node.web._sockets).account
        account.bytes = 0.0
        account._rates = structs.replace(account._rates, bytes_per_second=1)
        await student.socket.ping(b"x" * 100)
        await until(lambda: w.node.counters["limit_student_bytes_per_second"] == 1)
        account.bytes = 1000.0


async def test_an_end_of_the_program_does_not_wait_for_a_loud_students_credit(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student() as student:
        connection = only(w.node.web._sockets)
        connection.account.bytes = -1e9
        connection.account.owing = True
        await student.send(A)
        await until(lambda: connection.held)
        ending = asyncio.create_task(w.node.web.close())
        assert await student.close_code() == Close.GOING_AWAY
        await ending
        await until(lambda: not connection.held)


async def test_who_goes_while_the_page_is_opened_was_never_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        token = (await w.join())["token"]
        registry = w.node.web._sockets
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
            await until(lambda: registry._taken == 1)
        go.set()
        await until(lambda: registry._taken == 0)
        assert presence == []


async def test_a_connection_that_is_not_read_is_not_called_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, limits={"unacked": 2}) as w, w.student() as student:
        hold = Hold(monkeypatch, w)
        registry = w.node.web._sockets
        clock = Clock(monkeypatch, registry)
        for _ in range(4):
            await student.send(A)
        await until(lambda: registry.held)
        for _ in range(5):
            await clock.after(19)
        assert only(registry).open
        hold.go.set()
        await student.acked(4)
        assert w.node.counters["limit_unacked"] > 0


async def test_a_students_bytes_wait_for_room_over_all_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, limits={"student_buffer_bytes": 8192}) as w:
        hold = Hold(monkeypatch, w)
        joined = await w.join("Ada")
        async with w.connect() as one, w.connect() as two, w.student("Ben") as ben:
            for student in (one, two):
                await student.hello(joined["token"])
                await student.send({**A, "note": "x" * 5000})
            await until(lambda: w.node.counters["limit_student_buffer_bytes"] > 0)
            account = w.node.web._sockets.budgets.of(joined["student_id"])
            for _ in range(3):
                await one.send({**A, "note": "x" * 5000})
                await two.send({**A, "note": "x" * 5000})
            await ben.send(A)
            streams = w.node.pipeline.students()
            await until(lambda: any(stream.last for one in streams.values() for stream in one.streams.values()))
            # What was in a read already may come beside it: at most one frame of each connection.
            assert 8192 <= account.waiting < 8192 + 2 * 6000
            hold.go.set()
            await ben.acked(1)
            await one.acked(4)
            await two.acked(4)
            await until(lambda: account.waiting == 0)


async def test_a_loud_student_waits_for_itself(tmp_path: Path) -> None:
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
        # 600,000 bytes, of which 100,000 are saved up.
        assert time.monotonic() - began > 2
        # The machine may be busy with other things; a student who waited for the loud one would wait for seconds.
        assert sorted(waits)[5] < 1
        assert w.node.counters["limit_silent_seconds"] == 0


async def test_work_is_paid_for_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w, w.student() as student:
        account = only(w.node.web._sockets).account
        account._work_clock = iter(number * 0.3 for number in range(1000)).__next__
        for _ in range(4):
            await student.send({**A, "note": "x" * 2000})
        await until(lambda: w.node.counters["limit_student_work"] == 1)
        assert account.seconds < 0
        await student.acked(2)


async def test_a_frame_of_exactly_the_limit_is_taken_and_a_larger_one_is_not(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"frame_bytes": 20_000}) as w, w.student("Ada") as ada, w.student("Ben") as ben:
        text = json.dumps({"type": "events", "first": 1, "events": [A]})
        await ada.socket.send_str(text + " " * (20_000 - len(text)))
        await ada.acked(1)
        await ben.socket.send_str(text + " " * (20_001 - len(text)))
        assert await ben.close_code() == Close.FRAME_TOO_LARGE


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


@pytest.mark.parametrize(("error", "code"), [(BackendError("The store is away."), 1013), (ValueError("x"), 1011)])
async def test_no_http_answer_is_written_into_an_open_websocket(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    code: int,
) -> None:
    async with world(tmp_path) as w:

        async def fail(dashboard: object) -> None:
            raise error

        monkeypatch.setattr(w.node.web.feed, "_listen", fail)
        async with w.dashboard() as dashboard:
            received = await dashboard.receive(PATIENCE)
            assert (received.type, received.data) == (WSMsgType.CLOSE, code)
        assert "Traceback" not in caplog.text
        assert ("ValueError in fail()" in caplog.text) is (code == 1011)


async def test_a_message_to_many_pages_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_one_who_does_not_read_holds_up_nobodys_acknowledgements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, pipeline={"ack_ms": 0}) as w:
        joined = await w.join("Ada")
        async with w.connect() as deaf, w.student("Ben") as ben:
            await deaf.hello(joined["token"])
            registry = w.node.web._sockets
            [connection] = registry.of_student(joined["student_id"])
            transport = connection.request.transport
            assert transport is not None
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            assert deaf.socket._response.connection is not None
            deaf.socket._response.connection.transport.pause_reading()
            words = protocol.message("x" * 20_000).encode()
            while not connection.request.protocol.writing_paused:
                registry.post((connection,), words)
                await asyncio.sleep(0)
            # So little that it counted as read fast enough, while aiohttp waits for less before it sends on.
            monkeypatch.setattr(Connection, "waiting_bytes", lambda self: 1)
            await deaf.send(*[A] * 200)
            await until(lambda: w.node.counters["slow_students"] > 0)
            await ben.send(A)
            await ben.acked(1)
            monkeypatch.undo()


async def test_one_who_does_not_read_messages_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w, w.student() as student:
        registry = w.node.web._sockets
        monkeypatch.setattr(Connection, "waiting_bytes", lambda self: 2_000_000)
        registry.post((only(registry),), b"{}")
        assert await student.close_code() == Close.SILENT
        assert w.node.counters["limit_send_buffer_bytes"] == 1


async def test_the_sender_of_acknowledgements_goes_on_after_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        w.node.web._sockets._control("class-1", Control(removed="somebody"))
        w.node.web._sockets._control("class-2", Control(state="paused"))
        await student.send(A)
        await student.acked(1)


def cannot_build(monkeypatch: pytest.MonkeyPatch, note: str) -> None:
    """No batch with an event of this note can be built."""
    build = BatchBuilder._build

    def fail(self: BatchBuilder, stream: Stream, frames: list[QueuedFrame]) -> Batch:
        if any(note.encode() in text for frame in frames for text in frame.texts):
            raise ValueError("what a student wrote")
        return build(self, stream, frames)

    monkeypatch.setattr(BatchBuilder, "_build", fail)


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
            assert w.node.web._sockets.budgets.of(joined["student_id"]).waiting == 0
            async with w.connect() as again:
                welcome = await again.hello(joined["token"], stream=ada.stream)
                assert (welcome["ack"], welcome["paused_to"]) == (2, 2)
                await again.send(A, first=3)
                await again.acked(3)
            await ben.send(A)
            await ben.acked(1)


async def test_another_protocol_hears_that_its_events_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        joined = await w.join("Ada")
        cannot_build(monkeypatch, "bad")
        async with tiny(w, joined["token"]) as ada:
            await ada.send_str(json.dumps({**A, "note": "bad"}))
            received = await ada.receive(PATIENCE)
            assert (received.type, received.data) == (WSMsgType.CLOSE, Close.UNUSABLE)


async def test_what_a_closed_stream_is_sent_closes_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w, w.student() as student:
        stream = only(w.node.web._sockets).stream
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
            connection = only(w.node.web._sockets)
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


class Tiny:
    """Another protocol: the token, then one JSON event a frame; each is answered once it is durable."""

    def __init__(self, w: World) -> None:
        self._node = w.node
        self._registry = w.node.web._sockets

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return await self._registry.serve(request, self._talk)

    async def _talk(self, guest: Guest) -> None:
        token = await guest.first()
        async with guest.opening():
            student = await self._node.roster.student_by_token(token.data.decode())
        if student is None:
            raise RefusedError(Close.BAD_TOKEN, "Who are you?")
        with self._registry.place(guest, student.student_id, "tiny"):
            async with guest.opening():
                stream = await self._node.pipeline.stream(student.student_id, student.class_id, "tiny", "tiny.example")
            with self._registry.enter(guest, student, stream) as connection:
                while (received := await connection.receive()).type is WSMsgType.TEXT:
                    size = len(received.data)
                    began = connection.account.begin(size)
                    self._node.pipeline.accept(stream, stream.last + 1, [received.data], time.time_ns() // 1_000_000)
                    connection.worked(size, began)
                    room = connection.took(size)
                    number = stream.last
                    await stream.durable(number)
                    await connection.send(b"%d" % number)
                    if not room:
                        await connection.room()


@asynccontextmanager
async def tiny(w: World, token: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A client of the tiny protocol, on a server of its own in the same process."""
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


async def test_another_protocol_joins_without_copying(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student("Ben") as ben:
        joined = await w.join("Ada")
        async with tiny(w, joined["token"]) as ada:
            for number in (1, 2, 3):
                await ada.send_str(json.dumps(A))
                assert await ada.receive_str(timeout=PATIENCE) == str(number)
            assert w.node.web._sockets.online(joined["student_id"])
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
