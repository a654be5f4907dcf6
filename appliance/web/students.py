"""The students' side: joining a class, and the WebSockets on which events stream in."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence

import msgspec
from aiohttp import ClientError, WSMsgType, web

from appliance.archive import Rejection
from appliance.classes import ClassStates, Control, Opened
from appliance.config import Settings
from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.listeners import Listeners
from appliance.pipeline import GapError, Pipeline, TooManyStreamsError
from appliance.roster import Class, JoinError, Roster, Student, plain_code
from appliance.states import Stream
from appliance.tasks import cancelled, in_background
from appliance.web import protocol
from appliance.web.admission import Admission
from appliance.web.errors import ApiError, answer, body_of
from appliance.web.protocol import Close, Events, Fault, FrameLimits, Hello, Protocol
from appliance.web.security import Tries, bearer_token, is_here

log = logging.getLogger(__name__)

_JOIN_STATUS = {"class_closed": 409, "class_full": 409, "unknown_student": 404, "bad_name": 400, "unknown_class": 403}
_DISCARD_SECONDS = 0.5
_DISCARD_ROUNDS = 20
# How often, in the time after which a silent connection is closed, one looks whether it was silent.
_LOOKS = 4


class _JoinBody(msgspec.Struct):
    code: str
    name: str | None = None
    student_id: str | None = None
    token: str | None = None


class Joining:
    """Lets students into classes by code."""

    def __init__(
        self,
        pipeline: Pipeline,
        roster: Roster,
        states: ClassStates,
        settings: Settings,
        counters: Counters,
        admission: Admission,
    ) -> None:
        self._admission = admission
        self._pipeline = pipeline
        self._roster = roster
        self._states = states
        self._tries = Tries(settings.limits.join_tries, counters, "limit_join_tries")

    async def join(self, request: web.Request) -> web.Response:
        """``POST /api/v1/join``."""
        address = request.remote or ""
        self._tries.check(address)
        body = await body_of(request, _JoinBody)
        await self._pipeline.check_whole()
        if (body.name is None) == (body.student_id is None):
            raise ApiError(400, "bad_body", "Give either a name, or a student_id from the class list.")
        section = await self._by_code(body.code)
        # Many tries may have begun together; from here on each is counted before the next is answered.
        self._tries.check(address)
        if section is None:
            self._tries.wrong(address)
            raise ApiError(403, "wrong_code", "No class has this code. Look at the code again, or ask your teacher.")
        try:
            joined = await self._admission.join(
                section.class_id, address, name=body.name, student_id=body.student_id, token=body.token
            )
        except JoinError as error:
            raise ApiError(_JOIN_STATUS.get(error.code, 400), error.code, str(error)) from None
        student = joined.student
        await self._states.follow(student.class_id)
        await self._states.changed(student.class_id, student.student_id)
        return answer(
            {
                "token": joined.token,
                "student_id": student.student_id,
                "name": student.name,
                "class_id": student.class_id,
            }
        )

    async def me(self, request: web.Request) -> web.Response:
        """``GET /api/v1/me``: whose token this is."""
        student = await self._roster.student_by_token(bearer_token(request) or "")
        if student is None:
            await self._pipeline.check_whole()
            raise ApiError(401, "bad_token", "This browser has not joined a class, or was taken out of it.")
        title = next((c.title for c in await self._roster.classes() if c.class_id == student.class_id), "")
        return answer(
            {"student_id": student.student_id, "name": student.name, "class_id": student.class_id, "class_title": title}
        )

    async def _by_code(self, code: str) -> Class | None:
        wanted = plain_code(code)
        return next((c for c in await self._roster.classes() if wanted and plain_code(c.code) == wanted), None)


class _Socket(web.WebSocketResponse):
    """A WebSocket that tells an over-long frame by the protocol's own close code."""

    async def close(self, *, code: int = 1000, message: bytes = b"", drain: bool = True) -> bool:
        transport = self._req.transport if self._req else None
        if code == 1009 and self._writer and transport and not self.closed:
            await self._writer.close(Close.FRAME_TOO_LARGE, b"A frame was too large; see limits.frame_bytes.")
            await _Discard(transport).rest()
        return await super().close(code=code, message=message, drain=drain)


class _Discard(asyncio.Protocol):
    """Reads on and throws away what a client is still sending.

    Closing a TCP connection with unread bytes resets it, and the client would never see why it was closed.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._before = transport.get_protocol()
        self._bytes = 0
        self._lost = asyncio.Event()
        transport.set_protocol(self)
        transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        self._before.connection_lost(exc)

    async def rest(self) -> None:
        """Return when the client has gone or is quiet, or has been given time enough."""
        for _ in range(_DISCARD_ROUNDS):
            before = self._bytes
            try:
                async with asyncio.timeout(_DISCARD_SECONDS):
                    await self._lost.wait()
                return
            except TimeoutError:
                if self._bytes == before:
                    break
        self._transport.set_protocol(self._before)


class _Connection:
    """One student's open WebSocket."""

    __slots__ = ("acked", "echoed", "heard", "opening", "quiet", "request", "room", "socket", "stream", "student")

    def __init__(self, request: web.Request, socket: _Socket, student: Student, stream: Stream) -> None:
        self.request = request
        self.socket = socket
        self.student = student
        self.stream = stream
        self.acked = stream.durable_to
        self.heard = True
        """Whether anything came since the last look."""
        self.quiet = 0
        """At how many looks in a row nothing had come."""
        self.room = asyncio.Event()
        # Whether the message that this stream was opened here has come back to us: one that comes later is of a later
        # opening, since all nodes get the messages of a topic in one order.
        self.opening = secrets.token_hex(8)
        self.echoed = False

    def waiting_bytes(self) -> int:
        """What was sent and the network has not taken yet."""
        transport = self.request.transport
        return transport.get_write_buffer_size() if transport else 0

    async def send(self, frame: str) -> None:
        """Send a frame; to a connection that has just ended that does nothing."""
        try:
            await self.socket.send_str(frame)
        except (ConnectionError, ClientError):
            pass

    async def send_all(self, frames: Sequence[str]) -> None:
        """Send frames one after the other."""
        for frame in frames:
            await self.send(frame)

    def close(self, code: Close, reason: str) -> None:
        """Close without waiting for the other side."""
        in_background(_close(self.socket, code, reason))


class EventSockets:
    """All students' WebSockets of this node.

    Attributes:
        on_presence: called with a class's and a student's id when the student came on line or went.
        from_elsewhere: whether a student ever connected from another computer.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        roster: Roster,
        states: ClassStates,
        settings: Settings,
        counters: Counters,
    ) -> None:
        limits = settings.limits
        self.on_presence: Listeners[[str, str]] = Listeners("presence")
        self.from_elsewhere = False
        self._pipeline = pipeline
        self._roster = roster
        self._states = states
        self._limits = limits
        self._frame_limits = FrameLimits(limits.frame_bytes, limits.events_per_frame, limits.unacked)
        self._counters = counters
        self._ack_seconds = settings.pipeline.ack_ms / 1000
        self._ack_events = settings.pipeline.ack_events
        self._open = 0
        self._streams: dict[Stream, _Connection] = {}
        self._students: dict[str, set[_Connection]] = {}
        self._due: dict[_Connection, None] = {}
        self._ack_now = asyncio.Event()
        self._ack_timer: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False

    def start(self) -> None:
        """Begin to acknowledge and to look for silent connections."""
        self._pipeline.on_durable.add(self._durable)
        self._pipeline.on_rejected.add(self._rejected)
        self._states.on_control.add(self._control)
        self._states.on_missed.add(self._missed)
        self._tasks = [asyncio.create_task(self._acknowledge()), asyncio.create_task(self._watch())]

    async def close(self) -> None:
        """Take nothing more and send every student away; the acknowledgements of what is durable go first."""
        self._closing = True
        await cancelled(*self._tasks)
        connections = list(self._streams.values())
        await asyncio.gather(*(self._send_ack(connection) for connection in connections))
        await asyncio.gather(
            *(
                _close(connection.socket, Close.GOING_AWAY, "The server stops; come back later.")
                for connection in connections
            )
        )

    def online(self, student_id: str) -> bool:
        """Whether a student has a connection to this node."""
        return student_id in self._students

    @property
    def students(self) -> int:
        """How many students have a connection to this node."""
        return len(self._students)

    def __len__(self) -> int:
        return len(self._streams)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """``GET /ws/events``."""
        socket = _Socket(
            max_msg_size=self._limits.frame_bytes, autoping=False, compress=False, timeout=2.0, decode_text=False
        )
        await socket.prepare(request)
        if self._closing:
            await _close(socket, Close.GOING_AWAY, "The server stops; come back later.")
        elif self._open >= self._limits.connections:
            self._counters.add("limit_connections")
            await _close(socket, Close.TOO_MANY_CONNECTIONS, "The server has as many connections as it can serve.")
        else:
            self._open += 1
            try:
                await self._serve(request, socket)
            finally:
                self._open -= 1
        return socket

    async def _serve(self, request: web.Request, socket: _Socket) -> None:
        conversation = Protocol(self._frame_limits, self._counters, bad_frames=self._limits.bad_frames)
        try:
            async with asyncio.timeout(self._limits.hello_seconds):
                connection = await self._greet(request, socket, conversation)
        except TimeoutError:
            await _close(socket, Close.BAD_HELLO, f"No hello came within {self._limits.hello_seconds} seconds.")
            return
        if connection is None:
            return
        self._enter(connection)
        try:
            await self._converse(connection, conversation)
        finally:
            self._leave(connection)

    async def _greet(self, request: web.Request, socket: _Socket, conversation: Protocol) -> _Connection | None:
        """Read the hello and answer it; None where the socket was closed instead."""
        received = await socket.receive()
        while received.type in (WSMsgType.PING, WSMsgType.PONG):
            received = await socket.receive()
        if received.type is not WSMsgType.TEXT:
            await _close(socket, Close.BAD_HELLO, "The first frame must be a hello, as JSON text.")
            return None
        hello = conversation.read(received.data)
        if not isinstance(hello, Hello):
            fault = (
                hello if isinstance(hello, Fault) else conversation.fault("out_of_order", "A hello must come first.")
            )
            await socket.send_str(protocol.error(fault))
            await _close(socket, Close.BAD_HELLO, fault.message)
            return None
        try:
            student = await self._roster.student_by_token(hello.token)
            if student is None:
                await self._pipeline.check_whole()
        except BackendError:
            await _close(socket, Close.GOING_AWAY, "The server cannot reach its roster just now; come back later.")
            return None
        if student is None:
            self._counters.add("tokens_refused")
            await _close(socket, Close.BAD_TOKEN, "This token is not valid; join the class again.")
            return None
        if len(self._students.get(student.student_id, ())) >= self._limits.connections_per_student:
            self._counters.add("limit_connections_per_student")
            await _close(socket, Close.TOO_MANY_CONNECTIONS, "This student has too many pages open.")
            return None
        try:
            await self._states.follow(student.class_id)
            stream = await self._pipeline.stream(student.student_id, student.class_id, hello.stream, hello.source)
        except TooManyStreamsError as error:
            await _close(socket, Close.TOO_MANY_CONNECTIONS, str(error))
            return None
        except BackendError:
            await _close(socket, Close.GOING_AWAY, "The server cannot reach its storage just now; come back later.")
            return None
        older = self._streams.get(stream)
        if older is not None:
            # Before the welcome tells a number, so that the older one cannot raise it afterwards.
            self._leave(older)
            older.close(Close.OPEN_ELSEWHERE, "This stream was opened elsewhere.")
        now = _now()
        stream.clock.synchronize(now, hello.now)
        connection = _Connection(request, socket, student, stream)
        self._streams[stream] = connection
        if self._pipeline.shared:
            in_background(self._tell_of_opening(connection))
        state = self._states.state(student.class_id)
        paused_to = self._pipeline.paused_to(stream)
        await connection.send(
            protocol.welcome(
                student.student_id, student.name, stream.durable_to, state, now, self._frame_limits, paused_to
            )
        )
        return connection

    async def _tell_of_opening(self, connection: _Connection) -> None:
        stream = connection.stream
        opened = Opened(stream.student.id, stream.id, connection.opening)
        try:
            await self._states.opened(stream.student.class_id, opened)
        except BackendError:
            # The older socket, if there is one, stays until it has been silent for too long.
            self._counters.add("publish_failures")

    async def _converse(self, connection: _Connection, conversation: Protocol) -> None:
        socket = connection.socket
        stream = connection.stream
        pipeline = self._pipeline
        unacked = self._limits.unacked
        while True:
            received = await socket.receive()
            connection.heard = True
            if received.type is WSMsgType.TEXT:
                message = conversation.read(received.data)
                if self._streams.get(stream) is not connection:
                    return
                if type(message) is Events:
                    try:
                        if not pipeline.accept(stream, message.first, message.texts, _now()):
                            self._acknowledge_again(connection, message.first)
                    except GapError as gap:
                        await connection.send(protocol.gap(gap.expected))
                    if stream.last - stream.durable_to >= unacked or not pipeline.has_room():
                        await self._wait_for_room(connection)
                    continue
                assert isinstance(message, Fault)
                await connection.send(protocol.error(message))
                if message.close is not None:
                    await _close(socket, message.close, "Too many frames in a row could not be used.")
                    return
            elif received.type is WSMsgType.PING:
                await socket.pong(received.data)
            elif received.type is WSMsgType.BINARY:
                fault = conversation.fault("binary", "Frames must be JSON text; binary ones are not understood.")
                await connection.send(protocol.error(fault))
                if fault.close is not None:
                    await _close(socket, fault.close, "Too many frames in a row could not be used.")
                    return
            elif received.type is not WSMsgType.PONG:
                return

    def _acknowledge_again(self, connection: _Connection, first: int) -> None:
        """All of a frame was here before: there may be no commit to come that would acknowledge it."""
        connection.acked = min(connection.acked, first - 1)
        self._acknowledge_soon(connection)

    async def _wait_for_room(self, connection: _Connection) -> None:
        """Stop reading until the stream has fewer unacknowledged events, and the disk has caught up."""
        self._counters.add("limit_unacked")
        stream = connection.stream
        while not connection.socket.closed and (
            stream.last - stream.durable_to >= self._limits.unacked or not self._pipeline.has_room()
        ):
            connection.room.clear()
            # A lost connection is noticed at the next look; commits wake this at once.
            try:
                async with asyncio.timeout(1):
                    await connection.room.wait()
            except TimeoutError:
                connection.heard = True

    def _enter(self, connection: _Connection) -> None:
        student = connection.student
        self.from_elsewhere = self.from_elsewhere or not is_here(connection.request)
        connections = self._students.setdefault(student.student_id, set())
        connections.add(connection)
        if len(connections) == 1:
            self.on_presence(student.class_id, student.student_id)

    def _leave(self, connection: _Connection) -> None:
        if self._streams.get(connection.stream) is connection:
            del self._streams[connection.stream]
        self._due.pop(connection, None)
        student = connection.student
        connections = self._students.get(student.student_id)
        if connections and connection in connections:
            connections.discard(connection)
            if not connections:
                del self._students[student.student_id]
                self.on_presence(student.class_id, student.student_id)

    def _durable(self, streams: Sequence[Stream]) -> None:
        """After a commit: note who is owed an acknowledgement."""
        for stream in streams:
            connection = self._streams.get(stream)
            if connection is not None:
                connection.room.set()
                if stream.durable_to - connection.acked >= self._ack_events:
                    self._ack_now.set()
                self._acknowledge_soon(connection)

    def _rejected(self, stream: Stream, rejected: Sequence[tuple[int, Rejection]]) -> None:
        """Tell a student's page which of its events cannot be used."""
        connection = self._streams.get(stream)
        if connection is not None:
            self._tell(connection, *(protocol.reject(seq, rejection) for seq, rejection in rejected))

    def _acknowledge_soon(self, connection: _Connection) -> None:
        self._due[connection] = None
        if self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(self._ack_seconds, self._ack_now.set)

    async def _acknowledge(self) -> None:
        """Acknowledge what is durable: soon, and at once where much is. Merged for a student who reads slowly."""
        while True:
            await self._ack_now.wait()
            self._ack_now.clear()
            if self._ack_timer is not None:
                self._ack_timer.cancel()
                self._ack_timer = None
            due, self._due = self._due, {}
            for connection in due:
                if connection.waiting_bytes() > self._limits.send_buffer_bytes // 16:
                    self._counters.add("slow_students")
                    self._acknowledge_soon(connection)
                else:
                    await self._send_ack(connection)

    async def _send_ack(self, connection: _Connection) -> None:
        durable = connection.stream.durable_to
        if durable > connection.acked:
            connection.acked = durable
            await connection.send(protocol.ack(durable))

    async def _watch(self) -> None:
        """Ask silent connections whether they are there, and close those that stay silent."""
        silent = self._limits.silent_seconds
        while True:
            await asyncio.sleep(silent / _LOOKS)
            for connection in list(self._streams.values()):
                connection.quiet = 0 if connection.heard else connection.quiet + 1
                connection.heard = False
                if connection.quiet >= _LOOKS:
                    self._counters.add("limit_silent_seconds")
                    connection.close(Close.SILENT, "Nothing was heard for too long.")
                elif connection.quiet:
                    in_background(_ping(connection))

    def _control(self, class_id: str, control: Control) -> None:
        """Act on what an educator did, or a student's page, on this node or another."""
        if control.opened is not None:
            self._opened(control.opened)
            return
        for connection in list(self._streams.values()):
            if connection.student.class_id != class_id:
                continue
            if control.state is not None:
                self._tell(connection, protocol.state(control.state))
            if control.message is not None:
                self._tell(connection, protocol.message(control.message))
            if control.removed == connection.student.student_id:
                connection.close(Close.REMOVED, "You were taken out of the class.")

    def _opened(self, opened: Opened) -> None:
        """Let go of a stream that was opened after we opened it."""
        student = self._pipeline.students().get(opened.student_id)
        stream = student.streams.get(opened.stream) if student else None
        connection = self._streams.get(stream) if stream else None
        if connection is None:
            return
        if connection.opening == opened.opening:
            connection.echoed = True
        elif connection.echoed:
            self._leave(connection)
            connection.close(Close.OPEN_ELSEWHERE, "This stream was opened elsewhere.")

    def _missed(self, class_id: str) -> None:
        """What comes from now on comes after all that was opened here."""
        for connection in self._streams.values():
            if connection.student.class_id == class_id:
                connection.echoed = True

    def _tell(self, connection: _Connection, *frames: str) -> None:
        if connection.waiting_bytes() > self._limits.send_buffer_bytes:
            self._counters.add("limit_send_buffer_bytes")
            connection.close(Close.SILENT, "This page reads too slowly.")
        else:
            in_background(connection.send_all(frames))


async def _ping(connection: _Connection) -> None:
    try:
        await connection.socket.ping()
    except (ConnectionError, ClientError):
        pass


async def _close(socket: web.WebSocketResponse, code: Close, reason: str) -> None:
    # RFC 6455 gives a reason 123 bytes.
    try:
        await socket.close(code=code, message=reason.encode()[:123])
    except (ConnectionError, ClientError):
        pass


def _now() -> int:
    return time.time_ns() // 1_000_000
