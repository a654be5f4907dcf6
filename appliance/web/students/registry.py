"""The registry of students' WebSockets, of any protocol: presence, limits, budgets, silence and closing.

A protocol gives `Registry.serve` a coroutine function. It gets a `Handshake`: a WebSocket that is open, of an unknown
student. The protocol reads the first message, identifies the student, reserves a place with `Registry.reserve` and
registers with `Registry.register`. From then on it has a `StudentConnection`: it reads with `receive`, gives events to
the pipeline and reports them with `accepted`. Every end is a close code with a reason: no HTTP answer is ever written
into an open WebSocket.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from aiohttp import web

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.errors import BackendError, place_of
from appliance.health import Health
from appliance.lessons.class_control import ClassControl, Control, Opened
from appliance.listeners import Listeners
from appliance.pipeline import Pipeline, StreamClosedError
from appliance.roster import Student
from appliance.states import ACCEPTING, Stream
from appliance.tasks import Supervised, Tasks, in_background
from appliance.web.security import client_address, is_here
from appliance.web.students import protocol
from appliance.web.students.budget import Budgets, Rates
from appliance.web.students.connection import StudentConnection
from appliance.web.students.handshake import ClientGoneError, Handshake, RefusedError
from appliance.web.students.protocol import Close
from appliance.web.students.unauthenticated import UnauthenticatedConnections

log = logging.getLogger(__name__)

_GOING_AWAY = "The server stops; try again later."
_OPEN_ELSEWHERE = "This stream was opened elsewhere."
_CHECK_SECONDS = 1.0
LEFT_LIST = "You are no longer on the list of this class. Your work is saved. Ask your teacher if that is wrong."
# After this silence a connection is pinged; a browser answers by itself.
_PING_SECONDS = 5.0


class Registry:
    """All students' WebSockets of this node.

    Attributes:
        on_presence: called with the ids of a class and a student when the student comes online or goes offline.
        on_control: called with the id of a class and what an educator did, on any node.
        from_elsewhere: whether a student ever connected from another computer.
        pipeline: accepts the events.
        limits: on one student, one address and all together.
        clock: seconds that pass.
        budgets: the budget of each student, by id; for protocols without a lasting connection too.
        unauthenticated: connections whose student is not known yet.
        without_room: connections that are not read at present, for want of room.
        reserved: how many connections have a place, registered or still being opened.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        class_control: ClassControl,
        limits: LimitSettings,
        counters: Counters,
        health: Health,
        tasks: Tasks,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        pipeline: accepts the events.
        class_control: reports what educators do, and which streams other nodes open.
        limits: on one student, one address and all together.
        counters: counts limits that were hit.
        health: gets a finding about a student who sends too much.
        tasks: runs the check for silent connections.
        clock: seconds that pass.
        """
        self.on_presence: Listeners[[str, str]] = Listeners("students' presence")
        self.on_control: Listeners[[str, Control]] = Listeners("what educators do")
        self.from_elsewhere = False
        self.pipeline = pipeline
        self.limits = limits
        self.budgets = Budgets(Rates.of_students(limits), counters, clock=clock)
        self.unauthenticated = UnauthenticatedConnections(limits, counters)
        self.without_room: dict[StudentConnection, None] = {}
        self.reserved = 0
        self._addresses = Budgets(Rates.of_addresses(limits), counters, clock=clock)
        self._class_control = class_control
        self._counters = counters
        self._health = health
        self._tasks = tasks
        self.clock = clock
        self._streams: dict[Stream, StudentConnection] = {}
        self._students: dict[str, set[StudentConnection]] = {}
        self._places: Counter[str] = Counter()
        self._checking: Supervised | None = None
        self._closing = False

    def start(self) -> None:
        """Begin to check for silent connections."""
        self.pipeline.on_durable.add(self._durable)
        self.pipeline.on_worked.add(self._worked)
        self.pipeline.on_quarantined.add(self._quarantined)
        self._class_control.on_control.add(self._control)
        self._class_control.on_missed.add(self._missed)
        self._checking = self._tasks.run("students' connections", self._check, owner="students")

    async def close(self) -> None:
        """Close every connection."""
        self._closing = True
        if self._checking:
            await self._tasks.end(self._checking)
        connections = self.connections()
        for connection in connections:
            # This ends its wait for room or credit.
            self.release(connection)
        handshakes = [one for one in self.unauthenticated.handshakes() if one.socket.prepared]
        await asyncio.gather(
            *(one.socket.end(Close.GOING_AWAY, _GOING_AWAY) for one in connections),
            *(one.end(Close.GOING_AWAY, _GOING_AWAY) for one in handshakes),
        )

    def online(self, student_id: str) -> bool:
        """Whether a student has a connection to this node."""
        return student_id in self._students

    @property
    def students(self) -> int:
        """How many students have a connection to this node."""
        return len(self._students)

    def __len__(self) -> int:
        """How many connections students have."""
        return len(self._streams)

    def connections(self) -> list[StudentConnection]:
        """The connections of all students."""
        return list(self._streams.values())

    def of_student(self, student_id: str) -> list[StudentConnection]:
        """The connections of a student."""
        return list(self._students.get(student_id, ()))

    async def serve(self, request: web.Request, converse: Callable[[Handshake], Awaitable[None]]) -> web.StreamResponse:
        """Open a WebSocket and run a protocol on it, until it returns or raises.

        Args:
            request: asks for the WebSocket.
            converse: the protocol. A `RefusedError` that it raises closes with its code and reason, a
                `StreamClosedError` with 4422, any other error with 1001 or 1011.
        """
        account = self._addresses.of(client_address(request))
        handshake = Handshake(request, self.limits, self._counters, account, self.unauthenticated)
        # Counted before the first await, so that the limit holds for any number that arrive together.
        account.users += 1
        self.unauthenticated.add(handshake)
        try:
            await handshake.accept()
            if self._closing:
                raise RefusedError(Close.GOING_AWAY, _GOING_AWAY)
            await converse(handshake)
        except RefusedError as refused:
            await handshake.end(refused.code, refused.reason)
        except ClientGoneError:
            pass
        except StreamClosedError as closed:
            await handshake.end(Close.UNUSABLE, str(closed))
        except BackendError:
            if not handshake.socket.prepared:
                raise
            self._counters.add("openings_unserved")
            await handshake.end(Close.GOING_AWAY, "The server cannot reach its storage; try again later.")
        except Exception as error:
            if not handshake.socket.prepared:
                raise
            self._counters.add("conversation_errors")
            log.error("A conversation with a student's page failed: %s.", place_of(error))
            await handshake.end(Close.INTERNAL, "Something went wrong in the server; try again later.")
        finally:
            account.users -= 1
            self.unauthenticated.remove(handshake)
        return handshake.socket

    @contextmanager
    def reserve(self, handshake: Handshake, student_id: str, stream_id: str) -> Iterator[None]:
        """A place for a connection of a student; from now on it is authenticated.

        Args:
            handshake: the connection.
            student_id: the student.
            stream_id: the stream; a connection that takes over a stream needs no further place.

        Raises:
            RefusedError: the node or the student has too many.
        """
        limits = self.limits
        if self.reserved >= limits.connections:
            self._counters.add("limit_connections")
            raise RefusedError(Close.TOO_MANY_CONNECTIONS, "The server has as many connections as it can serve.")
        older = sum(one.stream.id == stream_id for one in self._students.get(student_id, ()))
        if self._places[student_id] - older >= limits.connections_per_student:
            self._counters.add("limit_connections_per_student")
            raise RefusedError(Close.TOO_MANY_CONNECTIONS, "This student has too many pages open.")
        handshake.authenticated()
        self.reserved += 1
        self._places[student_id] += 1
        try:
            yield
        finally:
            self.reserved -= 1
            self._places[student_id] -= 1
            if not self._places[student_id]:
                del self._places[student_id]

    @contextmanager
    def register(self, handshake: Handshake, student: Student, stream: Stream) -> Iterator[StudentConnection]:
        """Register the connection of a student, once it has a place; the newest connection of a stream wins.

        Args:
            handshake: the connection.
            student: the student.
            stream: where its events will go; the pipeline has opened it.

        Raises:
            RefusedError: the stream's last connection ended while the stream was being opened, and so closed it.
            ClientGoneError: the client has gone meanwhile.
        """
        if stream.state not in ACCEPTING:
            raise RefusedError(Close.TRY_AGAIN, "Another connection of this page has just ended; try again.")
        older = self._streams.get(stream)
        account = self.budgets.of(student.student_id)
        connection = StudentConnection(self, handshake, student, stream, account)
        account.users += 1
        self._streams[stream] = connection
        if older is not None:
            # It no longer has the stream, and so does not close it.
            older.close(Close.OPEN_ELSEWHERE, _OPEN_ELSEWHERE)
        self.from_elsewhere = self.from_elsewhere or not is_here(handshake.request)
        connections = self._students.setdefault(student.student_id, set())
        connections.add(connection)
        if len(connections) == 1:
            self.on_presence(student.class_id, student.student_id)
        if self.pipeline.shared:
            in_background(self._publish_opening(connection))
        try:
            yield connection
        finally:
            account.users -= 1
            self.release(connection)

    def release(self, connection: StudentConnection) -> None:
        """Remove a connection, and close its stream unless a newer one has it."""
        if not connection.open:
            return
        connection.open = False
        connection.wake()
        if self._streams.get(connection.stream) is connection:
            del self._streams[connection.stream]
            self.pipeline.close_stream(connection.stream)
        student = connection.student
        connections = self._students.get(student.student_id)
        if connections and connection in connections:
            connections.discard(connection)
            if not connections:
                del self._students[student.student_id]
                self.on_presence(student.class_id, student.student_id)

    def post(self, connections: Iterable[StudentConnection], *frames: bytes) -> None:
        """Send frames to connections without waiting; a connection that does not read is closed."""
        for connection in connections:
            if connection.waiting_bytes() > self.limits.send_buffer_bytes:
                self._counters.add("limit_send_buffer_bytes")
                connection.close(Close.SILENT, "This page reads too slowly.")
            else:
                in_background(_send_all(connection, frames))

    def announce_leaving(self, student: Student) -> None:
        """Send a student who is no longer on the class list a message; the student works on until the page is left."""
        self.post(self.of_student(student.student_id), protocol.message(LEFT_LIST).encode())

    def count_full(self, connection: StudentConnection) -> None:
        """Count the limit because of which a connection has no room."""
        stream = connection.stream
        if stream.last - stream.durable_to >= self.limits.unacked:
            self._counters.add("limit_unacked")
        elif connection.account.waiting >= self.limits.student_buffer_bytes:
            self._counters.add("limit_student_buffer_bytes")
        else:
            self._counters.add("limit_buffer_bytes")

    def _durable(self, streams: Sequence[Stream]) -> None:
        """After a commit: free the students' buffers, and read on."""
        self.budgets.durable(streams)
        for connection in self.without_room:
            connection.wake()

    def _worked(self, student_id: str, seconds: float) -> None:
        """A commit worked on events of a student: the student's budget pays for it, as for reading them."""
        self.budgets.worked(student_id, seconds)

    def _quarantined(self, stream: Stream, reason: str) -> None:
        """The events of a stream cannot be used: its page must reopen it."""
        self.budgets.forget(stream)
        connection = self._streams.get(stream)
        if connection is not None:
            connection.close(Close.UNUSABLE, reason)

    async def _check(self, task: Supervised) -> None:
        pause = min(_CHECK_SECONDS, self.limits.silent_seconds / 8, self.limits.alive_seconds / 8)
        while True:
            await asyncio.sleep(pause)
            # A silence begins up to one pause before a check sees it and ends at a check: limits are kept all the same.
            await self.check_connections(2 * pause)
            task.works()

    async def check_connections(self, margin: float) -> None:
        """Send "alive" to quiet connections, ping them, and close those that stay silent.

        Args:
            margin: seconds by which each time limit is shortened.
        """
        limits = self.limits
        now = self.clock()
        alive = protocol.alive(time.time_ns() // 1_000_000).encode()
        for connection in self.connections():
            silence, quiet = connection.silence(now)
            if silence >= limits.silent_seconds - margin:
                self._counters.add("limit_silent_seconds")
                connection.close(Close.SILENT, "Nothing was received for too long.")
                continue
            # Sending does not block if nothing waits to be sent.
            if silence >= min(_PING_SECONDS, limits.silent_seconds / 4) - margin and connection.keeps_up(0):
                await connection.ping()
            if quiet >= limits.alive_seconds - margin and connection.keeps_up(0):
                await connection.send(alive)
        self.budgets.tidy(self._health)
        self._addresses.tidy()

    def _control(self, class_id: str, control: Control) -> None:
        """Act on what an educator or a student's page did, on this node or another."""
        if control.opened is not None:
            self._opened(control.opened)
            return
        if control.removed is not None:
            for connection in self.of_student(control.removed):
                if connection.student.class_id == class_id:
                    connection.close(Close.REMOVED, "Your teacher removed you.")
        if control.merged is not None:
            for connection in self.of_student(control.merged):
                connection.close(Close.GOING_AWAY, "Your teacher merged two names of yours; connect again.")
        self.on_control(class_id, control)

    async def _publish_opening(self, connection: StudentConnection) -> None:
        stream = connection.stream
        opened = Opened(stream.student.id, stream.id, connection.opening)
        try:
            await self._class_control.opened(stream.student.class_id, opened)
        except BackendError:
            # An older socket of the stream, if there is one, stays until it has been silent for too long.
            self._counters.add("publish_failures")

    def _opened(self, opened: Opened) -> None:
        """Close our connection of a stream that another node opened after us."""
        student = self.pipeline.students().get(opened.student_id)
        stream = student.streams.get(opened.stream) if student else None
        connection = self._streams.get(stream) if stream else None
        if connection is None:
            return
        if connection.opening == opened.opening:
            connection.echoed = True
        elif connection.echoed:
            connection.close(Close.OPEN_ELSEWHERE, _OPEN_ELSEWHERE)

    def _missed(self, class_id: str) -> None:
        """Messages were missed: any that arrive from now on are newer than all openings here."""
        for connection in self.connections():
            if connection.student.class_id == class_id:
                connection.echoed = True


async def _send_all(connection: StudentConnection, frames: Sequence[bytes]) -> None:
    for frame in frames:
        await connection.send(frame)
