"""One student's open WebSocket, as protocols use it: reading with back-pressure, sending, closing."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from aiohttp import ClientError, WSMsgType

from appliance.roster import Student
from appliance.states import Stream
from appliance.tasks import in_background
from appliance.web.students.budget import FRAME_SECONDS, Account
from appliance.web.students.handshake import Handshake
from appliance.web.students.protocol import Close
from appliance.web.students.sockets import Message, StudentSocket

if TYPE_CHECKING:
    from appliance.web.students.registry import Registry

# How often a connection that is not read checks for room by itself; commits wake it at once.
_ROOM_SECONDS = 1.0
# After this much work on its frames it yields to others: reading frames that have arrived already never waits.
_TURN_SECONDS = 0.005
_UNTEXTUAL = (WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG)
# What a frame costs besides its content.
_FRAME_BYTES = 64


class StudentConnection:
    """One student's open WebSocket.

    Attributes:
        student: the authenticated student.
        stream: where its events go.
        account: the student's budget.
        open: whether it is registered; False once a newer one has the stream, it was closed, or it ended. Frames that
            arrive then must be ignored.
        throttled: whether it is not read at present, for want of room or credit.
        opening: identifies this opening of the stream in messages between nodes.
        echoed: whether the message about this opening came back to us. An opening whose message comes later is newer,
            since all nodes receive the messages of a topic in one order.
    """

    __slots__ = (
        "_monitor",
        "_received_at",
        "_registry",
        "_room",
        "_sent",
        "_sent_at",
        "_spent",
        "account",
        "echoed",
        "open",
        "opening",
        "request",
        "socket",
        "stream",
        "student",
        "throttled",
    )

    def __init__(
        self, registry: Registry, handshake: Handshake, student: Student, stream: Stream, account: Account
    ) -> None:
        self._monitor = handshake.lift_limit()
        self.request = handshake.request
        self.socket: StudentSocket = handshake.socket
        self.student = student
        self.stream = stream
        self.account = account
        self.open = True
        self.throttled = False
        self.opening = secrets.token_hex(8)
        self.echoed = False
        self._registry = registry
        self._room = asyncio.Event()
        self._spent = 0.0
        self._sent = True
        self._received_at = self._sent_at = registry.clock()

    def waiting_bytes(self) -> int:
        """Bytes that were sent and that the network has not accepted yet."""
        transport = self.request.transport
        return transport.get_write_buffer_size() if transport else 0

    def keeps_up(self, bytes: int) -> bool:
        """Whether at most this many bytes wait to be sent, so that `send` does not block."""
        return self.waiting_bytes() <= bytes and not self.request.protocol.writing_paused

    async def receive(self) -> Message:
        """The next message, once the student has credit."""
        if self.account.overdrawn:
            await self._wait_for_credit()
        if self._spent > _TURN_SECONDS:
            self._spent = 0.0
            await asyncio.sleep(0)
        received = await self.socket.receive()
        if received.type is not WSMsgType.TEXT and received.type in _UNTEXTUAL:
            # The protocol pays for text frames, with `pay`.
            self.account.pay(len(received.data) + _FRAME_BYTES, FRAME_SECONDS)
            self._spent += FRAME_SECONDS
        elif self.account.overdrawn:
            # Another connection of the student used the credit since this one began to wait.
            await self._wait_for_credit()
            while received.type is WSMsgType.TEXT and not self.open:
                # It is being closed with a code; returning now would close it first, without the code.
                received = await self.socket.receive()
        return received

    async def send(self, frame: bytes) -> None:
        """Send a text frame; does nothing if the connection has ended."""
        self._sent = True
        try:
            await self.socket.send_frame(frame, WSMsgType.TEXT)
        except (ConnectionError, ClientError):
            pass

    async def ping(self) -> None:
        """Ask the client for a sign of life."""
        try:
            await self.socket.ping()
        except (ConnectionError, ClientError):
            pass

    async def pong(self, message: bytes) -> None:
        """Answer a ping."""
        try:
            await self.socket.pong(message)
        except (ConnectionError, ClientError):
            pass

    def pay(self, size: int, began: float) -> None:
        """Pay for a frame of `size` bytes; `began` is what `Account.begin` returned."""
        self._spent += self.account.end(size, began)

    def accepted(self, size: int) -> bool:
        """Note that the pipeline accepted a frame of `size` bytes.

        Returns:
            Whether there is room for more; if not, the protocol must await `wait_for_room`.
        """
        self._registry.budgets.accepted(self.account, self.stream, size)
        return self.has_room()

    def has_room(self) -> bool:
        """Whether more may be accepted: of this stream, of this student, and in total."""
        stream = self.stream
        registry = self._registry
        return (
            stream.last - stream.durable_to < registry.limits.unacked
            and self.account.waiting < registry.limits.student_buffer_bytes
            and registry.pipeline.has_room()
        )

    async def wait_for_room(self) -> None:
        """Wait until there is room, or the connection has ended."""
        self._registry.count_full(self)
        self.throttled = True
        self._registry.without_room[self] = None
        try:
            while self.open and not self.has_room() and self.request.transport is not None:
                await self._woken(_ROOM_SECONDS)
        finally:
            self._registry.without_room.pop(self, None)
            self.throttled = False

    def wake(self) -> None:
        """End `wait_for_room` if there is room now, or the connection has ended."""
        if not self.open or self.has_room():
            self._room.set()

    @property
    def has_received(self) -> bool:
        """Whether bytes arrived since the last call of `silence`."""
        return self._monitor.received

    def silence(self, now: float) -> tuple[float, float]:
        """For how many seconds nothing was received, and nothing was sent, as seen from one call to the next.

        A throttled connection does not count as silent: we do not read it.
        """
        if self._monitor.received or self.throttled:
            self._monitor.received = False
            self._received_at = now
        if self._sent:
            self._sent = False
            self._sent_at = now
        return now - self._received_at, now - self._sent_at

    def close(self, code: Close, reason: str) -> None:
        """Release it, and close it without waiting for the client."""
        self._registry.release(self)
        in_background(self.socket.end(code, reason))

    async def _wait_for_credit(self) -> None:
        self.throttled = True
        try:
            wait = self.account.wait()
            while self.open and wait > 0 and self.request.transport is not None:
                await self._woken(min(wait, _ROOM_SECONDS))
                wait = self.account.wait()
        finally:
            self.throttled = False

    async def _woken(self, seconds: float) -> None:
        """Wait for `wake`, for at most so long."""
        self._room.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._room.wait()
        except TimeoutError:
            pass
