"""A simulated shared pubsub, with the semantics of `appliance.pubsub.PubSub`.

Messages of a topic reach all nodes in one order, after a delay. A node whose connection was lost misses them, and its
subscribers get `RESYNC` when it is back. Some messages come twice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context, copy_context

from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.pubsub import PubSub, Subscription
from appliance.pubsub.subscribers import Subscribers


class Broker:
    """The server.

    Attributes:
        away: whether it can be reached by nobody.
        seconds: shortest and longest time of a message.
        twice: share of messages that come twice.
    """

    def __init__(self, seed: str) -> None:
        self.away = False
        self.seconds = (0.0002, 0.01)
        self.twice = 0.02
        self._chance = random.Random(f"{seed}/broker")
        self._nodes: dict[SimulatedPubSub, Context] = {}
        self._world = copy_context()
        self._last = 0.0

    def add(self, node: SimulatedPubSub) -> None:
        """A node connects."""
        self._nodes[node] = copy_context()

    def remove(self, node: SimulatedPubSub) -> None:
        """A node is gone."""
        self._nodes.pop(node, None)

    def publish(self, topic: str, message: bytes) -> None:
        """Deliver to all nodes, in the order of these calls."""
        loop = asyncio.get_running_loop()
        self._last = max(self._last, loop.time() + self._chance.uniform(*self.seconds))
        loop.call_at(self._last, self._deliver, topic, message, context=self._world)
        if self._chance.random() < self.twice:
            loop.call_at(self._last, self._deliver, topic, message, context=self._world)

    def set_away(self, away: bool) -> None:
        """Go, or come back."""
        self.away = away
        if not away:
            for node, context in list(self._nodes.items()):
                self._call(context, node.came_back)

    def restore(self, node: SimulatedPubSub) -> None:
        """A node's own connection is back."""
        if node in self._nodes:
            node.cut = False
            self._call(self._nodes[node], node.came_back)

    def _deliver(self, topic: str, message: bytes) -> None:
        if self.away:
            return
        for node, context in list(self._nodes.items()):
            if not node.cut:
                self._call(context, node.deliver, topic, message)

    def _call(self, context: Context, *call: object) -> None:
        asyncio.get_running_loop().call_soon(*call, context=context)


class SimulatedPubSub(PubSub):
    """One node's connection.

    Attributes:
        cut: whether this node alone cannot reach the server.
    """

    def __init__(self, broker: Broker, counters: Counters, queue: int) -> None:
        self.cut = False
        self._broker = broker
        self._subscribers = Subscribers(counters, queue)
        self._closed = False
        broker.add(self)

    async def publish(self, topic: str, message: bytes) -> None:
        await asyncio.sleep(0.0005)
        self._check()
        self._broker.publish(topic, message)

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[Subscription]:
        await asyncio.sleep(0.001)
        self._check()
        with self._subscribers.subscribed(topic) as subscription:
            yield subscription

    async def close(self) -> None:
        self._closed = True
        self._broker.remove(self)
        self._subscribers.end()

    def deliver(self, topic: str, message: bytes) -> None:
        """A message arrived."""
        self._subscribers.deliver(topic, message)

    def came_back(self) -> None:
        """The connection was lost for a while."""
        self._subscribers.resync()

    def _check(self) -> None:
        if self._closed or self.cut or self._broker.away:
            raise BackendError("The pubsub cannot be reached.")
