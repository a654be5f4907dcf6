"""The embedded pubsub: hands messages to subscribers in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.pubsub import PubSub, Subscription
from appliance.pubsub.subscribers import Subscribers


class MemoryPubSub(PubSub):
    """Publishes within this process.

    Attributes:
        subscribers: all there are.
    """

    def __init__(self, counters: Counters, queue: int) -> None:
        """Args:
        counters: where slow subscribers are counted.
        queue: messages that may wait for one subscriber.
        """
        self.subscribers = Subscribers(counters, queue)
        self._closed = False

    async def publish(self, topic: str, message: bytes) -> None:
        self._check_open()
        self.subscribers.deliver(topic, message)

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[Subscription]:
        self._check_open()
        with self.subscribers.subscribed(topic) as subscription:
            yield subscription

    async def close(self) -> None:
        self._closed = True
        self.subscribers.end()

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError("The pubsub is closed.")
