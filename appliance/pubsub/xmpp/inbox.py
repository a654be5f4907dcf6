"""The last number received of each publisher, by which repetitions and gaps are found."""

from __future__ import annotations

from enum import Enum

PUBLISHERS = 500
"""Publishers remembered for a topic; each start of a node is a new one, and the oldest is forgotten."""


class Arrival(Enum):
    """How the number of a publication follows the one before it."""

    NEXT = "next"
    AGAIN = "again"
    GAP = "gap"


class Inbox:
    """The last number received, by topic and publisher."""

    def __init__(self) -> None:
        self._last: dict[str, dict[str, tuple[int, int]]] = {}
        self._session = 0

    def new_session(self) -> None:
        """Note a new session: subscribers read the store anyway, so that gaps at its beginning do not count."""
        self._session += 1

    def forget(self, topic: str) -> None:
        """Forget a topic to which nobody listens any more."""
        self._last.pop(topic, None)

    def record(self, topic: str, publisher: str, number: int) -> Arrival:
        """Record the number of a publication, and compare it with the last one.

        Args:
            number: publishers number what they publish to a topic from 1.
        """
        publishers = self._last.setdefault(topic, {})
        last, session = publishers.pop(publisher, (0, -1))
        publishers[publisher] = (max(last, number), self._session)
        if len(publishers) > PUBLISHERS:
            del publishers[next(iter(publishers))]
        if number <= last:
            return Arrival.AGAIN
        return Arrival.GAP if number > last + 1 and session == self._session else Arrival.NEXT

    def last(self, topic: str, publisher: str) -> int:
        """The last number received of a publisher, 0 for none."""
        return self._last.get(topic, {}).get(publisher, (0, 0))[0]
