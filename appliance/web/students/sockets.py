"""Students' WebSockets below any protocol: how they close, and how little may be sent before a client is known."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable
from typing import Literal, cast

from aiohttp import ClientError, WSCloseCode, WSMsgType, web
from aiohttp.http import WSMessageNoDecodeText as Message

from appliance.web.students.protocol import Close

__all__ = ("CLOSE_SECONDS", "Ear", "Gate", "Message", "StudentSocket", "came_early", "close")

CLOSE_SECONDS = 3.0
"""How long a close waits for the other side, which may never answer."""

# RFC 6455 gives a reason so many bytes.
_REASON_BYTES = 123
# aiohttp waits for so long for the answer to a close frame.
_ANSWER_SECONDS = 2.0
_DISCARD_SECONDS = 0.5
_DISCARD_ROUNDS = 20
_DISCARD_BYTES = 64 * 1024 * 1024
# Room for the headers of the first frames, and for a ping beside them.
_HEADERS = 256


class StudentSocket(web.WebSocketResponse[Literal[False]]):
    """A WebSocket whose text frames are given as bytes, and which closes with the protocol's own codes."""

    def __init__(self, request: web.Request, frame_bytes: int) -> None:
        """Args:
        request: what asks for it.
        frame_bytes: the largest message that is taken.
        """
        # aiohttp refuses a message of max_msg_size bytes too.
        super().__init__(
            max_msg_size=frame_bytes + 1, autoping=False, compress=False, timeout=_ANSWER_SECONDS, decode_text=False
        )
        self._request = request

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Close; called by aiohttp with 1009 where a message is too large."""
        if code == WSCloseCode.MESSAGE_TOO_BIG:
            await self.refuse(Close.FRAME_TOO_LARGE, "A frame was too large; see limits.frame_bytes.")
        return await super().close(code=code, message=message, drain=drain)

    async def refuse(self, code: Close, reason: str) -> None:
        """Close while the client is still sending.

        A TCP connection that is closed with unread bytes is reset, and the client would never see the code.
        """
        transport = self._request.transport
        if self.closed or transport is None:
            return
        try:
            await self.send_frame(struct.pack("!H", code) + _shortened(reason), WSMsgType.CLOSE)
            await _Discard(transport).rest()
        except (ConnectionError, ClientError):
            pass
        transport.close()
        await super().close(code=code)


async def close(socket: StudentSocket, code: Close, reason: str, seconds: float = CLOSE_SECONDS) -> None:
    """Close a WebSocket, and end its connection where the other side does not answer in time."""
    transport = socket._request.transport
    try:
        async with asyncio.timeout(seconds):
            await socket.close(code=code, message=_shortened(reason))
    except TimeoutError:
        if transport is not None:
            transport.abort()
    except (ConnectionError, ClientError):
        pass


class _Discard(asyncio.Protocol):
    """Reads on and throws away what a client is still sending."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._before = transport.get_protocol()
        self._bytes = 0
        self._lost = asyncio.Event()
        transport.set_protocol(self)
        _resume(transport)

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        self._before.connection_lost(exc)

    async def rest(self) -> None:
        """Return when the client has gone or is quiet, or has been given time and bytes enough."""
        for _ in range(_DISCARD_ROUNDS):
            before = self._bytes
            try:
                async with asyncio.timeout(_DISCARD_SECONDS):
                    await self._lost.wait()
                return
            except TimeoutError:
                if self._bytes == before or self._bytes > _DISCARD_BYTES:
                    break
        self._transport.set_protocol(self._before)


class _Between(asyncio.Protocol):
    """Stands between a transport and the protocol that it had."""

    def __init__(self, transport: asyncio.Transport, behind: asyncio.Protocol) -> None:
        self._transport = transport
        self._behind = behind
        transport.set_protocol(self)

    def eof_received(self) -> bool | None:
        return self._behind.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._behind.connection_lost(exc)

    def pause_writing(self) -> None:
        self._behind.pause_writing()

    def resume_writing(self) -> None:
        self._behind.resume_writing()


class Ear(_Between):
    """Notes that bytes came: of a large message on a slow line nothing else is noticed for long.

    Attributes:
        heard: whether any came since this was last set to False.
    """

    def __init__(self, transport: asyncio.Transport, behind: asyncio.Protocol) -> None:
        self.heard = True
        self._receive = behind.data_received
        super().__init__(transport, behind)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        self._receive(data)


class Gate(_Between):
    """Lets so many bytes through to aiohttp until the client is known, and no more.

    aiohttp's compiled reader gathers a message of any declared length up to its limit, and that limit cannot be raised
    later (https://docs.aiohttp.org/en/stable/web_reference.html, ``max_msg_size``). So a small limit for the first
    message is kept here, below aiohttp.
    """

    def __init__(self, transport: asyncio.Transport, size: int, before: int, too_much: Callable[[], None]) -> None:
        """Args:
        transport: the client's.
        size: bytes of messages that may come before `open`.
        before: bytes that came already.
        too_much: called once when more came, and no whole message.
        """
        self._left = size + _HEADERS - before
        self._too_much = too_much
        self._greeted = False
        self._ending = False
        self._paused = False
        self._held = b""
        super().__init__(transport, cast(asyncio.Protocol, transport.get_protocol()))

    def data_received(self, data: bytes) -> None:
        if self._greeted or self._paused:
            self._hold(data)
            return
        room = max(0, self._left)
        self._left -= len(data)
        if self._left >= 0:
            self._behind.data_received(data)
            return
        if room:
            self._behind.data_received(data[:room])
        if not self._ending:
            # Perhaps the first message is whole, and what follows is for later: then whoever waits for it runs before
            # this does.
            self._hold(data[room:])
            asyncio.get_running_loop().call_soon(self._judge)

    @property
    def holds(self) -> bool:
        """Whether more came than was let through."""
        return bool(self._held)

    def greeted(self) -> None:
        """The first message came: what follows waits until `open`."""
        self._greeted = True

    def ending(self) -> None:
        """The connection is being closed: the client's answer to that gets through, and nothing is kept for later."""
        self._ending = True
        self._greeted = False

    def open(self) -> Ear:
        """The client is known: aiohttp gets everything from now on."""
        ear = Ear(self._transport, self._behind)
        held, self._held = self._held, b""
        if self._paused:
            _resume(self._transport)
        if held:
            # After the reading was resumed: aiohttp may stop it again for what it gets here.
            ear.data_received(held)
        return ear

    def _hold(self, data: bytes) -> None:
        self._held += data
        if not self._paused:
            self._paused = True
            with contextlib.suppress(RuntimeError):
                self._transport.pause_reading()

    def _judge(self) -> None:
        if not self._greeted and not self._ending:
            self._held = b""
            self._too_much()


def came_early(request: web.Request) -> int:
    """How many bytes a client sent behind its request, before it was answered; RFC 6455 forbids that.

    aiohttp keeps them in this attribute and nowhere else, and feeds them to the reader when it is made: without asking,
    some hundred kilobytes for each connection would get past the `Gate`. aiohttp may rename it, which a test notices.
    """
    return len(getattr(request.protocol, "_message_tail", b""))


def _resume(transport: asyncio.Transport) -> None:
    # A transport that is closing, or reads already, may say so in this way.
    with contextlib.suppress(RuntimeError):
        transport.resume_reading()


def _shortened(reason: str) -> bytes:
    return reason.encode()[:_REASON_BYTES].decode(errors="ignore").encode()
