"""Educators' sessions: signed cookies that hold the time of their end, and the connections that use them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from aiohttp import web

from appliance.web.security.signed_out import SignedOut, session_hash

SESSION_SECONDS = 12 * 3600


class Sessions:
    """The sessions of educators' browsers. Only those that ended early are stored; a cookie proves the others.

    Attributes:
        key: signs the cookies.
        signed_out: the sessions that ended early.
    """

    def __init__(self, key: bytes, signed_out: SignedOut) -> None:
        """Args:
        key: signs the cookies.
        signed_out: the sessions that ended early; it reports those that another node ended.
        """
        self.key = key
        self.signed_out = signed_out
        signed_out.on_ended = self._close_connections
        # By hash of their session, the connections of requests that are being answered.
        self._in_use: dict[str, set[asyncio.BaseTransport]] = {}

    def start(self, request: web.Request, response: web.StreamResponse) -> None:
        """Start a session: set its cookie in the response."""
        value = f"{int(time.time()) + SESSION_SECONDS}.{secrets.token_urlsafe(12)}"
        response.set_cookie(
            cookie_name(request),
            f"{value}.{self._sign(value)}",
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="Strict",
            secure=request.secure,
            path="/",
        )

    async def end(self, request: web.Request, response: web.StreamResponse) -> None:
        """End the session of a request for good, on all nodes, and delete its cookie.

        Raises:
            OSError: the end cannot be stored; the session continues.
        """
        session = self.of(request)
        if session is not None:
            await self.signed_out.add(session, _until(session))
            self._close_connections(session_hash(session), besides=request.transport)
        response.del_cookie(cookie_name(request), path="/")

    def of(self, request: web.Request) -> str | None:
        """The valid session of a request: the content of its cookie without the signature; None if it has none."""
        cookie = request.cookies.get(cookie_name(request))
        return cookie.rpartition(".")[0] if cookie is not None and self._is_valid(cookie) else None

    @contextmanager
    def in_use(self, request: web.Request) -> Iterator[None]:
        """While a request is answered, close its connection if its session ends. A WebSocket may last for hours."""
        session, transport = self.of(request), request.transport
        if session is None or transport is None:
            yield
            return
        name = session_hash(session)
        self._in_use.setdefault(name, set()).add(transport)
        try:
            yield
        finally:
            connections = self._in_use[name]
            connections.discard(transport)
            if not connections:
                del self._in_use[name]

    @property
    def connections(self) -> int:
        """How many connections are registered by `in_use`."""
        return sum(map(len, self._in_use.values()))

    def _close_connections(self, session: str, besides: asyncio.BaseTransport | None = None) -> None:
        """Close the connections of a session.

        Args:
            session: its hash.
            besides: the connection of the request that ends the session; it still needs its answer.
        """
        for transport in self._in_use.get(session, set()) - {besides}:
            transport.close()

    def _is_valid(self, cookie: str) -> bool:
        value, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign(value).encode()):
            return False
        until = _until(value)
        return until > time.time() and not self.signed_out.has(value, until - SESSION_SECONDS)

    def _sign(self, value: str) -> str:
        return hmac.new(self.key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def cookie_name(request: web.Request) -> str:
    """The session cookie's name. Cookies ignore ports, so two appliances on one computer need two names."""
    port = urlsplit(f"//{request.host}").port or 80
    return f"classroom_observer_{port}"


def _until(session: str) -> int:
    """When a session that we signed ends by itself, in seconds since the epoch."""
    return int(session.partition(".")[0])
