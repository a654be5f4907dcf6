"""Educators' sessions in their browsers: the cookie, whose session it is, and the connections that use it.

A session is a row of the roster's store. What was read of it is used for a few seconds, so that a request costs no
read. The end of a session and a change of an account apply at once at the node where that was done, and at those where
its hint arrives; a node that misses the hint reads the sessions of open WebSockets again within seconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from aiohttp import web

from appliance.errors import BackendError
from appliance.listeners import Listeners
from appliance.pubsub.hints import Hints, Listening
from appliance.roster.sessions import SEEN_SECONDS, SignedIn, StoredSessions, session_hash
from appliance.roster.tables import Session
from appliance.tasks import Supervised, in_background
from appliance.web.security.agents import agent_in_words
from appliance.web.security.principal import NOBODY, OWNER, PRINCIPAL, Principal

log = logging.getLogger(__name__)

TOPIC = "sessions"
FRESH_SECONDS = 3.0
"""How long what was read of a session is used."""
RECHECK_SECONDS = 3.0
"""How often the sessions of open WebSockets are read."""
AWAY_SECONDS = 600.0
"""How long what was read of a session is used while the store cannot be reached: no session can end meanwhile."""
_CLEAN_SECONDS = 3600.0
_KEPT = 10_000
"""Sessions of which is remembered what was read; the least recently used ones are read again."""
_COOKIE_CHARACTERS = 64
_UNSTORED = 20
"""Sessions that may go on although they could not be stored."""

SESSION = web.RequestKey("session", SignedIn)
"""The key under which a request keeps its session."""


class _Use:
    """The connections that use a session.

    Attributes:
        principal: of the session.
        transports: of requests that are being answered.
    """

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.transports: set[asyncio.BaseTransport] = set()


class Sessions:
    """The sessions of educators' browsers.

    Attributes:
        on_change: called with the new principal of each open session whose account has changed.
    """

    def __init__(self, stored: StoredSessions, hints: Hints | None = None) -> None:
        """Args:
        stored: the sessions in the roster's store.
        hints: announce to other nodes that sessions or accounts have changed; None where no other node uses the store.
        """
        self.on_change: Listeners[[Principal]] = Listeners("a change of an account")
        self._stored = stored
        self._hints = hints
        self._listening: Listening | None = None
        # By hash: what was read, and when.
        self._known: OrderedDict[str, tuple[SignedIn | None, float]] = OrderedDict()
        # By hash: sessions that could not be stored, the oldest first.
        self._unstored: dict[str, SignedIn] = {}
        self._in_use: dict[str, _Use] = {}
        self._changes = 0

    async def start(self, request: web.Request, response: web.StreamResponse, educator_id: str, how: str) -> None:
        """Begin a session: store it, and set its cookie in the response. A session that the browser has ends.

        Args:
            request: the request of the browser.
            response: the answer to it.
            educator_id: of the account; "" for the owner of the appliance.
            how: ``link``, ``password``, ``token`` or ``pairing``.

        Raises:
            BackendError: it cannot be stored. A session by a link begins even so, and lasts until the program ends.
        """
        before = await self.of(request)
        agent = agent_in_words(request.headers.get("User-Agent", ""))
        value, session = self._stored.new(educator_id, how, agent)
        try:
            await self._stored.add(session)
        except BackendError:
            if how != "link":
                raise
            # The owner, at this computer, must see what is wrong with it.
            self._keep_unstored(session)
        if before is not None:
            await self._end(before.session.session_hash)
        response.set_cookie(
            cookie_name(request),
            value,
            max_age=round(session.until - session.created),
            httponly=True,
            samesite="Strict",
            secure=request.secure,
            path="/",
        )

    async def end(self, request: web.Request, response: web.StreamResponse) -> None:
        """End the session of a request for good, at all nodes, and delete its cookie.

        Raises:
            BackendError: the end cannot be stored; the session goes on.
        """
        signed_in = request.get(SESSION)
        if signed_in is not None:
            await self._end(signed_in.session.session_hash, besides=request.transport)
        response.del_cookie(cookie_name(request), path="/")

    async def of(self, request: web.Request) -> SignedIn | None:
        """The valid session of a request; None if it has none.

        Raises:
            BackendError: the store cannot be reached, and it is not known from before.
        """
        cookie = request.cookies.get(cookie_name(request))
        if cookie is None or len(cookie) > _COOKIE_CHARACTERS:
            return None
        signed_in = await self._read(session_hash(cookie))
        now = time.time()
        if signed_in is None or not signed_in.is_valid(now):
            return None
        if now - signed_in.session.seen >= SEEN_SECONDS:
            self._touch(signed_in, now)
        return signed_in

    async def authenticate(self, request: web.Request) -> Principal:
        """The principal of the session of a request, which is kept with the request.

        Raises:
            BackendError: as `of`.
        """
        signed_in = await self.of(request)
        if signed_in is None:
            return NOBODY
        request[SESSION] = signed_in
        return principal_of_session(signed_in)

    async def stored_hash(self, request: web.Request) -> str:
        """The hash of the session of a request, "" if it has none. One that could not be stored before is stored now.

        Raises:
            BackendError: it cannot be stored.
        """
        signed_in: SignedIn | None = request.get(SESSION)
        if signed_in is None:
            return ""
        name = signed_in.session.session_hash
        if name in self._unstored:
            await self._stored.add(signed_in.session)
            if self._unstored.pop(name, None) is None:
                # It ended meanwhile.
                await self._stored.end(name)
        return name

    @contextmanager
    def in_use(self, request: web.Request) -> Iterator[None]:
        """While a request is answered, close its connection if its session ends. A WebSocket may last for hours."""
        signed_in, transport = request.get(SESSION), request.transport
        if signed_in is None or transport is None:
            yield
            return
        name = signed_in.session.session_hash
        use = self._in_use.setdefault(name, _Use(principal_of_session(signed_in)))
        # The account may have changed while this request waited for a reading of it.
        request[PRINCIPAL] = use.principal
        use.transports.add(transport)
        try:
            yield
        finally:
            use.transports.discard(transport)
            if not use.transports and self._in_use.get(name) is use:
                del self._in_use[name]

    @property
    def connections(self) -> int:
        """How many connections are registered by `in_use`."""
        return sum(len(use.transports) for use in self._in_use.values())

    @property
    def is_listening(self) -> bool:
        """Whether hints of other nodes arrive."""
        return self._listening is not None and self._listening.live

    async def changed(self, besides: asyncio.BaseTransport | None = None) -> None:
        """Apply what was changed in the store: sessions that ended, accounts that changed. Never raises.

        Args:
            besides: a connection that is not closed; the request that made the change still needs its answer.
        """
        await self._apply(besides)
        if self._hints is not None:
            await self._hints.send_surely(TOPIC, b"{}")

    def listen(self) -> None:
        """Listen to the hints of other nodes from now on."""
        if self._hints is not None:
            self._listening = self._hints.listen(
                "sessions.hints", TOPIC, owner="node", on_message=self._on_message, reread=self._reread, polls=False
            )

    async def run(self, task: Supervised) -> None:
        """Read the sessions of open WebSockets again every `RECHECK_SECONDS`, and remove old rows. An endless task.

        Raises:
            BackendError: the store cannot be reached.
        """
        cleaned = float("-inf")
        while True:
            if time.monotonic() - cleaned >= _CLEAN_SECONDS:
                await self._stored.remove_ended()
                cleaned = time.monotonic()
            await asyncio.sleep(RECHECK_SECONDS)
            await self.recheck()
            task.works()

    async def recheck(self, besides: asyncio.BaseTransport | None = None) -> None:
        """Read the sessions that are in use: close the connections of those that ended, report changed accounts.

        Raises:
            BackendError: the store cannot be reached.
        """
        names = list(self._in_use)
        if not names:
            return
        found = await self._read_stored(names)
        now = time.time()
        for name, signed_in in zip(names, found, strict=True):
            use = self._in_use.get(name)
            if use is None:
                continue
            if signed_in is None or not signed_in.is_valid(now):
                self._close_connections(use, besides)
            elif (principal := principal_of_session(signed_in)) != use.principal:
                use.principal = principal
                self.on_change(principal)

    async def close(self) -> None:
        """Listen no more."""
        if self._listening is not None:
            await self._listening.close()

    async def _end(self, name: str, besides: asyncio.BaseTransport | None = None) -> None:
        if self._unstored.pop(name, None) is None:
            await self._stored.end(name)
        # A store that is away from now on must not make it valid again.
        self._known[name] = (None, time.monotonic())
        await self.changed(besides)

    async def _apply(self, besides: asyncio.BaseTransport | None = None) -> None:
        self._changes += 1
        # While the store is away, an old reading is better than none; it is as if the hint had been missed.
        self._known = OrderedDict((name, (known, min(at, _stale()))) for name, (known, at) in self._known.items())
        try:
            await self.recheck(besides)
        except BackendError:
            # `run` tries again.
            log.warning("Sessions could not be read after a change; they are read again in a few seconds.")

    async def _on_message(self, message: bytes) -> None:
        await self._apply()

    async def _reread(self, missed: bool) -> None:
        await self._apply()

    def _keep_unstored(self, session: Session) -> None:
        self._unstored[session.session_hash] = SignedIn(session)
        while len(self._unstored) > _UNSTORED:
            del self._unstored[next(iter(self._unstored))]

    async def _read(self, name: str) -> SignedIn | None:
        if name in self._unstored:
            return self._unstored[name]
        known = self._known.get(name)
        age = time.monotonic() - known[1] if known is not None else float("inf")
        if known is not None and age < FRESH_SECONDS:
            self._known.move_to_end(name)
            return known[0]
        try:
            [signed_in] = await self._read_stored([name])
        except BackendError:
            if known is None or age >= AWAY_SECONDS:
                raise
            return known[0]
        return signed_in

    async def _read_stored(self, names: list[str]) -> list[SignedIn | None]:
        while True:
            changes, began = self._changes, time.monotonic()
            stored = await self._stored.read(names)
            found = [self._unstored.get(name, one) for name, one in zip(names, stored, strict=True)]
            if changes == self._changes:
                break
        for name, signed_in in zip(names, found, strict=True):
            self._known[name] = (signed_in, began)
            self._known.move_to_end(name)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return found

    def _touch(self, signed_in: SignedIn, now: float) -> None:
        async def touch() -> None:
            try:
                await self._stored.note_use(signed_in.session, now)
            except BackendError:
                # The next request tries again.
                pass

        in_background(touch(), "session use")

    def _close_connections(self, use: _Use, besides: asyncio.BaseTransport | None) -> None:
        for transport in use.transports - {besides}:
            transport.close()


def principal_of_session(signed_in: SignedIn) -> Principal:
    """The principal of a valid session."""
    educator = signed_in.educator
    if educator is None:
        return OWNER if not signed_in.session.educator_id else NOBODY
    class_ids = None if educator.role == "administrator" else frozenset(educator.class_ids)
    return Principal("educator", educator.role, educator.educator_id, class_ids)


def cookie_name(request: web.Request) -> str:
    """The session cookie's name. Cookies ignore ports, so two appliances on one computer need two names."""
    port = urlsplit(f"//{request.host}").port or 80
    return f"classroom_observer_{port}"


def _stale() -> float:
    """The time of a reading that is just too old to be used while the store can be reached."""
    return time.monotonic() - FRESH_SECONDS
