"""What a client may send before it is authenticated, and when it last sent something; both are kept below aiohttp.

Each of these protocols is put between a transport and aiohttp's own protocol, and passes on what it lets through.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

from aiohttp import web

# Room for the headers of the first frames, and for a ping beside them.
_HEADER_BYTES = 256


class _ProtocolProxy(asyncio.Protocol):
    """Passes the calls of a transport on to the protocol that it had before."""

    def __init__(self, transport: asyncio.Transport, inner: asyncio.Protocol) -> None:
        self._transport = transport
        self._inner = inner
        transport.set_protocol(self)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


class ReceiveMonitor(_ProtocolProxy):
    """Notes that bytes arrived: of a large message on a slow line aiohttp reports nothing for a long time.

    Attributes:
        received: whether any bytes arrived since this was last set to False.
    """

    def __init__(self, transport: asyncio.Transport, inner: asyncio.Protocol) -> None:
        self.received = True
        self._pass_on = inner.data_received
        super().__init__(transport, inner)

    def data_received(self, data: bytes) -> None:
        self.received = True
        self._pass_on(data)


class InputLimiter(_ProtocolProxy):
    """Passes a bounded number of bytes on to aiohttp until the client is authenticated.

    aiohttp's compiled reader collects a message of any declared length up to its limit, and that limit cannot be raised
    later (https://docs.aiohttp.org/en/stable/web_reference.html, ``max_msg_size``). So the small limit for the first
    message is kept here.
    """

    def __init__(self, transport: asyncio.Transport, size: int, early: int, exceeded: Callable[[], None]) -> None:
        """Args:
        transport: the client's.
        size: bytes of messages that may arrive before `lift`.
        early: bytes that arrived already.
        exceeded: called once if more arrived without a complete message.
        """
        self._left = size + _HEADER_BYTES - early
        self._exceeded = exceeded
        self._first_message = False
        self._closing = False
        self._paused = False
        self._held = b""
        super().__init__(transport, cast(asyncio.Protocol, transport.get_protocol()))

    def data_received(self, data: bytes) -> None:
        if self._first_message or self._paused:
            self._hold(data)
            return
        room = max(0, self._left)
        self._left -= len(data)
        if self._left >= 0:
            self._inner.data_received(data)
            return
        if room:
            self._inner.data_received(data[:room])
        if not self._closing:
            # The first message may be complete, and the rest may be for later. Then the task that waits for it runs
            # before this check does.
            self._hold(data[room:])
            asyncio.get_running_loop().call_soon(self._check)

    @property
    def holds(self) -> bool:
        """Whether more bytes arrived than were passed on."""
        return bool(self._held)

    def first_message_arrived(self) -> None:
        """Hold what follows the first message until `lift`."""
        self._first_message = True

    def closing(self) -> None:
        """The connection is being closed: pass on the client's answer to that, and hold nothing for later."""
        self._closing = True
        self._first_message = False

    def lift(self) -> ReceiveMonitor:
        """The client is authenticated: pass on everything from now on."""
        monitor = ReceiveMonitor(self._transport, self._inner)
        held, self._held = self._held, b""
        if self._paused:
            resume_reading(self._transport)
        if held:
            # After reading was resumed: aiohttp may pause it again because of these bytes.
            monitor.data_received(held)
        return monitor

    def _hold(self, data: bytes) -> None:
        self._held += data
        if not self._paused:
            self._paused = True
            with contextlib.suppress(RuntimeError):
                self._transport.pause_reading()

    def _check(self) -> None:
        if not self._first_message and not self._closing:
            self._held = b""
            self._exceeded()


def early_bytes(request: web.Request) -> int:
    """How many bytes a client sent behind its request, before it was answered; RFC 6455 forbids that.

    aiohttp keeps them in this private attribute and nowhere else, and passes them to the reader when it is created:
    without this check some hundred kilobytes for each connection would bypass the `InputLimiter`. The version of
    aiohttp is bounded in pyproject.toml, and a test fails if the attribute is renamed.
    """
    return len(getattr(request.protocol, "_message_tail", b""))


def resume_reading(transport: asyncio.Transport) -> None:
    """Resume reading; a transport that is closing, or reads already, may raise, and that is ignored."""
    with contextlib.suppress(RuntimeError):
        transport.resume_reading()
