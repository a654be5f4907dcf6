"""The conversation of the native protocol: hello and welcome, events and acknowledgements; see docs/protocol.md."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable, Sequence

from aiohttp import WSMsgType, web

from appliance.archive import Rejection
from appliance.config import Settings
from appliance.counters import Counters
from appliance.lessons.class_control import ClassControl, Control
from appliance.pipeline import GapError, Pipeline, TooManyStreamsError
from appliance.roster import Roster, Student
from appliance.states import Stream
from appliance.tasks import Supervised, Tasks
from appliance.web.students import protocol
from appliance.web.students.connection import Connection
from appliance.web.students.protocol import Close, Events, Fault, FrameLimits, Hello, Protocol
from appliance.web.students.registry import Registry
from appliance.web.students.unauthenticated import Guest, RefusedError

_TOO_MANY_FAULTS = "Too many frames in a row could not be used."


class _Talk:
    """The conversation on one connection.

    Attributes:
        acked: all events up to this number were acknowledged on it.
    """

    __slots__ = ("acked", "connection")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.acked = connection.stream.durable_to


class Conversations:
    """All conversations in the native protocol on this node.

    Acknowledgements are gathered and sent by one task, which costs less than a task for each connection.
    """

    def __init__(
        self,
        registry: Registry,
        pipeline: Pipeline,
        roster: Roster,
        states: ClassControl,
        settings: Settings,
        counters: Counters,
        tasks: Tasks,
    ) -> None:
        """Args:
        registry: has the connections.
        pipeline: takes the events.
        roster: knows whose a token is.
        states: whether a class is paused.
        settings: limits, and how acknowledgements are gathered.
        counters: where refusals are counted.
        tasks: runs the sender of acknowledgements.
        """
        limits = settings.limits
        self._registry = registry
        self._pipeline = pipeline
        self._roster = roster
        self._states = states
        self._limits = limits
        self._frame_limits = FrameLimits(limits.frame_bytes, limits.events_per_frame, limits.unacked)
        self._counters = counters
        self._tasks = tasks
        self._ack_seconds = settings.pipeline.ack_ms / 1000
        self._ack_events = settings.pipeline.ack_events
        self._talks: dict[Stream, _Talk] = {}
        self._due: dict[_Talk, None] = {}
        self._ack_now = asyncio.Event()
        self._ack_timer: asyncio.TimerHandle | None = None
        self._acknowledging: Supervised | None = None

    def start(self) -> None:
        """Begin to acknowledge."""
        self._pipeline.on_durable.add(self._durable)
        self._pipeline.on_rejected.add(self._rejected)
        self._registry.on_control.add(self._control)
        self._acknowledging = self._tasks.run("students' acknowledgements", self._acknowledge, owner="students")

    async def close(self) -> None:
        """Acknowledge what is durable, and nothing after it."""
        if self._acknowledging:
            await self._tasks.end(self._acknowledging)
        if self._ack_timer is not None:
            self._ack_timer.cancel()
        for talk in list(self._talks.values()):
            # Who does not read would hold up the end, and learns at the next hello.
            if self._keeps_up(talk):
                await self._send_ack(talk)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """``GET /ws/events``."""
        return await self._registry.serve(request, self._talk)

    async def _talk(self, guest: Guest) -> None:
        limits = self._limits
        reader = Protocol(
            self._frame_limits,
            self._counters,
            bad_frames=limits.bad_frames,
            slow_values=limits.slow_frame_values,
        )
        hello = await self._hello(guest, reader)
        async with guest.opening():
            student = await self._student(hello.token)
        with self._registry.place(guest, student.student_id, hello.stream):
            async with guest.opening():
                stream = await self._stream(student, hello)
            with self._registry.enter(guest, student, stream) as connection:
                await self._welcome(connection, hello)
                await self._converse(connection, reader)

    async def _hello(self, guest: Guest, reader: Protocol) -> Hello:
        received = await guest.first()
        if received.type is not WSMsgType.TEXT:
            raise RefusedError(Close.BAD_HELLO, "The first frame must be a hello, as JSON text.")
        began = guest.account.begin(len(received.data))
        hello = reader.read(received.data)
        guest.account.end(0, began)
        if isinstance(hello, Hello):
            return hello
        fault = hello if isinstance(hello, Fault) else reader.fault("out_of_order", "A hello must come first.")
        await guest.socket.send_frame(protocol.error(fault).encode(), WSMsgType.TEXT)
        raise RefusedError(Close.BAD_HELLO, fault.message)

    async def _student(self, token: str) -> Student:
        student = await self._roster.student_by_token(token)
        if student is None:
            # A store that lost its memory may have lost the token.
            await self._pipeline.check_whole()
            self._counters.add("tokens_refused")
            raise RefusedError(Close.BAD_TOKEN, "This token is not valid; join the class again.")
        return student

    async def _stream(self, student: Student, hello: Hello) -> Stream:
        try:
            await self._states.follow(student.class_id)
            return await self._pipeline.stream(student.student_id, student.class_id, hello.stream, hello.source)
        except TooManyStreamsError as error:
            raise RefusedError(Close.TOO_MANY_CONNECTIONS, str(error)) from None

    async def _welcome(self, connection: Connection, hello: Hello) -> None:
        student, stream = connection.student, connection.stream
        now = _now()
        stream.clock.synchronize(now, hello.now)
        self._talks[stream] = _Talk(connection)
        welcome = protocol.welcome(
            student.student_id,
            student.name,
            stream.durable_to,
            self._states.state(student.class_id),
            now,
            self._frame_limits,
            self._pipeline.paused_to(stream),
        )
        await connection.send(welcome.encode())

    async def _converse(self, connection: Connection, reader: Protocol) -> None:
        talk = self._talks[connection.stream]
        try:
            while True:
                received = await connection.receive()
                if received.type is WSMsgType.TEXT:
                    if not connection.open:
                        return
                    answer = self._take(talk, reader, received.data)
                    if answer is not None:
                        await answer
                elif received.type is WSMsgType.PING:
                    await connection.pong(received.data)
                elif received.type is WSMsgType.BINARY:
                    fault = reader.fault("binary", "Frames must be JSON text; binary ones are not understood.")
                    await self._answer_fault(connection, fault)
                elif received.type is not WSMsgType.PONG:
                    return
        finally:
            self._due.pop(talk, None)
            if self._talks.get(connection.stream) is talk:
                del self._talks[connection.stream]

    def _take(self, talk: _Talk, reader: Protocol, data: bytes) -> Awaitable[None] | None:
        """Take what one text frame brings; returns what is to be awaited then, mostly nothing."""
        connection = talk.connection
        size = len(data)
        began = connection.account.begin(size)
        message = reader.read(data)
        if type(message) is not Events:
            connection.worked(size, began)
            assert isinstance(message, Fault)
            return self._answer_fault(connection, message)
        try:
            fresh = self._pipeline.accept(connection.stream, message.first, message.texts, _now())
        except GapError as gap:
            connection.worked(size, began)
            return connection.send(protocol.gap(gap.expected).encode())
        connection.worked(size, began)
        if not fresh:
            self._acknowledge_again(talk, message.first)
        elif not connection.took(size):
            return connection.room()
        return None

    async def _answer_fault(self, connection: Connection, fault: Fault) -> None:
        await connection.send(protocol.error(fault).encode())
        if fault.close is not None:
            raise RefusedError(fault.close, _TOO_MANY_FAULTS)

    def _durable(self, streams: Iterable[Stream]) -> None:
        """After a commit: note who is owed an acknowledgement."""
        talks = self._talks
        for stream in streams:
            talk = talks.get(stream)
            if talk is not None:
                if stream.durable_to - talk.acked >= self._ack_events:
                    self._ack_now.set()
                self._acknowledge_soon(talk)

    def _rejected(self, stream: Stream, rejected: Sequence[tuple[int, Rejection]]) -> None:
        """Say to a student's page which of its events cannot be used."""
        talk = self._talks.get(stream)
        if talk is not None:
            frames = [protocol.reject(seq, rejection).encode() for seq, rejection in rejected]
            self._registry.post((talk.connection,), *frames)

    def _control(self, class_id: str, control: Control) -> None:
        """Say to a class's pages what the educator did or wrote; a frame for all of them is made once."""
        frames = []
        if control.state is not None:
            frames.append(protocol.state(control.state).encode())
        if control.message is not None:
            frames.append(protocol.message(control.message).encode())
        if frames:
            talks = [talk.connection for talk in self._talks.values() if talk.connection.student.class_id == class_id]
            self._registry.post(talks, *frames)

    def _acknowledge_again(self, talk: _Talk, first: int) -> None:
        """All of a frame was here before: there may be no commit to come that would acknowledge it."""
        talk.acked = min(talk.acked, first - 1)
        self._acknowledge_soon(talk)

    def _acknowledge_soon(self, talk: _Talk) -> None:
        self._due[talk] = None
        if self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(self._ack_seconds, self._ack_now.set)

    async def _acknowledge(self, task: Supervised) -> None:
        """Acknowledge what is durable: soon, and at once where much is. Merged for a student who reads slowly."""
        while True:
            await self._ack_now.wait()
            self._ack_now.clear()
            if self._ack_timer is not None:
                self._ack_timer.cancel()
                self._ack_timer = None
            due, self._due = self._due, {}
            try:
                while due:
                    talk, _ = due.popitem()
                    if self._keeps_up(talk):
                        await self._send_ack(talk)
                    elif talk.connection.open:
                        self._counters.add("slow_students")
                        self._acknowledge_soon(talk)
            finally:
                # Where one cannot be acknowledged the others are all the same, once this goes on.
                for talk in due:
                    self._acknowledge_soon(talk)

    def _keeps_up(self, talk: _Talk) -> bool:
        """Whether an acknowledgement can be sent to it without waiting, which would hold up all others'."""
        return talk.connection.keeps_up(self._limits.send_buffer_bytes // 16)

    async def _send_ack(self, talk: _Talk) -> None:
        durable = talk.connection.stream.durable_to
        if durable > talk.acked and talk.connection.open:
            talk.acked = durable
            await talk.connection.send(protocol.ack(durable).encode())


def _now() -> int:
    return time.time_ns() // 1_000_000
