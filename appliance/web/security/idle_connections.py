"""Idle connections: those that have not sent a complete HTTP request, and those that stay open after one.

Anybody in the network can open connections and send nothing, or one byte a minute. So a request must be complete within
a time, the number of idle connections is bounded, and some open files are reserved for the archive. If there are too
many, the oldest one of the address with the most is closed: an attacker closes his own. A connection whose request is
being answered is not idle, so students' and educators' WebSockets are never closed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from aiohttp import web

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.health import files_limit

# Browsers send a complete request within this time, even if a thousand reconnect at once. A younger connection is not
# closed to make room for others.
_GRACE_SECONDS = 2.0
# Counting all open files takes a millisecond for 4,000.
_COUNT_SECONDS = 1.0
LINGER_SECONDS = 5.0
"""For so long aiohttp reads and drops the rest of a request body that was answered early."""
# After the time limit of a slow request there must still be time for its answer.
_ANSWER_SECONDS = LINGER_SECONDS + 1


class _Idle:
    """One idle connection.

    Attributes:
        address: of the client.
        since: when it became idle, by the clock of the event loop.
        timer: closes it at its time limit.
        answered: whether it had an answer, and no byte of another request arrived since.
    """

    __slots__ = ("address", "answered", "since", "timer")

    def __init__(self, address: str, since: float, timer: asyncio.TimerHandle, answered: bool) -> None:
        self.address = address
        self.since = since
        self.timer = timer
        self.answered = answered


class IdleConnections:
    """Bounds idle connections, in time and number."""

    def __init__(self, limits: LimitSettings, counters: Counters) -> None:
        """Args:
        limits: ``request_seconds``, ``idle_seconds``, ``waiting_connections``, ``reserved_files``.
        counters: counts the connections that were closed, by limit.
        """
        self.request_seconds = limits.request_seconds
        self._idle_seconds = limits.idle_seconds
        self._most = limits.waiting_connections
        self._reserved_files = limits.reserved_files
        self._counters = counters
        self._idle: dict[asyncio.Transport, _Idle] = {}
        # The same by address, the oldest first.
        self._by_address: dict[str, dict[asyncio.Transport, None]] = {}
        self._open: set[asyncio.Transport] = set()
        # Open files that are not connections of ours, and when they were counted.
        self._other_files = 0
        self._counted = float("-inf")

    def __len__(self) -> int:
        return len(self._idle)

    def protocol(self, make: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """The protocol factory for `loop.create_server`: it registers each new connection here.

        Args:
            make: creates the protocol that serves a connection.
        """
        return lambda: _RegisteredConnection(self, make)

    def admit(self, transport: asyncio.Transport) -> bool:
        """Register a new connection; False if no more can be open, and it must be closed."""
        self._wait(transport, self.request_seconds, "limit_request_seconds")
        self._open.add(transport)
        while self._needs_reserved_file():
            if not self._close_oldest("limit_reserved_files", besides=transport):
                self._counters.add("limit_reserved_files")
                self.lost(transport)
                return False
        if len(self._idle) > self._most:
            self._close_oldest("limit_waiting_connections", grace=_GRACE_SECONDS)
        return True

    def begin(self, request: web.Request, seconds: float | None = None) -> None:
        """Note that the head of a request arrived; without a body the request is complete.

        Args:
            request: the request.
            seconds: time limit for its body; None for ``request_seconds``.
        """
        transport = request.transport
        if transport is None:
            return
        self._forget(transport)
        if request.can_read_body:
            # `content_of` keeps this limit too, and answers; this timer is for handlers that do not read the body.
            seconds = self.request_seconds if seconds is None else seconds
            self._wait(transport, seconds + _ANSWER_SECONDS, "limit_request_seconds")

    def complete(self, request: web.Request) -> None:
        """Note that a request is complete."""
        if request.transport is not None:
            self._forget(request.transport)

    def answered(self, request: web.Request) -> None:
        """Note that a request was answered; the browser may send another one on the same connection."""
        transport = request.transport
        if transport is not None and not transport.is_closing():
            self._forget(transport)
            self._wait(transport, self._idle_seconds, "limit_idle_seconds", answered=True)

    def received(self, transport: asyncio.Transport) -> None:
        """Note that bytes arrived: after an answer they begin the next request."""
        idle = self._idle.get(transport)
        if idle is not None and idle.answered:
            self._forget(transport)
            self._wait(transport, self.request_seconds, "limit_request_seconds")

    def count_late(self) -> None:
        """Count a request that was refused because its body was too slow."""
        self._counters.add("limit_request_seconds")

    def lost(self, transport: asyncio.Transport) -> None:
        """Note that a connection ended."""
        self._open.discard(transport)
        self._forget(transport)

    def close(self) -> None:
        """Stop all timers."""
        for transport in list(self._idle):
            self._forget(transport)

    def _wait(self, transport: asyncio.Transport, seconds: float, counter: str, *, answered: bool = False) -> None:
        loop = asyncio.get_running_loop()
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        timer = loop.call_later(seconds, self._too_late, transport, counter)
        self._idle[transport] = _Idle(address, loop.time(), timer, answered)
        self._by_address.setdefault(address, {})[transport] = None

    def _forget(self, transport: asyncio.Transport) -> None:
        idle = self._idle.pop(transport, None)
        if idle is None:
            return
        idle.timer.cancel()
        same = self._by_address[idle.address]
        del same[transport]
        if not same:
            del self._by_address[idle.address]

    def _too_late(self, transport: asyncio.Transport, counter: str) -> None:
        if not transport.is_closing():
            self._counters.add(counter)
        self._end(transport)

    def _end(self, transport: asyncio.Transport) -> None:
        self.lost(transport)
        # Not `close`, which waits until the client has read what was sent.
        transport.abort()

    def _close_oldest(self, counter: str, *, grace: float = 0, besides: asyncio.Transport | None = None) -> bool:
        """Close the oldest idle connection of the address with the most; returns whether there was one."""
        most = max(self._by_address.values(), key=len, default={})
        oldest = next((transport for transport in most if transport is not besides), None)
        if oldest is None or asyncio.get_running_loop().time() - self._idle[oldest].since < grace:
            return False
        self._counters.add(counter)
        self._end(oldest)
        return True

    def _needs_reserved_file(self) -> bool:
        """Whether the open connections use files that are reserved for others."""
        most = files_limit.limit()
        if most is None or len(self._open) < most // 4:
            return False
        now = asyncio.get_running_loop().time()
        if now - self._counted > _COUNT_SECONDS:
            self._counted = now
            used = files_limit.usage()
            if used is not None:
                self._other_files = max(0, used[0] - len(self._open))
        return len(self._open) + self._other_files > most - min(self._reserved_files, most // 4)


class _RegisteredConnection(asyncio.Protocol):
    """A connection that is registered with `IdleConnections` and served by the protocol that `make` creates."""

    def __init__(self, connections: IdleConnections, make: Callable[[], asyncio.Protocol]) -> None:
        self._connections = connections
        self._make = make
        self._transport: asyncio.Transport | None = None
        self._serving: asyncio.Protocol | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        opened = cast(asyncio.Transport, transport)
        if not self._connections.admit(opened):
            opened.abort()
            return
        self._transport = opened
        self._serving = self._make()
        self._serving.connection_made(opened)

    def data_received(self, data: bytes) -> None:
        if self._serving is not None and self._transport is not None:
            self._connections.received(self._transport)
            self._serving.data_received(data)

    def eof_received(self) -> bool | None:
        return self._serving.eof_received() if self._serving is not None else None

    def pause_writing(self) -> None:
        if self._serving is not None:
            self._serving.pause_writing()

    def resume_writing(self) -> None:
        if self._serving is not None:
            self._serving.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._connections.lost(self._transport)
        if self._serving is not None:
            self._serving.connection_lost(exc)
