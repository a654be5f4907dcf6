"""One student's open WebSocket, as protocols use it."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from aiohttp import ClientError, WSMsgType

from appliance.roster import Student
from appliance.states import Stream
from appliance.tasks import in_background
from appliance.web.students.budget import FRAME_SECONDS, Account
from appliance.web.students.protocol import Close
from appliance.web.students.sockets import Message, StudentSocket, close
from appliance.web.students.unauthenticated import Guest

if TYPE_CHECKING:
    from appliance.web.students.registry import Registry

# A connection that is not read is looked after so often; commits wake it at once.
_ROOM_SECONDS = 1.0
# After work of so long on its frames others have their turn first: those that have come are given without waiting.
_TURN_SECONDS = 0.005
_UNTEXTUAL = (WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG)
# What a frame costs beside its content.
_FRAME_BYTES = 64


class Connection:
    """One student's open WebSocket.

    Attributes:
        student: whose it is.
        stream: where its events go.
        open: whether it still counts; False once a newer one has the stream, it was closed, or it is gone. What it says
            then is not to be taken.
        held: whether it is not read just now, for want of room or credit.
    """

    __slots__ = (
        "_ear",
        "_heard_at",
        "_registry",
        "_room",
        "_sent",
        "_sent_at",
        "_spent",
        "account",
        "echoed",
        "held",
        "open",
        "opening",
        "request",
        "socket",
        "stream",
        "student",
    )

    def __init__(self, registry: Registry, guest: Guest, student: Student, stream: Stream, account: Account) -> None:
        self._ear = guest.welcome()
        self.request = guest.request
        self.socket: StudentSocket = guest.socket
        self.student = student
        self.stream = stream
        self.account = account
        self.open = True
        self.held = False
        # Whether the message that this stream was opened here has come back to us: one that comes later is of a later
        # opening, since all nodes get the messages of a topic in one order.
        self.opening = secrets.token_hex(8)
        self.echoed = False
        self._registry = registry
        self._room = asyncio.Event()
        self._spent = 0.0
        self._sent = True
        self._heard_at = self._sent_at = registry._clock()

    def waiting_bytes(self) -> int:
        """What was sent and the network has not taken yet."""
        transport = self.request.transport
        return transport.get_write_buffer_size() if transport else 0

    def keeps_up(self, bytes: int) -> bool:
        """Whether no more than so many bytes wait for it, so that sending to it waits for nothing."""
        return self.waiting_bytes() <= bytes and not self.request.protocol.writing_paused

    async def receive(self) -> Message:
        """The next message, once the student has credit."""
        if self.account.owing:
            await self._credit()
        if self._spent > _TURN_SECONDS:
            self._spent = 0.0
            await asyncio.sleep(0)
        received = await self.socket.receive()
        if received.type is not WSMsgType.TEXT and received.type in _UNTEXTUAL:
            # What a text frame costs is known to its protocol, see `worked`.
            self.account.pay(len(received.data) + _FRAME_BYTES, FRAME_SECONDS)
            self._spent += FRAME_SECONDS
        elif self.account.owing:
            # Another connection of the student has spent what there was, since this one began to wait.
            await self._credit()
            while received.type is WSMsgType.TEXT and not self.open:
                # It is being closed, with a code that the end of this conversation must not forestall.
                received = await self.socket.receive()
        return received

    async def send(self, frame: bytes) -> None:
        """Send a text frame; to a connection that has just ended that does nothing."""
        self._sent = True
        try:
            await self.socket.send_frame(frame, WSMsgType.TEXT)
        except (ConnectionError, ClientError):
            pass

    async def ping(self) -> None:
        """Ask whether the client is there."""
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

    def worked(self, size: int, began: float) -> None:
        """Pay for a frame of so many bytes; `began` is what `Account.begin` gave."""
        self._spent += self.account.end(size, began)

    def took(self, size: int) -> bool:
        """Note that a frame of so many bytes was given to the pipeline.

        Returns:
            Whether there is room for more; where not, `room` is to be awaited.
        """
        self._registry.budgets.took(self.account, self.stream, size)
        return self.has_room()

    def has_room(self) -> bool:
        """Whether more may be taken: of the stream, of the student, and of all."""
        stream = self.stream
        registry = self._registry
        return (
            stream.last - stream.durable_to < registry.limits.unacked
            and self.account.waiting < registry.limits.student_buffer_bytes
            and registry.pipeline.has_room()
        )

    async def room(self) -> None:
        """Wait until there is room, or the connection has ended."""
        self._registry.count_full(self)
        self.held = True
        self._registry.held[self] = None
        try:
            while self.open and not self.has_room() and self.request.transport is not None:
                await self._woken(_ROOM_SECONDS)
        finally:
            self._registry.held.pop(self, None)
            self.held = False

    def wake(self) -> None:
        """Go on, if there is room now."""
        if not self.open or self.has_room():
            self._room.set()

    def times(self, now: float) -> tuple[float, float]:
        """For how many seconds nothing was heard of it, and nothing was sent to it, as far as the last looks show.

        One that is not read is not silent by its own fault.
        """
        if self._ear.heard or self.held:
            self._ear.heard = False
            self._heard_at = now
        if self._sent:
            self._sent = False
            self._sent_at = now
        return now - self._heard_at, now - self._sent_at

    def close(self, code: Close, reason: str) -> None:
        """Let go of it, and close it without waiting for the other side."""
        self._registry.leave(self)
        in_background(close(self.socket, code, reason))

    async def _credit(self) -> None:
        self.held = True
        try:
            wait = self.account.wait()
            while self.open and wait > 0 and self.request.transport is not None:
                await self._woken(min(wait, _ROOM_SECONDS))
                wait = self.account.wait()
        finally:
            self.held = False

    async def _woken(self, seconds: float) -> None:
        """Wait for `wake`, and no longer than so."""
        self._room.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._room.wait()
        except TimeoutError:
            pass
