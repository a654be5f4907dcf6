"""PubSub: notifies consumers of changes. It carries hints; the key-value store has the truth.

A message that was published while a subscriber was connected reaches it, in order. A subscriber that reads
too slowly, or whose connection was lost, gets `RESYNC` in place of what it missed: "read the store again".
So a lost hint costs freshness for a moment and never correctness, and memory stays bounded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Literal

from appliance.backends import Facts, facts_of, missing_driver, scheme_of
from appliance.counters import Counters
from appliance.errors import SettingsError
from appliance.health import Finding, Health, nothing
from appliance.redis import FORMS
from appliance.tasks import Tasks


class Resync(Enum):
    """The type of `RESYNC`."""

    RESYNC = "resync"


RESYNC: Literal[Resync.RESYNC] = Resync.RESYNC
"""A marker in place of messages: some were missed, read the store again."""

OUTGOING = 1000

Message = bytes | Literal[Resync.RESYNC]


class Subscription(ABC):
    """The messages of one topic, from the moment of subscribing on."""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[Message]:
        """Iterate over messages for as long as the subscription is open."""


class PubSub(ABC):
    """Publishes short messages to topics."""

    def findings(self) -> Sequence[Finding]:
        """Findings about what keeps it from working at the moment; empty while it works."""
        return ()

    @abstractmethod
    async def publish(self, topic: str, message: bytes) -> None:
        """Send `message` to all present subscribers of `topic`.

        Raises:
            BackendError: the message could not be handed over.
        """

    @abstractmethod
    def subscribe(self, topic: str) -> AbstractAsyncContextManager[Subscription]:
        """Subscribe for the length of an ``async with`` block.

        Raises:
            BackendError: the topic cannot be subscribed to.
        """

    async def remove(self, topic: str) -> None:
        """Remove a topic that nobody will use again from the server, if it stores topics."""

    def examine(self) -> AsyncGenerator[Finding, None]:
        """Findings for IT staff about the server behind this pubsub: its version, rights, settings, clock.

        The command `check` prints them. It makes the section of the configuration their source, and publishes and
        receives a message by itself.

        Raises:
            BackendError: it cannot be reached.
        """
        return nothing()

    async def close(self) -> None:
        """End all subscriptions and close connections."""


_SHARED = {"memory": False, "xmpp": True} | dict.fromkeys(FORMS, True)


def pubsub_facts(url: str) -> Facts:
    """Facts about the pubsub that a URL names; it is not opened."""
    return facts_of(url, _SHARED)


def open_pubsub(
    url: str, counters: Counters, *, queue: int, outgoing: int = OUTGOING, tasks: Tasks | None = None
) -> PubSub:
    """Open the pubsub that a URL names: ``memory://``, ``xmpp://`` or a scheme of `appliance.redis.FORMS`.

    The driver of a backend is imported only here.

    Args:
        url: where it is.
        counters: where slow subscribers are counted, as ``limit_pubsub_queue``.
        queue: how many messages may wait for one slow subscriber before it gets `RESYNC` in their place.
        outgoing: how many messages may wait until a server has confirmed those before them; more become `RESYNC` for
            the subscribers, counted as ``limit_pubsub_outgoing``.
        tasks: runs the tasks that listen and publish; None for tasks of its own.

    Raises:
        SettingsError: no backend has that scheme, its driver is not installed, or the URL cannot be used.
    """
    scheme = scheme_of(url)
    tasks = tasks or Tasks(Health(counters), counters)
    if scheme == "memory":
        from appliance.pubsub.memory import MemoryPubSub

        return MemoryPubSub(counters, queue)
    if scheme == "xmpp":
        try:
            from appliance.pubsub.xmpp.backend import XmppPubSub
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"pubsub: xmpp:// needs the package {error.name}; install classroom-observer[xmpp]."
            ) from None
        return XmppPubSub(url, counters, queue, outgoing, tasks=tasks)
    if scheme in FORMS:
        try:
            from appliance.pubsub.redis import RedisPubSub
        except ModuleNotFoundError as error:
            if error.name != "redis":
                raise
            raise missing_driver("pubsub", "redis", "redis") from None
        return RedisPubSub(url, counters, queue, outgoing, tasks)
    raise SettingsError(f"pubsub: {scheme!r} is not a pubsub this version knows; use memory://, redis:// or xmpp://.")
