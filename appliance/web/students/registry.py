"""The registry of students' sockets, whatever protocol they speak: who is there, how many, and what each may take.

A protocol gives `Registry.serve` a function that talks. It gets a `Guest`: a WebSocket that is open, of which nothing
is known. The protocol reads the first message, finds out whose it is, takes a place and enters; from then on it has a
`Connection`, reads with `Connection.receive`, gives events to the pipeline and says with `Connection.took` what it
took. Presence, limits, budgets, silence and the end of the connection are the registry's. Every end is a close code
with a reason: no HTTP answer is ever written into an open WebSocket.
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
from appliance.states import TAKING, Stream
from appliance.tasks import Supervised, Tasks, in_background
from appliance.web.security.access import is_here
from appliance.web.students import protocol
from appliance.web.students.budget import Budgets, Rates
from appliance.web.students.connection import Connection
from appliance.web.students.protocol import Close
from appliance.web.students.sockets import close
from appliance.web.students.unauthenticated import GoneError, Guest, RefusedError, Strangers, address_of

log = logging.getLogger(__name__)

_GOING_AWAY = "The server stops; come back later."
_SWEEP_SECONDS = 1.0
# After silence of so long a browser is asked whether it is there; it answers by itself.
_ASK_SECONDS = 5.0


class Registry:
    """All students' WebSockets of this node.

    Attributes:
        on_presence: called with a class's and a student's id when the student came on line or went.
        on_control: called with a class's id and what an educator did, from whichever node.
        from_elsewhere: whether a student ever connected from another computer.
        budgets: of each student, by id; for protocols without a lasting connection too.
        strangers: connections of which nobody knows whose they are.
        held: connections that are not read just now, for want of room.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        states: ClassControl,
        limits: LimitSettings,
        counters: Counters,
        health: Health,
        tasks: Tasks,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        pipeline: takes the events.
        states: bring what educators do, and what other nodes open.
        limits: what one student, one address and all may take.
        counters: where limits that are hit are counted.
        health: where a student who sends too much is a finding.
        tasks: runs the look for silent connections.
        clock: seconds that pass.
        """
        self.on_presence: Listeners[[str, str]] = Listeners("students' presence")
        self.on_control: Listeners[[str, Control]] = Listeners("what educators do")
        self.from_elsewhere = False
        self.pipeline = pipeline
        self.limits = limits
        self.budgets = Budgets(Rates.of_students(limits), counters, clock=clock)
        self.strangers = Strangers(limits, counters)
        self.held: dict[Connection, None] = {}
        self._addresses = Budgets(Rates.of_strangers(limits), counters, clock=clock)
        self._states = states
        self._counters = counters
        self._health = health
        self._tasks = tasks
        self._clock = clock
        self._streams: dict[Stream, Connection] = {}
        self._students: dict[str, set[Connection]] = {}
        self._places: Counter[str] = Counter()
        self._taken = 0
        self._sweeping: Supervised | None = None
        self._closing = False

    def start(self) -> None:
        """Begin to look for silent connections."""
        self.pipeline.on_durable.add(self._durable)
        self.pipeline.on_worked.add(self._worked)
        self.pipeline.on_quarantined.add(self._quarantined)
        self._states.on_control.add(self._control)
        self._states.on_missed.add(self._missed)
        self._sweeping = self._tasks.run("students' connections", self._sweep, owner="students")

    async def close(self) -> None:
        """Send every student away, and every stranger."""
        self._closing = True
        if self._sweeping:
            await self._tasks.end(self._sweeping)
        open_ones = list(self._streams.values())
        for connection in open_ones:
            # Those that are held wait for room and credit no longer.
            self.leave(connection)
        connections = [close(one.socket, Close.GOING_AWAY, _GOING_AWAY) for one in open_ones]
        guests = [one.end(Close.GOING_AWAY, _GOING_AWAY) for one in self.strangers.guests() if one.socket.prepared]
        await asyncio.gather(*connections, *guests)

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

    def of_stream(self, stream: Stream) -> Connection | None:
        """The connection that has a stream."""
        return self._streams.get(stream)

    def of_student(self, student_id: str) -> list[Connection]:
        """A student's connections."""
        return list(self._students.get(student_id, ()))

    def of_class(self, class_id: str) -> list[Connection]:
        """The connections of a class's students."""
        return [one for one in self._streams.values() if one.student.class_id == class_id]

    async def serve(self, request: web.Request, talk: Callable[[Guest], Awaitable[None]]) -> web.StreamResponse:
        """Open a WebSocket and let a protocol talk on it, until it returns or raises.

        Args:
            request: asks for the WebSocket.
            talk: the protocol. A `RefusedError` that it raises closes with that code and reason, a `StreamClosedError`
                with 4422, any other error with 1001 or 1011.
        """
        address = address_of(request)
        account = self._addresses.of(address)
        guest = Guest(request, self.limits, self._counters, account, address)
        # Counted before anything is awaited, so that no number of them can come at once.
        account.users += 1
        self.strangers.add(guest)
        try:
            await guest.arrive()
            if self._closing:
                raise RefusedError(Close.GOING_AWAY, _GOING_AWAY)
            await talk(guest)
        except RefusedError as refused:
            await guest.end(refused.code, refused.reason)
        except GoneError:
            pass
        except StreamClosedError as closed:
            await guest.end(Close.UNUSABLE, str(closed))
        except BackendError:
            if not guest.socket.prepared:
                raise
            self._counters.add("openings_unserved")
            await guest.end(Close.GOING_AWAY, "The server cannot reach its storage just now; come back later.")
        except Exception as error:
            if not guest.socket.prepared:
                raise
            self._counters.add("conversation_errors")
            log.error("A conversation with a student's page failed: %s.", place_of(error))
            await guest.end(Close.INTERNAL, "Something went wrong in the server; come back later.")
        finally:
            account.users -= 1
            self.strangers.remove(guest)
        return guest.socket

    @contextmanager
    def place(self, guest: Guest, student_id: str, stream_id: str) -> Iterator[None]:
        """A place for a connection of a student; from here on it is no stranger's.

        Args:
            guest: who wants it.
            student_id: the student.
            stream_id: of which stream; one that takes over a stream needs no place more.

        Raises:
            RefusedError: the node or the student has too many.
        """
        limits = self.limits
        if self._taken >= limits.connections:
            self._counters.add("limit_connections")
            raise RefusedError(Close.TOO_MANY_CONNECTIONS, "The server has as many connections as it can serve.")
        older = sum(one.stream.id == stream_id for one in self._students.get(student_id, ()))
        if self._places[student_id] - older >= limits.connections_per_student:
            self._counters.add("limit_connections_per_student")
            raise RefusedError(Close.TOO_MANY_CONNECTIONS, "This student has too many pages open.")
        guest.known()
        self._taken += 1
        self._places[student_id] += 1
        try:
            yield
        finally:
            self._taken -= 1
            self._places[student_id] -= 1
            if not self._places[student_id]:
                del self._places[student_id]

    @contextmanager
    def enter(self, guest: Guest, student: Student, stream: Stream) -> Iterator[Connection]:
        """The connection of a student who has a place; a stream's newest connection wins.

        Args:
            guest: who enters.
            student: whose it is.
            stream: where its events will go; the pipeline has just opened it.

        Raises:
            RefusedError: its last connection left while it was being opened, and so closed it again.
            GoneError: the client has gone meanwhile.
        """
        if stream.state not in TAKING:
            raise RefusedError(Close.TRY_AGAIN, "Another connection of this page has just ended; come back.")
        older = self._streams.get(stream)
        account = self.budgets.of(student.student_id)
        connection = Connection(self, guest, student, stream, account)
        account.users += 1
        self._streams[stream] = connection
        if older is not None:
            # It has the stream no more, and so does not close it.
            older.close(Close.OPEN_ELSEWHERE, "This stream was opened elsewhere.")
        self.from_elsewhere = self.from_elsewhere or not is_here(guest.request)
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
            self.leave(connection)

    def leave(self, connection: Connection) -> None:
        """A connection counts no more."""
        if not connection.open:
            return
        connection.open = False
        connection.wake()
        if self._streams.get(connection.stream) is connection:
            del self._streams[connection.stream]
            self.pipeline.leave(connection.stream)
        student = connection.student
        connections = self._students.get(student.student_id)
        if connections and connection in connections:
            connections.discard(connection)
            if not connections:
                del self._students[student.student_id]
                self.on_presence(student.class_id, student.student_id)

    def post(self, connections: Iterable[Connection], *frames: bytes) -> None:
        """Send frames to connections, waiting for none of them; one that does not read is closed."""
        for connection in connections:
            if connection.waiting_bytes() > self.limits.send_buffer_bytes:
                self._counters.add("limit_send_buffer_bytes")
                connection.close(Close.SILENT, "This page reads too slowly.")
            else:
                in_background(_send_all(connection, frames))

    def count_full(self, connection: Connection) -> None:
        """Count the limit for which a connection has no room."""
        stream = connection.stream
        if stream.last - stream.durable_to >= self.limits.unacked:
            self._counters.add("limit_unacked")
        elif connection.account.waiting >= self.limits.student_buffer_bytes:
            self._counters.add("limit_student_buffer_bytes")
        else:
            self._counters.add("limit_buffer_bytes")

    def _durable(self, streams: Sequence[Stream]) -> None:
        """After a commit: give back what the students' buffers held, and read on."""
        self.budgets.durable(streams)
        for connection in self.held:
            connection.wake()

    def _worked(self, student_id: str, seconds: float) -> None:
        """A commit worked on what a student sent: that is paid for like reading it."""
        self.budgets.worked(student_id, seconds)

    def _quarantined(self, stream: Stream, reason: str) -> None:
        """The events of a stream cannot be used: its page must open it again."""
        self.budgets.forget(stream)
        connection = self._streams.get(stream)
        if connection is not None:
            connection.close(Close.UNUSABLE, reason)

    async def _sweep(self, task: Supervised) -> None:
        """Say to quiet connections that the server is there, ask whether they are, and close those that stay silent."""
        pause = min(_SWEEP_SECONDS, self.limits.silent_seconds / 8, self.limits.alive_seconds / 8)
        while True:
            await asyncio.sleep(pause)
            # What happened is noticed up to one look later, and acted on at a look: each limit is kept all the same.
            await self.look(2 * pause)
            task.works()

    async def look(self, margin: float) -> None:
        """Look once over all connections.

        Args:
            margin: seconds by which each time limit is taken shorter.
        """
        limits = self.limits
        now = self._clock()
        alive = protocol.alive(time.time_ns() // 1_000_000).encode()
        for connection in list(self._streams.values()):
            silence, quiet = connection.times(now)
            if silence >= limits.silent_seconds - margin:
                self._counters.add("limit_silent_seconds")
                connection.close(Close.SILENT, "Nothing was heard for too long.")
                continue
            # To one for which nothing waits, sending waits for nothing.
            if silence >= min(_ASK_SECONDS, limits.silent_seconds / 4) - margin and connection.keeps_up(0):
                await connection.ping()
            if quiet >= limits.alive_seconds - margin and connection.keeps_up(0):
                await connection.send(alive)
        self.budgets.tidy(self._health)
        self._addresses.tidy()

    def _control(self, class_id: str, control: Control) -> None:
        """Act on what an educator did, or a student's page, on this node or another."""
        if control.opened is not None:
            self._opened(control.opened)
            return
        if control.removed is not None:
            for connection in self.of_student(control.removed):
                if connection.student.class_id == class_id:
                    connection.close(Close.REMOVED, "Your teacher removed you.")
        self.on_control(class_id, control)

    async def _publish_opening(self, connection: Connection) -> None:
        stream = connection.stream
        opened = Opened(stream.student.id, stream.id, connection.opening)
        try:
            await self._states.opened(stream.student.class_id, opened)
        except BackendError:
            # The older socket, if there is one, stays until it has been silent for too long.
            self._counters.add("publish_failures")

    def _opened(self, opened: Opened) -> None:
        """Let go of a stream that was opened after we opened it."""
        student = self.pipeline.students().get(opened.student_id)
        stream = student.streams.get(opened.stream) if student else None
        connection = self._streams.get(stream) if stream else None
        if connection is None:
            return
        if connection.opening == opened.opening:
            connection.echoed = True
        elif connection.echoed:
            connection.close(Close.OPEN_ELSEWHERE, "This stream was opened elsewhere.")

    def _missed(self, class_id: str) -> None:
        """What comes from now on comes after all that was opened here."""
        for connection in self.of_class(class_id):
            connection.echoed = True


async def _send_all(connection: Connection, frames: Sequence[bytes]) -> None:
    for frame in frames:
        await connection.send(frame)
