"""One account's connection to an XMPP server, opened again whenever it is lost.

slixmpp speaks the protocol. This module adds what slixmpp lacks: trying again at a pace of ours, one sentence for each
reason of failure, and giving up a link that is silent. A short loss is bridged by the server (XEP-0198): the session
goes on, and nothing was missed. Otherwise a new session begins, and `Owner.new_session` prepares it before `ready`
returns.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Literal
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

import msgspec
from slixmpp import ClientXMPP
from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.util.sasl.mechanisms import SCRAM
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from appliance.errors import SettingsError
from appliance.pubsub.xmpp import reasons, stanzas
from appliance.pubsub.xmpp.reasons import AwayError, RefusedError, TroubleError
from appliance.pubsub.xmpp.url import DIRECT_TLS_PORT, XmppUrl
from appliance.tasks import BackOff, Supervised, Tasks, cancelled, in_background

# Its texts quote stanzas, and we report its errors as sentences of our own.
logging.getLogger("slixmpp").setLevel(logging.CRITICAL)


def _salted(mechanism: Any, password: bytes, salt: bytes, rounds: int) -> bytes:
    """The function Hi of RFC 5802, which is PBKDF2 (RFC 8018)."""
    return hashlib.pbkdf2_hmac(mechanism.hash_name.replace("-", ""), password, salt, rounds)


def _escaped(text: str, use_cdata: bool = False) -> str:
    """Text, escaped for XML."""
    return escape(text, {"'": "&apos;", '"': "&quot;"})


# slixmpp runs the ten thousand rounds of a login, and goes through each letter that it sends, in Python: the event loop
# would stand still for some tenths of a second. It offers no other way to replace the two.
SCRAM.Hi = _salted
importlib.import_module("slixmpp.xmlstream.tostring").escape = _escaped  # type: ignore[attr-defined]

LATE_REASON_SECONDS = 0.1
DEAD = frozenset({"service-unavailable", "recipient-unavailable", "item-not-found", "gone"})
"""Conditions with which a server answers for an address that is not connected."""


class Pace(msgspec.Struct, frozen=True):
    """Seconds.

    Attributes:
        connect: for one attempt, from the network connection to the session.
        answer: the server has for an answer, before the link counts as dead.
        ping: between two signs of life that are asked for.
        first_pause, longest_pause: before trying again; doubled each time, with some chance in it.
        final_pause: before trying again if an administrator must change something first.
    """

    connect: float = 8.0
    answer: float = 15.0
    ping: float = 15.0
    first_pause: float = 0.2
    longest_pause: float = 30.0
    final_pause: float = 60.0


class _Client(ClientXMPP):  # type: ignore[misc]
    """slixmpp's client with two changes.

    It has no timer of its own for trying again, which would wait up to five minutes; and the task that sends stanzas,
    which slixmpp starts and never ends, can be ended.
    """

    _sending: asyncio.Task[None] | None = None

    def reschedule_connection_attempt(self) -> None:
        """Called by slixmpp after an attempt to connect failed."""
        self.event("not_connected")

    def run_filters(self) -> asyncio.Task[None]:
        """Start the task that sends stanzas; slixmpp takes it as it would take the coroutine of its own method."""
        self._sending = asyncio.get_running_loop().create_task(super().run_filters())
        return self._sending

    def stop_sending(self) -> None:
        """Cancel the task that sends stanzas."""
        if self._sending is not None:
            self._sending.cancel()


class Owner(msgspec.Struct, frozen=True):
    """The functions that a connection calls.

    Attributes:
        new_session: awaited in each new session; may raise `RefusedError`, `AwayError` or `TroubleError`.
        lost: called when `XmppConnection.is_ready` ends to be true.
        event: gets each message with a pubsub event, after the address that sent it.
        away_changed: gets each change of `XmppConnection.away`.
    """

    new_session: Callable[[], Awaitable[None]]
    lost: Callable[[], None]
    event: Callable[[str, Element], None]
    away_changed: Callable[[TroubleError | None], None]


class XmppConnection:
    """The connection. `start` it once, inside the event loop.

    Attributes:
        away: why there is no working session now; None where there is one, or one is just being made.
        too_large: how often the server ended the connection because a stanza was too large.
        sessions: how many sessions there were.
        pace: how long it waits for what.
        client: slixmpp's; None before `start`.
    """

    def __init__(self, url: XmppUrl, resource: str, owner: Owner, pace: Pace, tasks: Tasks) -> None:
        """Args:
        url: where and who.
        resource: distinguishes this process from others with the same account.
        owner: is called when something happens.
        pace: how long to wait for what.
        tasks: runs the task that keeps it up.

        Raises:
            SettingsError: the file of the authorities cannot be used.
        """
        self.away: TroubleError | None = None
        self.too_large = 0
        self.sessions = 0
        self.pace = pace
        self._url = url
        self._resource = resource
        self._owner = owner
        self._tasks = tasks
        self._context = _context(url)
        self.client: Any = None
        self._task: Supervised | None = None
        self._ready = asyncio.Event()
        # Set once there is a session that is ready, or trouble.
        self._known = asyncio.Event()
        self._condition = ""
        self._reason: TroubleError | None = None

    def start(self) -> None:
        """Connect, and stay connected."""
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._started: asyncio.Future[bool] = loop.create_future()
            self._lost: asyncio.Future[None] = loop.create_future()
            self._over: asyncio.Future[None] = loop.create_future()
            self.client = self._make_client()
            self._task = self._tasks.run("pubsub.connection", self._run, owner="pubsub", says_so=True)

    @property
    def is_ready(self) -> bool:
        """Whether requests can be made now."""
        return self._ready.is_set()

    @property
    def jid(self) -> str:
        """Our full address in this session."""
        return str(self.client.boundjid.full)

    async def ready(self) -> None:
        """Wait for a session that is ready."""
        await self._ready.wait()

    async def known(self) -> None:
        """Wait until there is a session that is ready, or a reason why not."""
        await self._known.wait()

    async def request(
        self, kind: Literal["get", "set"], payload: Element, to: str, *, expendable: bool = False
    ) -> Element:
        """Send a request, and wait for the answer.

        Args:
            kind: whether to ask or to change.
            payload: the content of the request.
            to: the address that is asked.
            expendable: whether the link may be well without an answer.

        Raises:
            RefusedError: the answer is an error.
            AwayError: there was no answer in time, or there is no session.
        """
        client, over = self.client, self._over
        if not client.is_connected() or over.done() or self.sessions == 0:
            raise AwayError
        iq = client.make_iq()
        iq["type"] = kind
        iq["to"] = to
        iq.append(payload)
        answer: asyncio.Future[Any] = iq.send(timeout=self.pace.answer)
        # If nobody waits for it any more, its error is ignored.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait((answer, over), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise AwayError
        try:
            found: Element = answer.result().xml
        except IqError as error:
            raise RefusedError(error.iq["error"]["condition"]) from None
        except IqTimeout:
            if not expendable:
                client.abort()
            raise AwayError from None
        return found

    @property
    def is_managed(self) -> bool:
        """Whether an interrupted session can be resumed (XEP-0198)."""
        return bool(self.client.plugin["xep_0198"].enabled_in)

    def encryption(self) -> tuple[str | None, datetime]:
        """The version of TLS, None where there is none, and when the server's certificate expires."""
        if not isinstance(self.client.socket, ssl.SSLObject):
            return None, datetime.max.replace(tzinfo=UTC)
        found: Any = self.client.socket.getpeercert()
        return self.client.socket.version(), datetime.fromtimestamp(ssl.cert_time_to_seconds(found["notAfter"]), UTC)

    async def is_connected(self, address: str) -> bool:
        """Whether an address is connected to its server; True if that is not known."""
        try:
            await self.request("get", stanzas.ping(), address, expendable=True)
        except RefusedError as refused:
            return refused.condition not in DEAD
        return True

    async def close(self) -> None:
        """End the session and disconnect."""
        if self._task is None:
            return
        await self._tasks.end(self._task)
        client = self.client
        client.cancel_connection_attempt()
        if client.is_connected():
            # Only a session is ended by a stanza, which needs time.
            client.disconnect(wait=1.0 if client.authenticated else 0.0)
            await asyncio.wait((self._lost,), timeout=1.5)
            client.abort()
        client.stop_sending()

    async def _run(self, task: Supervised) -> None:
        back_off = BackOff(self.pace.first_pause, self.pace.longest_pause)
        # A start before this one, which ended with an error, may have left a connection.
        await self._drop()
        while True:
            try:
                await self._live(task)
                back_off.reset()
            except TroubleError as trouble:
                self._set_away(trouble)
                if trouble.final:
                    await asyncio.sleep(self.pace.final_pause * random.uniform(0.5, 1.0))
                    continue
            await asyncio.sleep(back_off.next())

    async def _live(self, task: Supervised) -> None:
        """Connect, and stay until the connection is lost.

        Raises:
            TroubleError: there was no session, or the server said why it ended.
        """
        loop = asyncio.get_running_loop()
        self._started, self._lost = loop.create_future(), loop.create_future()
        self._reason, self._condition = None, ""
        self._connect()
        try:
            async with asyncio.timeout(self.pace.connect):
                resumed = await self._started
        except TimeoutError:
            await self._drop()
            raise reasons.silent(self.pace.connect, self._url) from None
        except TroubleError:
            await self._drop()
            raise
        pings = in_background(self._ping(), "xmpp pings", awaited=True)
        try:
            if not resumed:
                await self._begin()
            self._ready.set()
            self._set_away(None)
            task.works()
            await asyncio.wait((self._lost, pings), return_when=asyncio.FIRST_COMPLETED)
            if not self._lost.done():
                # The pings ended, by an error or because there was no answer.
                pings.result()
                await self._drop()
        finally:
            self._not_ready()
            await cancelled(pings)
        if self._reason is not None:
            raise self._reason

    def _connect(self) -> None:
        url = self._url
        if url.host:
            self.client.connect(url.host.strip("[]"), url.port or 5222)
        elif url.port:
            self.client.connect(url.domain, url.port)
        else:
            self.client.connect()

    async def _begin(self) -> None:
        """Let the owner prepare a new session; ends early if the connection is lost."""
        begun = in_background(_awaited(self._owner.new_session), "xmpp session", awaited=True)
        try:
            await asyncio.wait((begun, self._lost), return_when=asyncio.FIRST_COMPLETED)
            if not begun.done():
                raise self._reason or TroubleError("The XMPP server ended a new connection at once. It is tried again.")
            begun.result()
        except RefusedError as refused:
            await self._drop()
            raise reasons.of_node(refused.condition, self._url) from None
        except AwayError:
            await self._drop()
            raise self._reason or TroubleError("The XMPP server does not answer. It is tried again.") from None
        except TroubleError:
            await self._drop()
            raise
        finally:
            begun.cancel()

    async def _drop(self) -> None:
        """Close the network connection, if there is one."""
        self.client.cancel_connection_attempt()
        if self.client.is_connected():
            self.client.abort()
            await asyncio.wait((self._lost,), timeout=1.0)

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(self.pace.ping)
            try:
                await self.request("get", stanzas.ping(), self._url.domain)
            except RefusedError:
                pass  # Any answer shows that the link works.
            except AwayError:
                return

    def _set_away(self, trouble: TroubleError | None) -> None:
        self._known.set()
        if str(trouble) != str(self.away):
            self.away = trouble
            self._owner.away_changed(trouble)

    def _make_client(self) -> _Client:
        url = self._url
        # Without our context slixmpp reads this computer's certificates twice, which takes a fifth of a second.
        client = _Client(f"{url.account}/{self._resource}", url.password, ssl_context=self._context)
        client.register_plugin("xep_0198")
        client.register_plugin("xep_0199")
        encrypted = url.tls == "required"
        client.enable_starttls = encrypted
        # Direct TLS is tried if DNS names it; at a configured port only if that is the port reserved for it.
        client.enable_direct_tls = (
            encrypted and url.port in (None, DIRECT_TLS_PORT) and not (url.host and url.port is None)
        )
        client.enable_plaintext = not encrypted
        if not encrypted:
            client.plugin["feature_mechanisms"].unencrypted_scram = True
            client.plugin["feature_mechanisms"].unencrypted_plain = True
        client.register_handler(
            Callback("Hints", MatchXPath(f"{{jabber:client}}message/{{{stanzas.EVENT}}}event"), self._on_event)
        )
        for name, handler in {
            "session_start": self._new_session,
            "session_resumed": self._resumed,
            "session_end": self._session_over,
            "disconnected": self._disconnected,
            "connection_failed": self._not_reached,
            "not_connected": self._not_connected,
            "ssl_invalid_chain": self._bad_certificate,
            "failed_auth": self._login_refused,
            "failed_all_auth": self._no_login,
            "stream_negotiated": self._negotiated,
            "stream_error": self._stream_error,
        }.items():
            client.add_event_handler(name, handler)
        return client

    # Events of slixmpp, in the order in which they happen.

    def _not_reached(self, error: object) -> None:
        self._reason = reasons.of_network(error, self._url)

    def _not_connected(self, _: object) -> None:
        self._fail(self._reason or reasons.of_network(OSError(), self._url))

    def _bad_certificate(self, error: ssl.SSLError) -> None:
        self._fail(reasons.of_certificate(error, self._url))

    def _login_refused(self, failure: Any) -> None:
        self._condition = failure["condition"]

    def _no_login(self, _: object) -> None:
        if self._condition:
            self._fail(reasons.of_login(self._condition, self._url))
        else:
            encrypted = "starttls" in self.client.features or isinstance(self.client.socket, ssl.SSLObject)
            self._fail(reasons.no_login(encrypted, self._url))

    def _negotiated(self, _: object) -> None:
        if not self.client.authenticated:
            self._no_login(None)

    def _stream_error(self, error: Any) -> None:
        condition, text = error["condition"], (error["text"] or "").lower()
        if condition == "policy-violation" and ("large" in text or "big" in text):
            self.too_large += 1
            self._fail(reasons.too_large(self._url))
        elif "no stream features" in text:
            self._no_login(None)
        else:
            self._fail(reasons.of_stream(condition, self._url))

    def _new_session(self, _: object) -> None:
        self._session_over(None)
        self._over = asyncio.get_running_loop().create_future()
        self.sessions += 1
        # Below zero, so that only stanzas for this very connection arrive.
        self.client.send_presence(ppriority=-1)
        if not self._started.done():
            self._started.set_result(False)

    def _resumed(self, _: object) -> None:
        if not self._started.done():
            self._started.set_result(True)

    def _session_over(self, _: object) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _not_ready(self) -> None:
        if self._ready.is_set():
            self._ready.clear()
            self._owner.lost()
        if self.away is None:
            self._known.clear()

    def _disconnected(self, _: object) -> None:
        # At once: nobody who waits for a session may find one that is gone.
        self._not_ready()
        if not self._started.done():
            # slixmpp reports a bad certificate only after the end.
            asyncio.get_running_loop().call_later(LATE_REASON_SECONDS, self._ended_early, self._started)
        if not self._lost.done():
            self._lost.set_result(None)

    def _ended_early(self, started: asyncio.Future[bool]) -> None:
        if started is self._started and not started.done():
            self._fail(self._reason or TroubleError("The XMPP server ended the connection. It is tried again."))

    def _fail(self, reason: TroubleError) -> None:
        self._reason = reason
        if not self._started.done():
            self._started.set_exception(reason)
            # Nobody may be waiting for it any more.
            self._started.exception()

    def _on_event(self, message: Any) -> None:
        if message["type"] != "error":
            self._owner.event(str(message["from"]), message.xml)


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def _context(url: XmppUrl) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=url.ca or None)
    except (ssl.SSLError, OSError):
        raise SettingsError(f"pubsub.url has ca={url.ca}, which is not a file of certificates in PEM form.") from None
