"""The pubsub over XMPP: publishes until it is confirmed, and brings subscriptions back after every loss."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any
from xml.etree.ElementTree import Element

from appliance.counters import Counters
from appliance.errors import BackendError, place_of
from appliance.health import Finding, Health, finding
from appliance.pubsub import PubSub, Subscription
from appliance.pubsub.subscribers import Subscribers
from appliance.pubsub.xmpp import reasons, stanzas
from appliance.pubsub.xmpp.address import SMALLEST_STANZA, node_of, parse
from appliance.pubsub.xmpp.connection import Connection, Pace
from appliance.pubsub.xmpp.examination import examine
from appliance.pubsub.xmpp.inbox import Heard, Inbox
from appliance.pubsub.xmpp.outbox import Outbox
from appliance.pubsub.xmpp.reasons import AwayError, RefusedError, TroubleError
from appliance.pubsub.xmpp.stanzas import Hints
from appliance.tasks import BackOff, Tasks, in_background

log = logging.getLogger(__name__)

WINDOW = 32
"""Requests that may await their answers, one of each topic; what is published meanwhile goes out together after it."""
RESOURCE = "observer-"
CATCH_UP_SECONDS = 1.0
AWAY_SECONDS = 0.05
GOODBYE_SECONDS = 1.0
CREATION_SECONDS = 0.3
"""What another node may need between making a node on the server and letting us in; it is asked some times."""
CREATION_TRIES = 8
NONE: tuple[int, frozenset[int]] = (0, frozenset())


class XmppPubSub(PubSub):
    """Publishes through nodes of an XMPP server that belong to the appliances' accounts alone.

    While the server is away, subscribers in this process still hear what is published here, and all is sent when it
    is back. Subscribers get `RESYNC` in each new session.
    """

    def __init__(
        self,
        url: str,
        counters: Counters,
        queue: int,
        outgoing: int,
        pace: Pace | None = None,
        tasks: Tasks | None = None,
    ) -> None:
        """Args:
        url: where and who, see `address.parse`.
        counters: where reconnections, what was too much and what was refused are counted.
        queue: messages that may wait for one subscriber.
        outgoing: messages that may wait until the server has confirmed those before them.
        pace: how long to wait for what.
        tasks: runs what goes on for ever; None for tasks of its own.

        Raises:
            SettingsError: the URL cannot be used.
        """
        self._address = parse(url)
        self._counters = counters
        self._subscribers = Subscribers(counters, queue)
        self._outbox = Outbox(outgoing, self._address.stanza - stanzas.OVERHEAD)
        self._inbox = Inbox()
        self._name = uuid.uuid4().hex[:12]
        self._pace = pace or Pace()
        self._connection = Connection(
            self._address,
            RESOURCE + self._name,
            self._begin,
            self._lose,
            self._hear,
            self._tell,
            self._pace,
            tasks or Tasks(Health(counters), counters),
        )
        self._window = asyncio.Semaphore(WINDOW)
        self._nodes: dict[str, str] = {}
        self._topics: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        # Of the last publication of a topic that had some: what was heard here before the server was back.
        self._heard_here: dict[str, tuple[int, frozenset[int]]] = {}
        # What was sent last of a topic, until it is confirmed and nothing more waits.
        self._flying: dict[str, Hints] = {}
        self._senders: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        # Topics whose nodes were seen to be ours, and those that we are subscribed to in this session.
        self._made: set[str] = set()
        self._subscribed: set[str] = set()
        self._dead: set[str] = set()
        self._strays: set[str] = set()
        self._echo = asyncio.Event()
        self._warned: set[str] = set()
        self._closed = False

    def findings(self) -> Sequence[Finding]:
        away = self._connection.away
        return () if away is None else (finding("pubsub.away", detail=str(away)),)

    async def publish(self, topic: str, message: bytes) -> None:
        self._open()
        if len(message) > self._outbox.largest:
            self._counters.add("limit_pubsub_stanza")
            self._outbox.resync(topic)
            self._send(topic)
            raise BackendError(
                f"A message of {len(message)} bytes is too large for the XMPP server; raise its limit and stanza= in "
                "pubsub.url. Who listens reads the store again instead."
            )
        away = not self._connection.is_ready
        if not self._outbox.put(topic, message, heard=away):
            self._counters.add("limit_pubsub_outgoing")
            self._warn("The XMPP server is slower than what is published; who listens reads the store again instead.")
        if away:
            self._subscribers.deliver(topic, message)
        self._send(topic)

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[Subscription]:
        self._open()
        await self._reach()
        await self._catch_up(topic)
        try:
            with self._subscribers.subscribed(topic) as subscription:
                try:
                    await self._reconcile(topic)
                except AwayError:
                    # A new session would see to it; one that is taken up again does not.
                    self._in_background(self._insist, topic)
                except TroubleError as trouble:
                    if trouble.final:
                        raise
                    self._in_background(self._insist, topic)
                yield subscription
        finally:
            if not self._closed and topic not in self._subscribers:
                self._in_background(self._reconcile, topic)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._subscribers.end()
        if self._connection.is_ready:
            await self._finish(self._senders.values())
            leaving = [self._ask_to_leave(topic) for topic in self._subscribed]
            await self._finish([in_background(leave, "xmpp", awaited=True) for leave in leaving])
        await self._finish([*self._senders.values(), *self._tasks], seconds=0)
        await self._connection.close()

    async def settle(self) -> None:
        """Wait until all that was published here is confirmed, and heard where this process listens to it."""
        while self._senders:
            await asyncio.wait(self._senders.values())
        for topic in list(self._numbers):
            await self._catch_up(topic)

    async def examine(self) -> AsyncGenerator[Finding, None]:
        self._open()
        await self._connection.known()
        if self._connection.away is not None:
            raise self._connection.away
        async for found in examine(self._connection, self._address):
            yield found
        topic = f"check/{uuid.uuid4()}"
        largest, refused = self._outbox.largest, self._connection.too_large
        try:
            async with self.subscribe(topic) as subscription:
                await self.publish(topic, bytes(largest))
                # That it is heard alone says little: without a connection this process hears itself.
                await anext(aiter(subscription))
                if self._connection.too_large > refused:
                    raise reasons.too_large(self._address)
        finally:
            await self.remove(topic)
        yield finding("xmpp.largest", bytes=largest)

    async def remove(self, topic: str) -> None:
        node = self._node(topic)
        self._made.discard(topic)
        if topic in self._senders:
            await self._finish([self._senders[topic]], seconds=0)
        self._outbox.drop(topic)
        with contextlib.suppress(AwayError, RefusedError, TimeoutError):
            async with asyncio.timeout(self._pace.connect):
                await self._connection.ready()
            # Prosody 0.12 does not forget the subscriptions of a node that is removed.
            await self._let_go(node, self._connection.jid)
            await self._ask("set", stanzas.delete(node))

    def _open(self) -> None:
        if self._closed:
            raise BackendError("The pubsub is closed.")
        self._connection.start()

    async def _reach(self) -> None:
        """Wait for the connection, or for a reason why there is none.

        Raises:
            TroubleError: there never was one, and somebody must change something first.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._connection.known(), self._pace.connect + CATCH_UP_SECONDS)
        trouble = self._connection.away
        if trouble is not None and trouble.final:
            raise trouble

    async def _catch_up(self, topic: str) -> None:
        """Wait until what was published here before is over, so that a new subscriber does not hear it."""
        if not self._connection.is_ready:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_SECONDS):
                if topic in self._senders:
                    await asyncio.wait((self._senders[topic],))
                while topic in self._subscribed and self._inbox.last(topic, self._name) < self._numbers.get(topic, 0):
                    self._echo.clear()
                    await self._echo.wait()

    # Sending.

    def _send(self, topic: str) -> None:
        if topic not in self._senders:
            self._senders[topic] = in_background(self._sender(topic), "xmpp sender")

    async def _sender(self, topic: str) -> None:
        """Send what waits for a topic, one batch after the other, so that the order is kept whatever happens."""
        back_off = BackOff(self._pace.first_pause, self._pace.longest_pause)
        try:
            while topic in self._outbox:
                try:
                    await self._send_batch(topic)
                    back_off.reset()
                except Exception as error:
                    # What was in hand may be lost: who listens reads the store instead.
                    self._counters.add("pubsub_refusals")
                    self._warn(f"Sending to the XMPP server failed ({place_of(error)}); it is tried again.")
                    self._outbox.resync(topic)
                    await asyncio.sleep(back_off.next())
        finally:
            del self._senders[topic]
            self._flying.pop(topic, None)

    async def _send_batch(self, topic: str) -> None:
        await self._connection.ready()
        batch = self._outbox.take(topic)
        if batch is not None:
            number = self._numbers[topic] = self._numbers.get(topic, 0) + 1
            if batch.heard:
                self._heard_here[topic] = (number, batch.heard)
            hints = self._flying[topic] = Hints(self._node(topic), self._name, number, batch.messages)
            await self._deliver(topic, hints)

    async def _deliver(self, topic: str, hints: Hints) -> None:
        """Publish, again and again until it is confirmed."""
        back_off = BackOff(self._pace.first_pause, self._pace.longest_pause)
        while True:
            await self._connection.ready()
            seen = self._connection.too_large
            try:
                async with self._window:
                    await self._make(topic)
                    await self._ask("set", stanzas.publish(hints))
                return
            except AwayError:
                if self._connection.too_large > seen and _size(hints) > SMALLEST_STANZA:
                    self._counters.add("limit_pubsub_stanza")
                    hints = Hints(hints.node, hints.publisher, hints.number, ())
                await asyncio.sleep(AWAY_SECONDS)
                continue
            except RefusedError as refused:
                if refused.condition == "item-not-found":
                    self._removed(topic)
                else:
                    hints = self._put_off(hints, reasons.of_node(refused.condition, self._address))
            except TroubleError as trouble:
                hints = self._put_off(hints, trouble)
            await asyncio.sleep(back_off.next())

    def _put_off(self, hints: Hints, trouble: TroubleError) -> Hints:
        """What to try again later; where somebody must change something first, that may be long, and only the word."""
        self._refuse(trouble)
        return Hints(hints.node, hints.publisher, hints.number, ()) if trouble.final else hints

    def _refuse(self, trouble: TroubleError) -> None:
        self._counters.add("pubsub_refusals")
        self._warn(str(trouble))

    # Nodes and subscriptions.

    async def _begin(self) -> None:
        """Bring a new session to where the last one was.

        Raises:
            TroubleError: there is no pubsub service.
        """
        try:
            answer = await self._ask("get", stanzas.question())
        except RefusedError as refused:
            raise reasons.of_service(refused.condition, self._address) from None
        if not stanzas.is_pubsub(answer):
            raise reasons.of_service("it is something else", self._address)
        if self._connection.sessions > 1:
            self._counters.add("pubsub_reconnections")
        self._inbox.new_session()
        # The server may still know our subscriptions; to subscribe again is harmless and needs no answer to that.
        self._subscribed.clear()
        self._strays.clear()
        await asyncio.gather(*(self._return_to(topic) for topic in self._subscribers.topics()))
        self._subscribers.resync()

    async def _return_to(self, topic: str) -> None:
        try:
            async with self._window:
                await self._reconcile(topic)
        except TroubleError as trouble:
            self._refuse(trouble)
            self._in_background(self._insist, topic)

    async def _insist(self, topic: str) -> None:
        """Try to subscribe again until it works, nobody listens any more, or a new session sees to it."""
        back_off = BackOff(self._pace.first_pause, self._pace.longest_pause)
        while topic in self._subscribers and topic not in self._subscribed:
            await self._connection.ready()
            if topic in self._subscribed:
                # A new session saw to it.
                return
            try:
                await self._reconcile(topic)
                self._subscribers.resync(topic)
            except AwayError:
                await asyncio.sleep(AWAY_SECONDS)
            except TroubleError as trouble:
                self._refuse(trouble)
                await asyncio.sleep(back_off.next())

    def _removed(self, topic: str) -> None:
        """Somebody removed a node on the server, and our subscription with it."""
        self._made.discard(topic)
        self._subscribed.discard(topic)
        self._in_background(self._insist, topic)

    async def _reconcile(self, topic: str) -> None:
        """Subscribe to a topic if anybody here listens to it, and leave it if nobody does.

        Raises:
            TroubleError: we may not.
            AwayError: the connection was lost; a new session sees to it.
        """
        lock = self._locks.setdefault(topic, asyncio.Lock())
        async with lock:
            wanted = topic in self._subscribers
            if wanted == (topic in self._subscribed):
                return
            if not wanted:
                self._subscribed.discard(topic)
                self._inbox.forget(topic)
                await self._let_go(self._node(topic), self._connection.jid)
                return
            try:
                await self._make(topic)
                await self._ask("set", stanzas.subscribe(self._node(topic), self._connection.jid))
            except RefusedError as refused:
                if refused.condition != "item-not-found":
                    raise reasons.of_node(refused.condition, self._address) from None
                self._made.discard(topic)
                await self._make(topic)
                await self._ask("set", stanzas.subscribe(self._node(topic), self._connection.jid))
            self._subscribed.add(topic)

    async def _make(self, topic: str) -> None:
        """See to it, once, that a topic's node is there and belongs to our accounts alone.

        Raises:
            TroubleError: it does not, or we may not make it.
            AwayError: the connection was lost.
        """
        if topic in self._made:
            return
        node = self._node(topic)
        others = [account for account in self._address.nodes if account != self._address.account]
        try:
            await self._ask("set", stanzas.create(node))
            await self._affiliate(node, [(account, "owner") for account in others])
        except RefusedError as refused:
            if refused.condition != "conflict":
                raise reasons.of_node(refused.condition, self._address) from None
            await self._adopt(node)
            self._in_background(self._sweep, node)
        self._made.add(topic)

    async def _adopt(self, node: str) -> None:
        """Take on a node that exists, if it is ours."""
        for attempt in range(CREATION_TRIES):
            try:
                answer = await self._ask("get", stanzas.affiliations(node))
                break
            except RefusedError as refused:
                if refused.condition != "forbidden" or attempt == CREATION_TRIES - 1:
                    raise reasons.of_node(refused.condition, self._address) from None
                await asyncio.sleep(CREATION_SECONDS)
        found = stanzas.affiliations_of(answer)
        strangers = {account: what for account, what in found.items() if account not in self._address.nodes}
        owners = [account for account, what in strangers.items() if what == "owner"]
        if owners:
            raise reasons.of_strangers(owners, self._address)
        changes = [(account, "none") for account in strangers]
        changes += [(account, "owner") for account in self._address.nodes if found.get(account) != "owner"]
        try:
            await self._affiliate(node, changes)
            await self._ask("set", stanzas.configure(node))
        except RefusedError as refused:
            raise reasons.of_node(refused.condition, self._address) from None

    async def _affiliate(self, node: str, changes: list[tuple[str, str]]) -> None:
        # One by one: of several new owners in one request, ejabberd 23.01 keeps but the last.
        for change in changes:
            await self._ask("set", stanzas.affiliations(node, [change]))

    async def _sweep(self, node: str) -> None:
        """End subscriptions that processes of our account left behind when they were killed."""
        own = f"{self._address.account}/{RESOURCE}"
        with contextlib.suppress(RefusedError, AwayError):
            answer = await self._ask("get", stanzas.subscribers(node))
            for address in stanzas.subscribers_of(answer):
                if address.startswith(own) and address != self._connection.jid:
                    if address not in self._dead and await self._connection.is_connected(address):
                        continue
                    self._dead.add(address)
                    await self._let_go(node, address)

    async def _ask_to_leave(self, topic: str) -> None:
        with contextlib.suppress(AwayError):
            await self._let_go(self._node(topic), self._connection.jid)

    async def _let_go(self, node: str, address: str) -> None:
        with contextlib.suppress(RefusedError):
            await self._ask("set", stanzas.unsubscribe(node, address))

    async def _ask(self, kind: Any, payload: Element) -> Element:
        return await self._connection.request(kind, payload, self._address.service)

    # Hearing.

    def _lose(self) -> None:
        """The connection is lost: let this process hear by itself what it has not heard of its own, in order."""
        for topic, sent in self._flying.items():
            number, heard = self._heard_here.get(topic, NONE)
            if self._inbox.last(topic, self._name) < sent.number:
                for place, message in enumerate(sent.messages):
                    if number != sent.number or place not in heard:
                        self._subscribers.deliver(topic, message)
                self._heard_here[topic] = (sent.number, frozenset(range(len(sent.messages))))
        for topic in self._senders:
            for message in self._outbox.hear(topic):
                self._subscribers.deliver(topic, message)

    def _hear(self, sender: str, message: Element) -> None:
        if sender != self._address.service:
            # Anybody with an account can send what looks like an event.
            self._counters.add("pubsub_forged_events")
            return
        for node in stanzas.removals(message):
            topic = self._topics.get(node)
            if topic is not None and topic in self._subscribers:
                self._removed(topic)
        for hints in stanzas.publications(message):
            topic = self._topics.get(hints.node)
            if topic is None or topic not in self._subscribers:
                self._stray(hints.node)
                continue
            heard = self._inbox.hear(topic, hints.publisher, hints.number)
            if heard is Heard.AGAIN:
                self._counters.add("pubsub_repeats")
                continue
            if heard is Heard.GAP:
                self._counters.add("pubsub_gaps")
                self._subscribers.resync(topic)
            if not hints.messages:
                self._subscribers.resync(topic)
            mine = hints.publisher == self._name
            number, already = self._heard_here.get(topic, NONE) if mine else NONE
            for place, part in enumerate(hints.messages):
                if number != hints.number or place not in already:
                    self._subscribers.deliver(topic, part)
            if mine:
                self._echo.set()

    def _stray(self, node: str) -> None:
        """Leave a topic that nobody here listens to, once in a session: its end was not confirmed in the last one."""
        if node not in self._strays and self._topics.get(node) not in self._locks:
            self._strays.add(node)
            self._in_background(self._let_go, node, self._connection.jid)

    def _tell(self, trouble: TroubleError | None) -> None:
        if trouble is None:
            log.warning("The XMPP server is reached again.")
        else:
            log.error("%s", trouble)

    def _warn(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            log.error("%s", sentence)

    def _node(self, topic: str) -> str:
        node = self._nodes.get(topic)
        if node is None:
            node = self._nodes[topic] = node_of(self._address.prefix, topic)
            self._topics[node] = topic
        return node

    def _in_background(self, work: Callable[..., Coroutine[Any, Any, None]], *names: str) -> None:
        async def run() -> None:
            try:
                await work(*names)
            except AwayError:
                pass
            except BackendError as error:
                self._warn(str(error))

        task = in_background(run(), "xmpp")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, tasks: Any, seconds: float = GOODBYE_SECONDS) -> None:
        """Give tasks some time, then end them."""
        tasks = list(tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds) if seconds else (None, tasks)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _size(hints: Hints) -> int:
    return sum(len(message) for message in hints.messages)
