"""Students' WebSockets below any protocol: text frames as bytes, and closes that a client can read."""

from __future__ import annotations

import asyncio
import struct
from typing import Literal

from aiohttp import ClientError, WSCloseCode, WSMsgType, web
from aiohttp.http import WSMessageNoDecodeText as Message

from appliance.counters import Counters
from appliance.web.students.input_limits import resume_reading
from appliance.web.students.protocol import Close

__all__ = ("CLOSE_SECONDS", "Message", "StudentSocket")

CLOSE_SECONDS = 3.0
"""How long a close waits for the client, which may never answer."""

# RFC 6455 allows a close reason of this length.
_REASON_BYTES = 123
# aiohttp waits this long for the answer to a close frame.
_ANSWER_SECONDS = 2.0
_DISCARD_SECONDS = 0.5
_DISCARD_ROUNDS = 20
_DISCARD_BYTES = 64 * 1024 * 1024


class StudentSocket(web.WebSocketResponse[Literal[False]]):
    """A WebSocket that gives text frames as bytes, and closes with the protocol's own codes."""

    def __init__(self, request: web.Request, frame_bytes: int, counters: Counters) -> None:
        """Args:
        request: asks for the WebSocket.
        frame_bytes: size of the largest frame that is accepted.
        counters: counts frames that were too large.
        """
        # aiohttp refuses a message of exactly max_msg_size bytes too.
        super().__init__(
            max_msg_size=frame_bytes + 1, autoping=False, compress=False, timeout=_ANSWER_SECONDS, decode_text=False
        )
        self._request = request
        self._counters = counters

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Close; aiohttp calls this with 1009 if a message is too large."""
        if code == WSCloseCode.MESSAGE_TOO_BIG:
            self._counters.add("limit_frame_bytes")
            await self.refuse(Close.FRAME_TOO_LARGE, "A frame was too large; see limits.frame_bytes.")
        return await super().close(code=code, message=message, drain=drain)

    async def end(self, code: Close, reason: str, seconds: float = CLOSE_SECONDS) -> None:
        """Close, and abort the connection if the client does not answer within `seconds`."""
        transport = self._request.transport
        try:
            async with asyncio.timeout(seconds):
                await self.close(code=code, message=_shortened(reason))
        except TimeoutError:
            if transport is not None:
                transport.abort()
        except (ConnectionError, ClientError):
            pass

    async def refuse(self, code: Close, reason: str) -> None:
        """Close while the client is still sending.

        A TCP connection that is closed with unread bytes is reset, and the client would never see the code.
        """
        transport = self._request.transport
        if self.closed or transport is None:
            return
        try:
            await self.send_frame(struct.pack("!H", code) + _shortened(reason), WSMsgType.CLOSE)
            await _Discard(transport).finish()
        except (ConnectionError, ClientError):
            pass
        transport.close()
        await super().close(code=code)


class _Discard(asyncio.Protocol):
    """Reads and drops what a client is still sending."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._previous = transport.get_protocol()
        self._bytes = 0
        self._lost = asyncio.Event()
        transport.set_protocol(self)
        resume_reading(transport)

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        self._previous.connection_lost(exc)

    async def finish(self) -> None:
        """Return when the client has gone or pauses, or has sent as much as is waited for."""
        for _ in range(_DISCARD_ROUNDS):
            before = self._bytes
            try:
                async with asyncio.timeout(_DISCARD_SECONDS):
                    await self._lost.wait()
                return
            except TimeoutError:
                if self._bytes == before or self._bytes > _DISCARD_BYTES:
                    break
        self._transport.set_protocol(self._previous)


def _shortened(reason: str) -> bytes:
    return reason.encode()[:_REASON_BYTES].decode(errors="ignore").encode()
