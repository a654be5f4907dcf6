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
from appliance.web.students.connection import StudentConnection
from appliance.web.students.handshake import Handshake, RefusedError
from appliance.web.students.protocol import Close, Events, Fault, FrameLimits, Hello, Protocol
from appliance.web.students.registry import Registry

_TOO_MANY_FAULTS = "Too many frames in a row could not be used."


class _Conversation:
    """The conversation on one connection.

    Attributes:
        acked: number of the last event that was acknowledged on it.
    """

    __slots__ = ("acked", "connection")

    def __init__(self, connection: StudentConnection) -> None:
        self.connection = connection
        self.acked = connection.stream.durable_to


class Conversations:
    """All conversations in the native protocol on this node.

    One task collects and sends all acknowledgements, which costs less than a task for each connection.
    """

    def __init__(
        self,
        registry: Registry,
        pipeline: Pipeline,
        roster: Roster,
        class_control: ClassControl,
        settings: Settings,
        counters: Counters,
        tasks: Tasks,
    ) -> None:
        """Args:
        registry: the students' connections.
        pipeline: accepts the events.
        roster: the students and their tokens.
        class_control: whether a class is paused.
        settings: limits, and how acknowledgements are collected.
        counters: counts refusals.
        tasks: runs the sender of acknowledgements.
        """
        limits = settings.limits
        self._registry = registry
        self._pipeline = pipeline
        self._roster = roster
        self._class_control = class_control
        self._limits = limits
        self._frame_limits = FrameLimits(limits.frame_bytes, limits.events_per_frame, limits.unacked)
        self._counters = counters
        self._tasks = tasks
        self._ack_seconds = settings.pipeline.ack_ms / 1000
        self._ack_events = settings.pipeline.ack_events
        self._conversations: dict[Stream, _Conversation] = {}
        self._due: dict[_Conversation, None] = {}
        self._ack_now = asyncio.Event()
        self._ack_timer: asyncio.TimerHandle | None = None
        self._acknowledging: Supervised | None = None

    def start(self) -> None:
        """Begin to send acknowledgements."""
        self._pipeline.on_durable.add(self._durable)
        self._pipeline.on_rejected.add(self._rejected)
        self._registry.on_control.add(self._control)
        self._acknowledging = self._tasks.run("students' acknowledgements", self._acknowledge, owner="students")

    async def close(self) -> None:
        """Acknowledge what is durable, and stop."""
        if self._acknowledging:
            await self._tasks.end(self._acknowledging)
        if self._ack_timer is not None:
            self._ack_timer.cancel()
        for conversation in list(self._conversations.values()):
            # A client that does not read would delay the end; it gets the number with its next welcome.
            if self._keeps_up(conversation):
                await self._send_ack(conversation)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """``GET /ws/events``."""
        return await self._registry.serve(request, self._converse)

    async def _converse(self, handshake: Handshake) -> None:
        limits = self._limits
        reader = Protocol(
            self._frame_limits,
            self._counters,
            bad_frames=limits.bad_frames,
            slow_values=limits.slow_frame_values,
        )
        hello = await self._hello(handshake, reader)
        async with handshake.time_limit():
            student = await self._student(hello.token)
        with self._registry.reserve(handshake, student.student_id, hello.stream):
            async with handshake.time_limit():
                stream = await self._stream(student, hello)
            with self._registry.register(handshake, student, stream) as connection:
                async with handshake.time_limit():
                    # An educator may have removed the student since, when the registry did not have the connection.
                    await self._check_present(student.student_id)
                await self._welcome(connection, hello)
                await self._read(connection, reader)

    async def _hello(self, handshake: Handshake, reader: Protocol) -> Hello:
        received = await handshake.first_message()
        if received.type is not WSMsgType.TEXT:
            raise RefusedError(Close.BAD_HELLO, "The first frame must be a hello, as JSON text.")
        began = handshake.account.begin(len(received.data))
        hello = reader.read(received.data)
        handshake.account.end(0, began)
        if isinstance(hello, Hello):
            return hello
        fault = hello if isinstance(hello, Fault) else reader.fault("out_of_order", "A hello must come first.")
        await handshake.socket.send_frame(protocol.error(fault).encode(), WSMsgType.TEXT)
        raise RefusedError(Close.BAD_HELLO, fault.message)

    async def _student(self, token: str) -> Student:
        student = await self._roster.student_by_token(token)
        if student is None:
            # A store that lost its data may have lost the token.
            student = await self._pipeline.read_whole(lambda: self._roster.student_by_token(token))
        if student is None:
            self._counters.add("tokens_refused")
            raise RefusedError(Close.BAD_TOKEN, "This token is not valid; join the class again.")
        if not student.present:
            raise RefusedError(Close.REMOVED, "Your teacher has removed you from the class.")
        return student

    async def _check_present(self, student_id: str) -> None:
        student = await self._roster.student(student_id)
        if student is None:
            # A store that lost its data may have lost the student.
            student = await self._pipeline.read_whole(lambda: self._roster.student(student_id))
        if student is None:
            raise RefusedError(Close.REMOVED, "Your teacher removed you.")

    async def _stream(self, student: Student, hello: Hello) -> Stream:
        try:
            await self._class_control.follow(student.class_id)
            return await self._pipeline.stream(student.student_id, student.class_id, hello.stream, hello.source)
        except TooManyStreamsError as error:
            raise RefusedError(Close.TOO_MANY_CONNECTIONS, str(error)) from None

    async def _welcome(self, connection: StudentConnection, hello: Hello) -> None:
        student, stream = connection.student, connection.stream
        now = _now()
        stream.clock.synchronize(now, hello.now)
        self._conversations[stream] = _Conversation(connection)
        welcome = protocol.welcome(
            student.student_id,
            student.name,
            stream.durable_to,
            self._class_control.state(student.class_id),
            now,
            self._frame_limits,
            self._pipeline.paused_to(stream),
        )
        await connection.send(welcome.encode())

    async def _read(self, connection: StudentConnection, reader: Protocol) -> None:
        """Read frames until the connection ends."""
        conversation = self._conversations[connection.stream]
        try:
            while True:
                received = await connection.receive()
                if received.type is WSMsgType.TEXT:
                    if not connection.open:
                        return
                    answer = self._read_text(conversation, reader, received.data)
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
            self._due.pop(conversation, None)
            if self._conversations.get(connection.stream) is conversation:
                del self._conversations[connection.stream]

    def _read_text(self, conversation: _Conversation, reader: Protocol, data: bytes) -> Awaitable[None] | None:
        """Process one text frame; returns what must be awaited then, usually nothing."""
        connection = conversation.connection
        size = len(data)
        began = connection.account.begin(size)
        message = reader.read(data)
        if type(message) is not Events:
            connection.pay(size, began)
            assert isinstance(message, Fault)
            return self._answer_fault(connection, message)
        try:
            fresh = self._pipeline.accept(connection.stream, message.first, message.texts, _now())
        except GapError as gap:
            connection.pay(size, began)
            return connection.send(protocol.gap(gap.expected).encode())
        connection.pay(size, began)
        if not fresh:
            self._acknowledge_again(conversation, message.first)
        elif not connection.accepted(size):
            return connection.wait_for_room()
        return None

    async def _answer_fault(self, connection: StudentConnection, fault: Fault) -> None:
        await connection.send(protocol.error(fault).encode())
        if fault.close is not None:
            raise RefusedError(fault.close, _TOO_MANY_FAULTS)

    def _durable(self, streams: Iterable[Stream]) -> None:
        """After a commit: note which conversations need an acknowledgement."""
        conversations = self._conversations
        for stream in streams:
            conversation = conversations.get(stream)
            if conversation is not None:
                if stream.durable_to - conversation.acked >= self._ack_events:
                    self._ack_now.set()
                self._acknowledge_soon(conversation)

    def _rejected(self, stream: Stream, rejected: Sequence[tuple[int, Rejection]]) -> None:
        """Send a student's page the events that cannot be used."""
        conversation = self._conversations.get(stream)
        if conversation is not None:
            frames = [protocol.reject(seq, rejection).encode() for seq, rejection in rejected]
            self._registry.post((conversation.connection,), *frames)

    def _control(self, class_id: str, control: Control) -> None:
        """Send a class's pages what the educator did or wrote; each frame is encoded once for all of them."""
        frames = []
        if control.state is not None:
            frames.append(protocol.state(control.state).encode())
        if control.message is not None:
            frames.append(protocol.message(control.message).encode())
        if frames:
            connections = [one.connection for one in self._conversations.values()]
            self._registry.post((one for one in connections if one.student.class_id == class_id), *frames)

    def _acknowledge_again(self, conversation: _Conversation, first: int) -> None:
        """All events of a frame were received before: perhaps no commit follows that would acknowledge them."""
        conversation.acked = min(conversation.acked, first - 1)
        self._acknowledge_soon(conversation)

    def _acknowledge_soon(self, conversation: _Conversation) -> None:
        self._due[conversation] = None
        if self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(self._ack_seconds, self._ack_now.set)

    async def _acknowledge(self, task: Supervised) -> None:
        """Acknowledge what is durable: soon, or at once if it is much. Merged for a client that reads slowly."""
        while True:
            await self._ack_now.wait()
            self._ack_now.clear()
            if self._ack_timer is not None:
                self._ack_timer.cancel()
                self._ack_timer = None
            due, self._due = self._due, {}
            try:
                while due:
                    conversation, _ = due.popitem()
                    if self._keeps_up(conversation):
                        await self._send_ack(conversation)
                    elif conversation.connection.open:
                        self._counters.add("slow_students")
                        self._acknowledge_soon(conversation)
            finally:
                # After an error with one of them, the restarted task acknowledges the others.
                for conversation in due:
                    self._acknowledge_soon(conversation)

    def _keeps_up(self, conversation: _Conversation) -> bool:
        """Whether an acknowledgement can be sent to it without waiting, which would delay all others."""
        return conversation.connection.keeps_up(self._limits.send_buffer_bytes // 16)

    async def _send_ack(self, conversation: _Conversation) -> None:
        durable = conversation.connection.stream.durable_to
        if durable > conversation.acked and conversation.connection.open:
            conversation.acked = durable
            await conversation.connection.send(protocol.ack(durable).encode())


def _now() -> int:
    return time.time_ns() // 1_000_000
