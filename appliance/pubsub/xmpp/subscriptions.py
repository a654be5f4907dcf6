"""Subscriptions of this process on the server: those that its subscribers want, brought back after every loss."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Coroutine
from typing import Any

from appliance.pubsub.subscribers import Subscribers
from appliance.pubsub.xmpp.background import Background
from appliance.pubsub.xmpp.connection import Pace
from appliance.pubsub.xmpp.inbox import Inbox
from appliance.pubsub.xmpp.nodes import TopicNodes
from appliance.pubsub.xmpp.reasons import AwayError, TroubleError
from appliance.tasks import BackOff

AWAY_SECONDS = 0.05
"""The pause after a request that was lost with the connection, whose end may not be noticed yet."""


class Subscriptions:
    """The topics to which this process is subscribed in the present session."""

    def __init__(
        self, nodes: TopicNodes, subscribers: Subscribers, inbox: Inbox, background: Background, pace: Pace
    ) -> None:
        """Args:
        nodes: on the server.
        subscribers: of this process; a topic is subscribed to on the server while it has some.
        inbox: forgets topics that are left.
        background: where subscribing is tried again.
        pace: how long to wait between tries.
        """
        self._nodes = nodes
        self._subscribers = subscribers
        self._inbox = inbox
        self._background = background
        self._pace = pace
        self._subscribed: set[str] = set()
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        # Nodes that were left in this session because nobody here listens to them.
        self._left: set[str] = set()

    def __contains__(self, topic: str) -> bool:
        """Whether the server has confirmed a subscription in this session."""
        return topic in self._subscribed

    async def reconcile(self, topic: str) -> None:
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
            if wanted:
                await self._nodes.subscribe(topic)
                self._subscribed.add(topic)
            else:
                self._subscribed.discard(topic)
                self._inbox.forget(topic)
                await self._nodes.leave(topic)

    def keep_trying(self, topic: str) -> None:
        """Subscribe in the background, as soon as that works."""
        self._background.run(self._insist, topic)

    def removed(self, topic: str) -> None:
        """Note that a topic's node was removed on the server, and our subscription with it."""
        self._nodes.forget(topic)
        self._subscribed.discard(topic)
        self.keep_trying(topic)

    async def bring_back(self) -> None:
        """Subscribe to all topics in a new session."""
        # The server may still know our subscriptions; to subscribe again is harmless.
        self._subscribed.clear()
        self._left.clear()
        await asyncio.gather(*(self._bring_back(topic) for topic in self._subscribers.topics()))

    def leave_node(self, node: str) -> None:
        """Leave a node to which nobody here listens, once in a session: its end was not confirmed in the last one."""
        if node not in self._left and self._nodes.topic(node) not in self._locks:
            self._left.add(node)
            self._background.run(self._nodes.leave_node, node)

    def leaving(self) -> list[Coroutine[Any, Any, None]]:
        """Coroutines that leave all topics, at the end of the process."""
        return [self._leave(topic) for topic in self._subscribed]

    async def _leave(self, topic: str) -> None:
        with contextlib.suppress(AwayError):
            await self._nodes.leave(topic)

    async def _bring_back(self, topic: str) -> None:
        try:
            async with self._nodes.window:
                await self.reconcile(topic)
        except TroubleError as trouble:
            self._background.refused(trouble)
            self.keep_trying(topic)

    async def _insist(self, topic: str) -> None:
        """Try to subscribe again until it works, nobody listens any more, or a new session sees to it."""
        back_off = BackOff(self._pace.first_pause, self._pace.longest_pause)
        while topic in self._subscribers and topic not in self._subscribed:
            await self._nodes.connection.ready()
            if topic in self._subscribed:
                # A new session saw to it.
                return
            try:
                await self.reconcile(topic)
                self._subscribers.resync(topic)
            except AwayError:
                await asyncio.sleep(AWAY_SECONDS)
            except TroubleError as trouble:
                self._background.refused(trouble)
                await asyncio.sleep(back_off.next())
