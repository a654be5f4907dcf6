"""Strangers: connections that have not shown yet whose they are.

They are counted apart from students' connections, in all and by address. Where there are too many, the one that has
been silent for longest goes, so that a new one always gets a place: an honest client says hello at once. They may send
little, and wait for little.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import WSMsgType, web

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.tasks import in_background
from appliance.web.errors import ApiError
from appliance.web.students.budget import Account
from appliance.web.students.protocol import Close
from appliance.web.students.sockets import Ear, Gate, Message, StudentSocket, came_early, close

_SILENT = "Too many connections say nothing, this one for longest. Come back later."
# Nobody is waited for much longer who said nothing so far.
_EVICTION_SECONDS = 0.25
_CONTROL = (WSMsgType.PING, WSMsgType.PONG)
"""Frames that are no message."""


class RefusedError(Exception):
    """A connection is refused, or ended by the server.

    Attributes:
        code: the close code.
        reason: a sentence for the person who reads it.
    """

    def __init__(self, code: Close, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class GoneError(Exception):
    """The client has closed the connection or lost it; there is nobody to answer."""


def address_of(request: web.Request) -> str:
    """The address by which a client is counted. Of IPv6 the network counts: one computer has 2^64 addresses."""
    remote = request.remote or ""
    try:
        address = ipaddress.ip_address(remote.partition("%")[0])
    except ValueError:
        return remote
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class Guest:
    """One connection, from its request until it is known whose it is.

    Attributes:
        request: what asked for the connection.
        socket: the WebSocket; open once `arrive` has returned.
        address: by which it is counted.
        account: the budget of that address.
    """

    def __init__(
        self, request: web.Request, limits: LimitSettings, counters: Counters, account: Account, address: str
    ) -> None:
        self.request = request
        self.socket = StudentSocket(request, limits.frame_bytes)
        self.address = address
        self.account = account
        self._limits = limits
        self._counters = counters
        self._gate: Gate | None = None
        self._dismissed = False
        self._strangers: Strangers | None = None

    async def arrive(self) -> None:
        """Open the WebSocket.

        Raises:
            ApiError: the client sent more than it may before it was answered.
            HTTPException: the request asks for no WebSocket.
            RefusedError: it had to make room for another one meanwhile.
            GoneError: the connection ended.
        """
        transport = self.request.transport
        if transport is None:
            raise GoneError
        early = came_early(self.request)
        if early > self._limits.hello_bytes:
            self._counters.add("limit_hello_bytes")
            raise ApiError(413, "too_large", "Nothing may be sent before the WebSocket is open.")
        self._gate = Gate(transport, self._limits.hello_bytes, early, self._too_much)
        await self.socket.prepare(self.request)
        if self._dismissed:
            raise RefusedError(Close.TRY_AGAIN, _SILENT)

    async def first(self) -> Message:
        """The first message, text or binary, which must come in time and be small.

        Raises:
            RefusedError: it did not come in time, is too large, or its address sends too much.
            GoneError: the connection ended.
        """
        limits = self._limits
        try:
            async with asyncio.timeout(limits.hello_seconds):
                received = await self.socket.receive()
                while received.type in _CONTROL:
                    if received.type is WSMsgType.PING:
                        await self.socket.pong(received.data)
                    received = await self.socket.receive()
        except TimeoutError:
            self._counters.add("limit_hello_seconds")
            raise RefusedError(Close.BAD_HELLO, f"No hello came within {limits.hello_seconds} seconds.") from None
        except ConnectionError:
            raise GoneError from None
        if received.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            raise GoneError
        assert self._gate
        self._gate.greeted()
        if self._strangers:
            self._strangers.spoke(self)
        size = len(received.data)
        if size > limits.hello_bytes:
            raise self._too_large()
        self.account.pay(size)
        wait = self.account.wait()
        if wait > limits.opening_seconds:
            raise RefusedError(Close.TRY_AGAIN, "Too much is sent from this address; come back later.")
        if wait:
            await asyncio.sleep(wait)
        return received

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[None]:
        """What the server does with the first message, within a time of its own.

        Raises:
            RefusedError: it takes too long.
        """
        try:
            async with asyncio.timeout(self._limits.opening_seconds):
                yield
        except TimeoutError:
            self._counters.add("limit_opening_seconds")
            raise RefusedError(Close.TRY_AGAIN, "The server is slow just now; come back later.") from None

    def known(self) -> None:
        """It is known whose it is: it is a stranger no more."""
        if self._strangers:
            self._strangers.remove(self)

    def welcome(self) -> Ear:
        """Let through all that the client sends from now on.

        Raises:
            GoneError: it has gone meanwhile.
        """
        if self._gate is None or self.socket.closed or self.request.transport is None:
            raise GoneError
        return self._gate.open()

    async def end(self, code: Close, reason: str) -> None:
        """Close, also while more is being sent than was read."""
        if self._gate and self._gate.holds:
            await self.socket.refuse(code, reason)
        else:
            if self._gate:
                self._gate.ending()
            await close(self.socket, code, reason)

    def dismiss(self) -> None:
        """Make room for another one."""
        self._dismissed = True
        if self.socket.prepared:
            in_background(close(self.socket, Close.TRY_AGAIN, _SILENT, _EVICTION_SECONDS))

    def _too_large(self) -> RefusedError:
        self._counters.add("limit_hello_bytes")
        return RefusedError(
            Close.BAD_HELLO, f"The first message must not be larger than {self._limits.hello_bytes} bytes."
        )

    def _too_much(self) -> None:
        refused = self._too_large()
        in_background(self.socket.refuse(refused.code, refused.reason))


class _Group:
    """Strangers in the order in which they came: the silent ones, and those whose first message is being answered."""

    __slots__ = ("silent", "spoke")

    def __init__(self) -> None:
        self.silent: dict[Guest, None] = {}
        self.spoke: dict[Guest, None] = {}

    def __len__(self) -> int:
        return len(self.silent) + len(self.spoke)

    def oldest(self) -> Guest:
        """Whose turn it is to go."""
        return next(iter(self.silent or self.spoke))

    def remove(self, guest: Guest) -> None:
        self.silent.pop(guest, None)
        self.spoke.pop(guest, None)


class Strangers:
    """All strangers of this node."""

    def __init__(self, limits: LimitSettings, counters: Counters) -> None:
        self._limits = limits
        self._counters = counters
        self._all = _Group()
        self._by_address: dict[str, _Group] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, guest: Guest) -> None:
        """Count one more, and send another away where there are too many."""
        group = self._by_address.get(guest.address)
        if group is not None and len(group) >= self._limits.strangers_per_address:
            self._evict(group.oldest(), "limit_strangers_per_address")
        if len(self._all) >= self._limits.strangers:
            self._evict(self._all.oldest(), "limit_strangers")
        guest._strangers = self
        self._all.silent[guest] = None
        self._by_address.setdefault(guest.address, _Group()).silent[guest] = None

    def spoke(self, guest: Guest) -> None:
        """The first message of one came."""
        if guest in self._all.silent:
            for group in (self._all, self._by_address[guest.address]):
                del group.silent[guest]
                group.spoke[guest] = None

    def remove(self, guest: Guest) -> None:
        """One has gone, or is a stranger no more."""
        self._all.remove(guest)
        group = self._by_address.get(guest.address)
        if group is not None:
            group.remove(guest)
            if not group:
                del self._by_address[guest.address]

    def guests(self) -> list[Guest]:
        """All of them."""
        return [*self._all.silent, *self._all.spoke]

    def _evict(self, guest: Guest, counter: str) -> None:
        self._counters.add(counter)
        self.remove(guest)
        guest.dismiss()
