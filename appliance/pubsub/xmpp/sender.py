"""Sending: what is published here goes out in order, topic by topic, until the server has confirmed it.

While the server cannot be reached, messages are delivered at once to subscribers of this process. The indexes of these
messages are kept, so that they are not delivered again when the server sends them back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from appliance.counters import Counters
from appliance.errors import BackendError, place_of
from appliance.pubsub.subscribers import Subscribers
from appliance.pubsub.xmpp import reasons, stanzas
from appliance.pubsub.xmpp.background import Background, finish
from appliance.pubsub.xmpp.connection import Pace
from appliance.pubsub.xmpp.inbox import Inbox
from appliance.pubsub.xmpp.nodes import TopicNodes
from appliance.pubsub.xmpp.outbox import Outbox
from appliance.pubsub.xmpp.reasons import AwayError, RefusedError, TroubleError
from appliance.pubsub.xmpp.stanzas import Publication
from appliance.pubsub.xmpp.subscriptions import AWAY_SECONDS, Subscriptions
from appliance.pubsub.xmpp.url import SMALLEST_STANZA
from appliance.tasks import BackOff, in_background

_NONE: tuple[int, frozenset[int]] = (0, frozenset())


class Sender:
    """Sends batches of messages, one of each topic at a time.

    Attributes:
        publisher: the random name under which this process numbers what it publishes.
    """

    def __init__(
        self,
        publisher: str,
        outgoing: int,
        nodes: TopicNodes,
        subscriptions: Subscriptions,
        subscribers: Subscribers,
        inbox: Inbox,
        background: Background,
        counters: Counters,
    ) -> None:
        """Args:
        publisher: a name that no other process has.
        outgoing: messages that may wait, of all topics together.
        nodes: where to publish.
        subscriptions: are noted as removed where a node is.
        subscribers: of this process.
        inbox: what of our own came back from the server.
        background: logs what is refused.
        counters: ``limit_pubsub_...`` count what was too much or too large.
        """
        self.publisher = publisher
        self._outbox = Outbox(outgoing, nodes.url.stanza - stanzas.OVERHEAD)
        self._nodes = nodes
        self._connection = nodes.connection
        self._pace: Pace = nodes.connection.pace
        self._subscriptions = subscriptions
        self._subscribers = subscribers
        self._inbox = inbox
        self._background = background
        self._counters = counters
        self._numbers: dict[str, int] = {}
        # By topic, of its last publication with any: indexes of messages delivered before the server was back.
        self._delivered_here: dict[str, tuple[int, frozenset[int]]] = {}
        # What was sent last of a topic, until it is confirmed and nothing more waits.
        self._flying: dict[str, Publication] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def largest(self) -> int:
        """Bytes of the largest message that can be sent."""
        return self._outbox.largest

    @property
    def tasks(self) -> Collection[asyncio.Task[None]]:
        """A task for each topic of which something waits."""
        return self._tasks.values()

    def topics(self) -> list[str]:
        """All topics that this process published to."""
        return list(self._numbers)

    def last_number(self, topic: str) -> int:
        """The number of the last publication of a topic, 0 for none."""
        return self._numbers.get(topic, 0)

    def publish(self, topic: str, message: bytes) -> None:
        """Queue a message.

        Raises:
            BackendError: it is too large.
        """
        if len(message) > self.largest:
            self._counters.add("limit_pubsub_stanza")
            self._outbox.resync(topic)
            self._start(topic)
            raise BackendError(
                f"A message of {len(message)} bytes is too large for the XMPP server; raise its limit and stanza= in "
                "pubsub.url. Subscribers read the store again instead."
            )
        away = not self._connection.is_ready
        if not self._outbox.put(topic, message, delivered=away):
            self._counters.add("limit_pubsub_outgoing")
            self._background.warn(
                "The XMPP server is slower than what is published; listeners read the store again instead."
            )
        if away:
            self._subscribers.deliver(topic, message)
        self._start(topic)

    def delivered_here(self, topic: str, number: int) -> frozenset[int]:
        """Indexes of messages in a publication of ours that were delivered to subscribers of this process already."""
        last, delivered = self._delivered_here.get(topic, _NONE)
        return delivered if last == number else frozenset()

    def connection_lost(self) -> None:
        """Deliver to subscribers of this process, in order, our own messages that the server has not sent back."""
        for topic, sent in self._flying.items():
            if self._inbox.last(topic, self.publisher) < sent.number:
                delivered = self.delivered_here(topic, sent.number)
                for index, message in enumerate(sent.messages):
                    if index not in delivered:
                        self._subscribers.deliver(topic, message)
                self._delivered_here[topic] = (sent.number, frozenset(range(len(sent.messages))))
        for topic in self._tasks:
            for message in self._outbox.mark_delivered(topic):
                self._subscribers.deliver(topic, message)

    async def sent(self, topic: str) -> None:
        """Wait until nothing of a topic waits any more."""
        if topic in self._tasks:
            await asyncio.wait((self._tasks[topic],))

    async def drop(self, topic: str) -> None:
        """Forget what waits of a topic."""
        if topic in self._tasks:
            await finish([self._tasks[topic]], seconds=0)
        self._outbox.drop(topic)

    def _start(self, topic: str) -> None:
        if topic not in self._tasks:
            self._tasks[topic] = in_background(self._run(topic), "xmpp sender")

    async def _run(self, topic: str) -> None:
        """Send what waits of a topic, one batch after the other, so that the order is kept whatever happens."""
        back_off = BackOff(self._pace.first_pause, self._pace.longest_pause)
        try:
            while topic in self._outbox:
                try:
                    await self._send_batch(topic)
                    back_off.reset()
                except Exception as error:
                    # The present batch may be lost: listeners read the store instead.
                    self._counters.add("pubsub_refusals")
                    self._background.warn(f"Sending to the XMPP server failed ({place_of(error)}); it is tried again.")
                    self._outbox.resync(topic)
                    await asyncio.sleep(back_off.next())
        finally:
            del self._tasks[topic]
            self._flying.pop(topic, None)

    async def _send_batch(self, topic: str) -> None:
        await self._connection.ready()
        batch = self._outbox.take(topic)
        if batch is not None:
            number = self._numbers[topic] = self.last_number(topic) + 1
            if batch.delivered:
                self._delivered_here[topic] = (number, batch.delivered)
            publication = Publication(self._nodes.name(topic), self.publisher, number, batch.messages)
            self._flying[topic] = publication
            await self._deliver(topic, publication)

    async def _deliver(self, topic: str, publication: Publication) -> None:
        """Publish, again and again until it is confirmed."""
        back_off = BackOff(self._pace.first_pause, self._pace.longest_pause)
        while True:
            await self._connection.ready()
            seen = self._connection.too_large
            try:
                async with self._nodes.window:
                    await self._nodes.publish(topic, publication)
                return
            except AwayError:
                if self._connection.too_large > seen and publication.size > SMALLEST_STANZA:
                    self._counters.add("limit_pubsub_stanza")
                    publication = publication.without_messages()
                await asyncio.sleep(AWAY_SECONDS)
                continue
            except RefusedError as refused:
                if refused.condition == "item-not-found":
                    self._subscriptions.removed(topic)
                else:
                    publication = self._refused(publication, reasons.of_node(refused.condition, self._nodes.url))
            except TroubleError as trouble:
                publication = self._refused(publication, trouble)
            await asyncio.sleep(back_off.next())

    def _refused(self, publication: Publication, trouble: TroubleError) -> Publication:
        """The publication to try again later; without messages if an administrator must change something first."""
        self._background.refused(trouble)
        return publication.without_messages() if trouble.final else publication
