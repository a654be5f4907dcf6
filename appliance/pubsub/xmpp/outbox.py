"""Messages that wait until the server has confirmed those before them: bounded, in order, by topic."""

from __future__ import annotations

from collections import deque

import msgspec

AROUND = 8
"""Bytes that a message needs beside its own: five for its length, in base64."""


class Batch(msgspec.Struct, frozen=True):
    """Messages of one topic that go out together.

    Attributes:
        messages: in order; empty for the request to read the store again.
        delivered: indexes of messages that were delivered to subscribers of this process already.
    """

    messages: tuple[bytes, ...]
    delivered: frozenset[int] = frozenset()


RESYNC_BATCH = Batch(())
"""Replaces too many messages: listeners read the store again."""


class Outbox:
    """Messages by topic. When there are too many, all of the topic of the newest become `RESYNC_BATCH`."""

    def __init__(self, limit: int, batch_bytes: int) -> None:
        """Args:
        limit: messages that may wait, of all topics together.
        batch_bytes: the largest size of one batch, in which each message counts `cost` bytes.
        """
        self._limit = limit
        self._batch_bytes = batch_bytes
        self._waiting: dict[str, deque[tuple[bytes, bool]] | None] = {}
        self._count = 0

    def __len__(self) -> int:
        """Number of messages that wait."""
        return self._count

    def __contains__(self, topic: str) -> bool:
        return topic in self._waiting

    @property
    def largest(self) -> int:
        """Bytes of the largest message that can be sent."""
        return (self._batch_bytes - AROUND) // 4 * 3

    def put(self, topic: str, message: bytes, *, delivered: bool = False) -> bool:
        """Add a message; False if it was one too many.

        Args:
            delivered: whether it was delivered to subscribers of this process already.
        """
        waiting = self._waiting.get(topic, ())
        if waiting is None:
            # The request to read the store again waits, and the store will show this change as well.
            return True
        if self._count >= self._limit:
            self.resync(topic)
            return False
        if not isinstance(waiting, deque):
            waiting = self._waiting[topic] = deque()
        waiting.append((message, delivered))
        self._count += 1
        return True

    def resync(self, topic: str) -> None:
        """Replace all that waits of a topic by `RESYNC_BATCH`."""
        self._count -= len(self._waiting.get(topic) or ())
        self._waiting[topic] = None

    def mark_delivered(self, topic: str) -> list[bytes]:
        """Mark the messages of a topic as delivered to subscribers of this process; returns those that were not."""
        waiting = self._waiting.get(topic)
        if not waiting:
            return []
        fresh = [message for message, delivered in waiting if not delivered]
        self._waiting[topic] = deque((message, True) for message, _ in waiting)
        return fresh

    def drop(self, topic: str) -> None:
        """Remove all that waits of a topic."""
        self._count -= len(self._waiting.pop(topic, None) or ())

    def take(self, topic: str) -> Batch | None:
        """Remove and return the next batch of a topic; None if nothing waits."""
        if topic not in self._waiting:
            return None
        waiting = self._waiting[topic]
        if waiting is None:
            del self._waiting[topic]
            return RESYNC_BATCH
        taken: list[tuple[bytes, bool]] = []
        left = self._batch_bytes
        while waiting and (not taken or cost(waiting[0][0]) <= left):
            left -= cost(waiting[0][0])
            taken.append(waiting.popleft())
        self._count -= len(taken)
        if not waiting:
            del self._waiting[topic]
        return Batch(
            tuple(message for message, _ in taken),
            frozenset(index for index, (_, delivered) in enumerate(taken) if delivered),
        )


def cost(message: bytes) -> int:
    """Bytes that a message needs in a stanza, in base64."""
    return (len(message) + 2) // 3 * 4 + AROUND
