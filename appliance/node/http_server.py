"""The HTTP server of a node: runs the web application on a listening socket."""

from __future__ import annotations

import asyncio
import socket
import sys

from aiohttp import web

from appliance.counters import Counters
from appliance.web.app import WebApp
from appliance.web.security import LINGER_SECONDS
from appliance.web.server_log import ServerLog

# All students of a school may connect at the same moment. They wait in the system's queue, and the event loop accepts
# this many of them in one turn; between turns it serves those who are connected. Windows accepts one at a time, and the
# length of its queue cannot be changed later.
_BACKLOG = 1024
_ACCEPTED_AT_ONCE = 16 if sys.platform != "win32" else _BACKLOG


class HttpServer:
    """Accepts connections for the web application."""

    def __init__(self, app: WebApp, counters: Counters) -> None:
        self._app = app
        self._counters = counters
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Accept connections on a bound socket."""
        self._runner = web.AppRunner(
            self._app.application,
            handle_signals=False,
            access_log=None,
            shutdown_timeout=1.0,
            auto_decompress=False,
            lingering_time=LINGER_SECONDS,
            logger=ServerLog(self._counters),
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self._server = await asyncio.get_running_loop().create_server(
            self._app.idle_connections.protocol(self._runner.server), sock=listener, backlog=_ACCEPTED_AT_ONCE
        )
        # The event loop accepts as many in one turn as its `backlog`; the system's queue may be longer.
        listener.listen(_BACKLOG)

    @property
    def lost(self) -> bool:
        """Whether it was started and does not accept connections any more."""
        return self._server is not None and not self._server.is_serving()

    def stop_accepting(self) -> None:
        """Accept no new connections; open ones stay."""
        if self._server:
            self._server.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._runner:
            await self._runner.cleanup()
