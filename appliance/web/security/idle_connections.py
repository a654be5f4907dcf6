"""Connections that wait: those that have not sent a whole HTTP request, and those that are open after one.

Anybody in the network can open connections and say nothing, or a letter a minute. So a request must be whole after a
time, the number of connections that wait is bounded, and some open files are kept back for the archive. Where too many
wait, the one that has waited longest at the address with the most of them is closed: who floods closes his own. A
connection whose request is being served does not wait, so students' and educators' WebSockets are never closed here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from aiohttp import http_exceptions, web

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.errors import place_of
from appliance.health import files_limit

# A whole request is on its way within this time, even where a thousand browsers come back at once. So long a
# connection is not closed for others.
_GRACE_SECONDS = 2.0
# Counting all open files takes a millisecond for 4,000.
_COUNT_SECONDS = 1.0
# So long aiohttp goes on to read and drop the body of a request that was answered early.
LINGER_SECONDS = 5.0
# What the answer to a request takes that came too slowly, over and above its time.
_ANSWER_SECONDS = LINGER_SECONDS + 1


class _Waiting:
    """One connection that waits."""

    __slots__ = ("address", "idle", "since", "timer")

    def __init__(self, address: str, since: float, timer: asyncio.TimerHandle, idle: bool) -> None:
        self.address = address
        self.since = since
        self.timer = timer
        self.idle = idle
        """Whether it had an answer, and nothing of another request has come."""


class Strangers:
    """Bounds the connections that wait, in time and number."""

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
        self._waiting: dict[asyncio.Transport, _Waiting] = {}
        # The same, by address; each oldest first.
        self._by_address: dict[str, dict[asyncio.Transport, None]] = {}
        self._open: set[asyncio.Transport] = set()
        # Files that are open and no connections of ours, and when they were counted.
        self._other_files = 0
        self._counted = float("-inf")

    def __len__(self) -> int:
        return len(self._waiting)

    def protocol(self, make: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """What `loop.create_server` calls for each new connection.

        Args:
            make: makes the protocol that serves a connection.
        """
        return lambda: _Arrival(self, make)

    def admit(self, transport: asyncio.Transport) -> bool:
        """Take a new connection; returns False where no more can be open, and it must be closed."""
        self._wait(transport, self.request_seconds, "limit_request_seconds")
        self._open.add(transport)
        while self._needs_reserved_file():
            if not self._close_oldest("limit_reserved_files", besides=transport):
                self._counters.add("limit_reserved_files")
                self.lost(transport)
                return False
        if len(self._waiting) > self._most:
            self._close_oldest("limit_waiting_connections", grace=_GRACE_SECONDS)
        return True

    def begin(self, request: web.Request, seconds: float | None = None) -> None:
        """The head of a request is here; it is whole where it has no body.

        Args:
            request: the request.
            seconds: in which its body must be here; None for ``request_seconds``.
        """
        transport = request.transport
        if transport is None:
            return
        self._forget(transport)
        if request.can_read_body:
            # Whoever reads the body bounds its time too, and answers; this is for handlers that do not read it.
            seconds = self.request_seconds if seconds is None else seconds
            self._wait(transport, seconds + _ANSWER_SECONDS, "limit_request_seconds")

    def whole(self, request: web.Request) -> None:
        """All of a request is here."""
        if request.transport is not None:
            self._forget(request.transport)

    def answered(self, request: web.Request) -> None:
        """A request has its answer; the browser may send another one on the same connection."""
        transport = request.transport
        if transport is not None and not transport.is_closing():
            self._forget(transport)
            self._wait(transport, self._idle_seconds, "limit_idle_seconds", idle=True)

    def heard(self, transport: asyncio.Transport) -> None:
        """Something came: on a connection that was idle the next request has begun."""
        waiting = self._waiting.get(transport)
        if waiting is not None and waiting.idle:
            self._forget(transport)
            self._wait(transport, self.request_seconds, "limit_request_seconds")

    def count_late(self) -> None:
        """Count a request whose body did not come in time, and which was answered so."""
        self._counters.add("limit_request_seconds")

    def lost(self, transport: asyncio.Transport) -> None:
        """A connection has ended."""
        self._open.discard(transport)
        self._forget(transport)

    def close(self) -> None:
        """Watch nothing any more."""
        for transport in list(self._waiting):
            self._forget(transport)

    def _wait(self, transport: asyncio.Transport, seconds: float, counter: str, *, idle: bool = False) -> None:
        loop = asyncio.get_running_loop()
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        timer = loop.call_later(seconds, self._too_late, transport, counter)
        self._waiting[transport] = _Waiting(address, loop.time(), timer, idle)
        self._by_address.setdefault(address, {})[transport] = None

    def _forget(self, transport: asyncio.Transport) -> None:
        waiting = self._waiting.pop(transport, None)
        if waiting is None:
            return
        waiting.timer.cancel()
        same = self._by_address[waiting.address]
        del same[transport]
        if not same:
            del self._by_address[waiting.address]

    def _too_late(self, transport: asyncio.Transport, counter: str) -> None:
        if not transport.is_closing():
            self._counters.add(counter)
        self._end(transport)

    def _end(self, transport: asyncio.Transport) -> None:
        self.lost(transport)
        # Not `close`, which waits until the other side has read what it was sent.
        transport.abort()

    def _close_oldest(self, counter: str, *, grace: float = 0, besides: asyncio.Transport | None = None) -> bool:
        """Close the connection that has waited longest at the address with the most; returns whether there was one."""
        most = max(self._by_address.values(), key=len, default={})
        oldest = next((transport for transport in most if transport is not besides), None)
        if oldest is None or asyncio.get_running_loop().time() - self._waiting[oldest].since < grace:
            return False
        self._counters.add(counter)
        self._end(oldest)
        return True

    def _needs_reserved_file(self) -> bool:
        """Whether the connections that are open have files that are kept back."""
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


class _Arrival(asyncio.Protocol):
    """The first moment of a connection: it is counted, and then served by the protocol that `make` makes."""

    def __init__(self, strangers: Strangers, make: Callable[[], asyncio.Protocol]) -> None:
        self._strangers = strangers
        self._make = make
        self._transport: asyncio.Transport | None = None
        self._serving: asyncio.Protocol | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        opened = cast(asyncio.Transport, transport)
        if not self._strangers.admit(opened):
            opened.abort()
            return
        self._transport = opened
        self._serving = self._make()
        self._serving.connection_made(opened)

    def data_received(self, data: bytes) -> None:
        if self._serving is not None and self._transport is not None:
            self._strangers.heard(self._transport)
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
            self._strangers.lost(self._transport)
        if self._serving is not None:
            self._serving.connection_lost(exc)


class ServerLog(logging.Logger):
    """What aiohttp's server logs, without the text of errors: that may be what a student sent.

    Requests that are no HTTP are counted (``bad_requests``) and not logged: anybody can send thousands.
    """

    def __init__(self, counters: Counters) -> None:
        super().__init__("aiohttp.server", logging.DEBUG)
        self.parent = logging.getLogger("aiohttp.server")
        self._counters = counters

    def handle(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, http_exceptions.HttpProcessingError):
            self._counters.add("bad_requests")
            return
        if record.levelno < logging.INFO:
            return
        if error is not None:
            # The message of aiohttp's own names the other side's address at the most.
            record.msg, record.args = "A request failed in a way that is not foreseen: %s.", (place_of(error),)
            record.exc_info = record.exc_text = None
        super().handle(record)
