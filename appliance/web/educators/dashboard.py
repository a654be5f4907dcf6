"""One open dashboard: a WebSocket that may read slowly, or not at all."""

from __future__ import annotations

import asyncio
import logging
import time

import msgspec
from aiohttp import ClientError, WSMsgType, web

from appliance.errors import BackendError, place_of
from appliance.tasks import cancelled, in_background
from appliance.web.educators.frames import Body, frame
from appliance.web.security.principal import Principal

log = logging.getLogger(__name__)

ALIVE_SECONDS = 5.0
"""After so long without a frame a dashboard gets "alive"."""
_TRY_LATER = 1013
_INTERNAL = 1011
_UNKNOWN_TYPE = b'{"type":"error","code":"unknown_type","message":"Send {\\"type\\":\\"snapshot\\"}."}'


class Dashboard:
    """One open dashboard.

    Attributes:
        stale: whether it needs a snapshot before it can use updates.
        principal: who opened it, with the classes that the principal sees now.
        placed: whether `class_ids` was set since it was opened.
        only: id of the one class that it asked for; None for all that the principal sees.
        class_ids: the classes whose data it gets. No other class is in a frame that is put together from now on.
    """

    def __init__(
        self, request: web.Request, socket: web.WebSocketResponse, principal: Principal, only: str | None = None
    ) -> None:
        self.stale = True
        self.placed = False
        self.principal = principal
        self.only = only
        self.class_ids: tuple[str, ...] = ()
        self._version = 0
        self._request = request
        self._socket = socket
        self._sent_at = time.monotonic()
        self._progress_at = time.monotonic()
        self._waiting = 0
        self._sending: asyncio.Task[None] | None = None

    def waiting_bytes(self) -> int:
        """Bytes that were sent and that the network has not accepted yet."""
        transport = self._request.transport
        return transport.get_write_buffer_size() if transport else 0

    def keeps_up(self, bytes: int) -> bool:
        """Whether at most this many bytes wait to be sent."""
        return (self._sending is None or self._sending.done()) and self.waiting_bytes() <= bytes

    def sees(self, class_id: str) -> bool:
        """Whether it may show a class and asks for it."""
        return self.only in (None, class_id) and self.principal.sees(class_id)

    def post_frame(self, type: str, body: Body, channel_version: int) -> None:
        """Send a snapshot or an update to a dashboard that keeps up.

        Args:
            type: ``snapshot`` or ``update``.
            body: as `appliance.web.educators.frames` makes it.
            channel_version: version of the channel, which is the version of the frame if only one class was asked for.
        """
        self._version = self._version + 1 if self.only is None else channel_version
        # Put together only when it is sent, so that copies of the body for all dashboards are not in memory together.
        self._sending = in_background(self._send(type, self._version, body), "dashboard")

    def post(self, content: bytes) -> None:
        """Send a frame to a dashboard that keeps up, without waiting: to a slow one it may take long."""
        self._sending = in_background(self.send(content), "dashboard")

    async def send(self, content: bytes) -> None:
        """Send a frame, and wait while much waits to be sent."""
        self._sent_at = time.monotonic()
        try:
            await self._socket.send_frame(content, WSMsgType.TEXT)
        except (ConnectionError, ClientError):
            pass

    async def _send(self, type: str, version: int, body: Body) -> None:
        self._sent_at = time.monotonic()
        try:
            await self._socket.send_frame(frame(type, version, body), WSMsgType.TEXT)
        except (ConnectionError, ClientError):
            pass

    async def wait_for_request(self) -> bool:
        """Wait until the page asks for a snapshot; False once the connection has ended."""
        async for received in self._socket:
            if received.type is WSMsgType.TEXT and _asks_for_snapshot(received.data):
                return True
            await self.send(_UNKNOWN_TYPE)
        return False

    def post_alive(self) -> None:
        """Send a sign of life if nothing was sent for a while."""
        if time.monotonic() - self._sent_at >= ALIVE_SECONDS and self.keeps_up(0):
            self.post(b'{"type":"alive","now":%d}' % (time.time_ns() // 1_000_000))

    def stuck_seconds(self) -> float:
        """For how long the network has accepted nothing of what waits, as seen from one call to the next."""
        now, waiting = time.monotonic(), self.waiting_bytes()
        if waiting != self._waiting or self.keeps_up(0):
            self._progress_at = now
        self._waiting = waiting
        return now - self._progress_at

    def abort(self) -> None:
        """End the connection at once, with all that waits to be sent."""
        if self._request.transport:
            self._request.transport.abort()

    async def close(self, code: int, reason: str) -> None:
        """Close the WebSocket; does nothing if it has ended."""
        await close(self._socket, code, reason)

    async def close_after(self, error: Exception) -> None:
        """Close the WebSocket because of an error, with a reason."""
        if isinstance(error, BackendError):
            await self.close(_TRY_LATER, "The server cannot reach its storage.")
        else:
            log.error("A dashboard failed: %s.", place_of(error))
            await self.close(_INTERNAL, "Something went wrong in the server. The log says where.")

    async def drop(self) -> None:
        """Drop what still waits to be sent, once the connection has ended."""
        if self._sending:
            await cancelled(self._sending)
        if self.waiting_bytes():
            # A transport that is closed keeps these bytes until the client reads them, which may be never.
            self.abort()


async def close(socket: web.WebSocketResponse, code: int, reason: str) -> None:
    """Close a WebSocket; does nothing if it has ended."""
    try:
        await socket.close(code=code, message=reason.encode())
    except (ConnectionError, ClientError):
        pass


def _asks_for_snapshot(text: str) -> bool:
    try:
        return bool(msgspec.json.decode(text, type=dict[str, str]).get("type") == "snapshot")
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return False
