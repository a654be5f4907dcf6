"""The handshake of a student's connection: from the HTTP request until its student is known.

Until then a client may send little and must send it soon; see `appliance.web.students.unauthenticated` for how many
such connections there may be.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import WSMsgType, web

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.tasks import in_background
from appliance.web.errors import ApiError
from appliance.web.security import client_address
from appliance.web.students.budget import Account
from appliance.web.students.input_limits import InputLimiter, ReceiveMonitor, early_bytes
from appliance.web.students.protocol import Close
from appliance.web.students.sockets import Message, StudentSocket
from appliance.web.students.unauthenticated import UnauthenticatedConnections

_EVICTED = "Too many connections send nothing, this one for longest. Come back later."
# A client that sent nothing gets little time to answer a close.
_EVICTION_SECONDS = 0.25
_CONTROL = (WSMsgType.PING, WSMsgType.PONG)
"""Types of frames that are not messages."""


class RefusedError(Exception):
    """A connection is refused, or closed by the server.

    Attributes:
        code: the close code.
        reason: a sentence for a person.
    """

    def __init__(self, code: Close, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class ClientGoneError(Exception):
    """The client closed the connection or lost it; there is nobody to answer."""


class Handshake:
    """One connection whose student is not known yet.

    Attributes:
        request: asks for the connection.
        socket: the WebSocket; open once `accept` has returned.
        address: by which the client is counted.
        account: the budget of that address.
    """

    def __init__(
        self,
        request: web.Request,
        limits: LimitSettings,
        counters: Counters,
        account: Account,
        unauthenticated: UnauthenticatedConnections,
    ) -> None:
        """Args:
        request: asks for the connection.
        limits: on the size and the time of the first message.
        counters: counts limits that were hit.
        account: the budget of the client's address.
        unauthenticated: counts this connection.
        """
        self.request = request
        self.socket = StudentSocket(request, limits.frame_bytes, counters)
        self.address = client_address(request)
        self.account = account
        self._limits = limits
        self._counters = counters
        self._unauthenticated = unauthenticated
        self._limiter: InputLimiter | None = None
        self._evicted = False

    async def accept(self) -> None:
        """Open the WebSocket.

        Raises:
            ApiError: the client sent too much before it was answered.
            HTTPException: the request does not ask for a WebSocket.
            RefusedError: it was closed meanwhile to make room for another one.
            ClientGoneError: the connection ended.
        """
        transport = self.request.transport
        if transport is None:
            raise ClientGoneError
        early = early_bytes(self.request)
        if early > self._limits.hello_bytes:
            self._counters.add("limit_hello_bytes")
            raise ApiError(413, "too_large", "Nothing may be sent before the WebSocket is open.")
        self._limiter = InputLimiter(transport, self._limits.hello_bytes, early, self._refuse_too_large)
        try:
            await self.socket.prepare(self.request)
        except ConnectionError:
            if self.socket.prepared:
                raise ClientGoneError from None
            # The middleware ends the response, which is no WebSocket yet.
            raise
        if self._evicted:
            raise RefusedError(Close.TRY_AGAIN, _EVICTED)

    async def first_message(self) -> Message:
        """The first message, text or binary, which must arrive in time and be small.

        Raises:
            RefusedError: it did not arrive in time, is too large, or its address sends too much.
            ClientGoneError: the connection ended.
        """
        received = await self._receive_in_time()
        if received.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            raise ClientGoneError
        assert self._limiter
        self._limiter.first_message_arrived()
        self._unauthenticated.first_message_arrived(self)
        size = len(received.data)
        if size > self._limits.hello_bytes:
            raise self._too_large()
        self.account.pay(size)
        wait = self.account.wait()
        if wait > self._limits.opening_seconds:
            raise RefusedError(Close.TRY_AGAIN, "Too much is sent from this address; try again later.")
        if wait:
            await asyncio.sleep(wait)
        return received

    @asynccontextmanager
    async def time_limit(self) -> AsyncIterator[None]:
        """The time limit for what the server does with the first message.

        Raises:
            RefusedError: it takes too long.
        """
        try:
            async with asyncio.timeout(self._limits.opening_seconds):
                yield
        except TimeoutError:
            self._counters.add("limit_opening_seconds")
            raise RefusedError(Close.TRY_AGAIN, "The server is slow right now; try again later.") from None

    def authenticated(self) -> None:
        """Its student is known: it is no longer counted as unauthenticated."""
        self._unauthenticated.remove(self)

    def lift_limit(self) -> ReceiveMonitor:
        """Accept everything that the client sends from now on.

        Raises:
            ClientGoneError: the connection ended meanwhile.
        """
        if self._limiter is None or self.socket.closed or self.request.transport is None:
            raise ClientGoneError
        return self._limiter.lift()

    async def end(self, code: Close, reason: str) -> None:
        """Close, also while the client is still sending."""
        if self._limiter and self._limiter.holds:
            await self.socket.refuse(code, reason)
        else:
            if self._limiter:
                self._limiter.closing()
            await self.socket.end(code, reason)

    def evict(self) -> None:
        """Close it to make room for another one."""
        self._evicted = True
        if self.socket.prepared:
            in_background(self.socket.end(Close.TRY_AGAIN, _EVICTED, _EVICTION_SECONDS))

    async def _receive_in_time(self) -> Message:
        """The first frame that is not a control frame."""
        try:
            async with asyncio.timeout(self._limits.hello_seconds):
                received = await self.socket.receive()
                while received.type in _CONTROL:
                    if received.type is WSMsgType.PING:
                        await self.socket.pong(received.data)
                    received = await self.socket.receive()
                return received
        except TimeoutError:
            self._counters.add("limit_hello_seconds")
            raise RefusedError(Close.BAD_HELLO, f"No hello came within {self._limits.hello_seconds} seconds.") from None
        except ConnectionError:
            raise ClientGoneError from None

    def _too_large(self) -> RefusedError:
        self._counters.add("limit_hello_bytes")
        return RefusedError(
            Close.BAD_HELLO, f"The first message must not be larger than {self._limits.hello_bytes} bytes."
        )

    def _refuse_too_large(self) -> None:
        refused = self._too_large()
        in_background(self.socket.refuse(refused.code, refused.reason))
