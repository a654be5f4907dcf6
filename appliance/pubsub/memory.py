"""The embedded pubsub: hands messages to subscribers in this process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.pubsub import RESYNC, Message, PubSub, Subscription


class _MemorySubscription(Subscription, AsyncIterator[Message]):
    """One subscriber's waiting messages. Once there are too many, all of them become one `RESYNC`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Message] = deque()
        self._wake = asyncio.Event()
        self._ended = False

    def put(self, message: bytes) -> bool:
        """Add a message; False where it was one too many."""
        if self._waiting and self._waiting[0] is RESYNC:
            # The store will be read later than this, so it will show this change as well.
            return True
        fits = len(self._waiting) < self._limit
        if not fits:
            self._waiting.clear()
        self._waiting.append(message if fits else RESYNC)
        self._wake.set()
        return fits

    def end(self) -> None:
        """Let the iteration end after what is waiting."""
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


class MemoryPubSub(PubSub):
    """Publishes within this process."""

    def __init__(self, counters: Counters, queue: int) -> None:
        """Args:
        counters: where slow subscribers are counted.
        queue: messages that may wait for one subscriber.
        """
        self._counters = counters
        self._queue = queue
        self._topics: dict[str, set[_MemorySubscription]] = {}
        self._closed = False

    async def publish(self, topic: str, message: bytes) -> None:
        self._check_open()
        for subscription in self._topics.get(topic, ()):
            if not subscription.put(message):
                self._counters.add("limit_pubsub_queue")

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[Subscription]:
        self._check_open()
        subscription = _MemorySubscription(self._queue)
        subscribers = self._topics.setdefault(topic, set())
        subscribers.add(subscription)
        try:
            yield subscription
        finally:
            subscribers.discard(subscription)
            if not subscribers and self._topics.get(topic) is subscribers:
                del self._topics[topic]

    async def close(self) -> None:
        self._closed = True
        for subscriptions in self._topics.values():
            for subscription in subscriptions:
                subscription.end()

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError("The pubsub is closed.")
