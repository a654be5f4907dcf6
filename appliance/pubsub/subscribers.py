"""Subscribers of this process, and the delivery of messages to them, for every pubsub.

Each subscriber has a bounded queue. A message too many, or a lost connection, turns the whole queue into one `RESYNC`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from appliance.counters import Counters
from appliance.pubsub import RESYNC, Message, Subscription


class QueuedSubscription(Subscription, AsyncIterator[Message]):
    """One subscriber's queue. Once it has too many messages, all of them become one `RESYNC`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Message] = deque()
        self._wake = asyncio.Event()
        self._ended = False

    def put(self, message: bytes) -> bool:
        """Add a message; False if it was one too many."""
        if self._waiting and self._waiting[0] is RESYNC:
            # The store is read later than this, and so shows this change as well.
            return True
        if len(self._waiting) >= self._limit:
            self.resync()
            return False
        self._waiting.append(message)
        self._wake.set()
        return True

    def resync(self) -> None:
        """Replace the queue by `RESYNC`."""
        self._waiting.clear()
        self._waiting.append(RESYNC)
        self._wake.set()

    def end(self) -> None:
        """End the iteration after the messages in the queue."""
        self._ended = True
        self._wake.set()

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._waiting.popleft()


class Subscribers:
    """All subscribers of this process, by topic."""

    def __init__(self, counters: Counters, queue: int) -> None:
        """Args:
        counters: where slow subscribers are counted, as ``limit_pubsub_queue``.
        queue: messages that may wait for one subscriber.
        """
        self._counters = counters
        self._queue = queue
        self._topics: dict[str, set[QueuedSubscription]] = {}

    def __contains__(self, topic: str) -> bool:
        """Whether anybody is subscribed to a topic."""
        return topic in self._topics

    def topics(self) -> list[str]:
        """The topics that have subscribers."""
        return list(self._topics)

    @contextmanager
    def subscribed(self, topic: str) -> Iterator[QueuedSubscription]:
        """A new subscriber of a topic, for the length of a ``with`` block."""
        subscription = QueuedSubscription(self._queue)
        subscribers = self._topics.setdefault(topic, set())
        subscribers.add(subscription)
        try:
            yield subscription
        finally:
            subscribers.discard(subscription)
            if not subscribers and self._topics.get(topic) is subscribers:
                del self._topics[topic]

    def deliver(self, topic: str, message: bytes) -> None:
        """Add a message to the queues of all subscribers of a topic."""
        for subscription in self._topics.get(topic, ()):
            if not subscription.put(message):
                self._counters.add("limit_pubsub_queue")

    def resync(self, topic: str | None = None) -> None:
        """Give `RESYNC` to all subscribers, or to those of one topic."""
        for name in self._topics if topic is None else (topic,):
            for subscription in self._topics.get(name, ()):
                subscription.resync()

    def end(self) -> None:
        """End all subscriptions."""
        for subscriptions in self._topics.values():
            for subscription in subscriptions:
                subscription.end()
