"""The pubsub over XMPP: publishes until it is confirmed, and brings subscriptions back after every loss."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from xml.etree.ElementTree import Element

from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.health import Finding, Health, finding
from appliance.pubsub import PubSub, Subscription
from appliance.pubsub.subscribers import Subscribers
from appliance.pubsub.xmpp import reasons, stanzas
from appliance.pubsub.xmpp.background import Background, finish
from appliance.pubsub.xmpp.connection import Owner, Pace, XmppConnection
from appliance.pubsub.xmpp.examine import examine
from appliance.pubsub.xmpp.inbox import Arrival, Inbox
from appliance.pubsub.xmpp.nodes import RESOURCE, TopicNodes
from appliance.pubsub.xmpp.reasons import AwayError, RefusedError, TroubleError
from appliance.pubsub.xmpp.sender import Sender
from appliance.pubsub.xmpp.stanzas import Publication
from appliance.pubsub.xmpp.subscriptions import Subscriptions
from appliance.pubsub.xmpp.url import parse_url
from appliance.tasks import Tasks, in_background

log = logging.getLogger(__name__)

CATCH_UP_SECONDS = 1.0


class XmppPubSub(PubSub):
    """Publishes through nodes of an XMPP server that belong to the appliances' accounts alone.

    While the server is away, subscribers in this process still receive what is published here, and all is sent when it
    is back. Subscribers get `RESYNC` in each new session.

    Attributes:
        connection: to the server.
        subscriptions: on the server.
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
        url: where and who, see `url.parse_url`.
        counters: count reconnections, refusals and the limits that were hit.
        queue: messages that may wait for one subscriber.
        outgoing: messages that may wait until the server has confirmed those before them.
        pace: how long to wait for what.
        tasks: runs the task of the connection; None for tasks of its own.

        Raises:
            SettingsError: the URL cannot be used.
        """
        self._url = parse_url(url)
        self._counters = counters
        self._subscribers = Subscribers(counters, queue)
        self._inbox = Inbox()
        self._background = Background(counters)
        name = uuid.uuid4().hex[:12]
        pace = pace or Pace()
        self.connection = XmppConnection(
            self._url,
            RESOURCE + name,
            Owner(self._new_session, self._connection_lost, self._on_event, self._log_trouble),
            pace,
            tasks or Tasks(Health(counters), counters),
        )
        self._nodes = TopicNodes(self._url, self.connection, self._background)
        self.subscriptions = Subscriptions(self._nodes, self._subscribers, self._inbox, self._background, pace)
        self._sender = Sender(
            name,
            outgoing,
            self._nodes,
            self.subscriptions,
            self._subscribers,
            self._inbox,
            self._background,
            counters,
        )
        # Set whenever something of our own came back.
        self._echo = asyncio.Event()
        self._closed = False

    def findings(self) -> Sequence[Finding]:
        away = self.connection.away
        return () if away is None else (finding("pubsub.away", detail=str(away)),)

    async def publish(self, topic: str, message: bytes) -> None:
        self._start()
        self._sender.publish(topic, message)

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[Subscription]:
        self._start()
        await self._reach()
        await self._catch_up(topic)
        try:
            with self._subscribers.subscribed(topic) as subscription:
                try:
                    await self.subscriptions.reconcile(topic)
                except AwayError:
                    # A new session would see to it; one that is resumed does not.
                    self.subscriptions.keep_trying(topic)
                except TroubleError as trouble:
                    if trouble.final:
                        raise
                    self.subscriptions.keep_trying(topic)
                yield subscription
        finally:
            if not self._closed and topic not in self._subscribers:
                self._background.run(self.subscriptions.reconcile, topic)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._subscribers.end()
        if self.connection.is_ready:
            await finish(self._sender.tasks)
            leaving = self.subscriptions.leaving()
            await finish([in_background(leave, "xmpp", awaited=True) for leave in leaving])
        await finish(self._sender.tasks, seconds=0)
        await self._background.close()
        await self.connection.close()

    async def settle(self) -> None:
        """Wait until all that was published here is confirmed, and received if this process is subscribed to it."""
        while self._sender.tasks:
            await asyncio.wait(self._sender.tasks)
        for topic in self._sender.topics():
            await self._catch_up(topic)

    async def examine(self) -> AsyncGenerator[Finding, None]:
        self._start()
        await self.connection.known()
        if self.connection.away is not None:
            raise self.connection.away
        async for found in examine(self.connection, self._url):
            yield found
        topic = f"check/{uuid.uuid4()}"
        largest, refused = self._sender.largest, self.connection.too_large
        try:
            async with self.subscribe(topic) as subscription:
                await self.publish(topic, bytes(largest))
                # Receiving it proves little: without a connection this process receives its own messages.
                await anext(aiter(subscription))
                if self.connection.too_large > refused:
                    raise reasons.too_large(self._url)
        finally:
            await self.remove(topic)
        yield finding("xmpp.largest", bytes=largest)

    async def remove(self, topic: str) -> None:
        self._nodes.forget(topic)
        await self._sender.drop(topic)
        with contextlib.suppress(AwayError, RefusedError, TimeoutError):
            async with asyncio.timeout(self.connection.pace.connect):
                await self.connection.ready()
            await self._nodes.delete(topic)

    def _start(self) -> None:
        if self._closed:
            raise BackendError("The pubsub is closed.")
        self.connection.start()

    async def _reach(self) -> None:
        """Wait for the connection, or for a reason why there is none.

        Raises:
            TroubleError: there never was one, and an administrator must change something first.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.connection.known(), self.connection.pace.connect + CATCH_UP_SECONDS)
        trouble = self.connection.away
        if trouble is not None and trouble.final:
            raise trouble

    async def _catch_up(self, topic: str) -> None:
        """Wait until what was published here before is over, so that a new subscriber does not receive it."""
        if not self.connection.is_ready:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_SECONDS):
                await self._sender.sent(topic)
                while topic in self.subscriptions and self._has_not_come_back(topic):
                    self._echo.clear()
                    await self._echo.wait()

    def _has_not_come_back(self, topic: str) -> bool:
        return self._inbox.last(topic, self._sender.publisher) < self._sender.last_number(topic)

    # Called by the connection.

    async def _new_session(self) -> None:
        """Bring a new session to where the last one was.

        Raises:
            TroubleError: there is no pubsub service.
        """
        try:
            answer = await self._nodes.request("get", stanzas.question())
        except RefusedError as refused:
            raise reasons.of_service(refused.condition, self._url) from None
        if not stanzas.is_pubsub(answer):
            raise reasons.of_service("it is something else", self._url)
        if self.connection.sessions > 1:
            self._counters.add("pubsub_reconnections")
        self._inbox.new_session()
        await self.subscriptions.bring_back()
        self._subscribers.resync()

    def _connection_lost(self) -> None:
        self._sender.connection_lost()

    def _on_event(self, sender: str, message: Element) -> None:
        if sender != self._url.service:
            # Anybody with an account can forge an event.
            self._counters.add("pubsub_forged_events")
            return
        for node in stanzas.removals(message):
            topic = self._nodes.topic(node)
            if topic is not None and topic in self._subscribers:
                self.subscriptions.removed(topic)
        for publication in stanzas.publications(message):
            topic = self._nodes.topic(publication.node)
            if topic is not None and topic in self._subscribers:
                self._deliver(topic, publication)
            else:
                self.subscriptions.leave_node(publication.node)

    def _deliver(self, topic: str, publication: Publication) -> None:
        arrival = self._inbox.record(topic, publication.publisher, publication.number)
        if arrival is Arrival.AGAIN:
            self._counters.add("pubsub_repeats")
            return
        if arrival is Arrival.GAP:
            self._counters.add("pubsub_gaps")
        if arrival is Arrival.GAP or not publication.messages:
            self._subscribers.resync(topic)
        ours = publication.publisher == self._sender.publisher
        already = self._sender.delivered_here(topic, publication.number) if ours else ()
        for index, message in enumerate(publication.messages):
            if index not in already:
                self._subscribers.deliver(topic, message)
        if ours:
            self._echo.set()

    def _log_trouble(self, trouble: TroubleError | None) -> None:
        if trouble is None:
            log.warning("The XMPP server is reached again.")
        else:
            log.error("%s", trouble)
