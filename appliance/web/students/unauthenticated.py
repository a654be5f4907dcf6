"""Unauthenticated connections: those whose student is not known yet.

They are counted apart from students' connections, in total and by address. If there are too many, the one that has been
silent for longest is closed, so that a new one always gets a place: an honest client says hello at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.config import LimitSettings
from appliance.counters import Counters

if TYPE_CHECKING:
    from appliance.web.students.handshake import Handshake


class _Group:
    """Handshakes in the order of their arrival: the silent ones, and those whose first message is being answered."""

    __slots__ = ("answering", "silent")

    def __init__(self) -> None:
        self.silent: dict[Handshake, None] = {}
        self.answering: dict[Handshake, None] = {}

    def __len__(self) -> int:
        return len(self.silent) + len(self.answering)

    def oldest(self) -> Handshake:
        """The one to close next."""
        return next(iter(self.silent or self.answering))

    def remove(self, handshake: Handshake) -> None:
        self.silent.pop(handshake, None)
        self.answering.pop(handshake, None)


class UnauthenticatedConnections:
    """All unauthenticated connections of this node."""

    def __init__(self, limits: LimitSettings, counters: Counters) -> None:
        """Args:
        limits: ``strangers``, ``strangers_per_address``.
        counters: counts connections that were closed, by limit.
        """
        self._limits = limits
        self._counters = counters
        self._all = _Group()
        self._by_address: dict[str, _Group] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, handshake: Handshake) -> None:
        """Count one more, and close another if there are too many."""
        group = self._by_address.get(handshake.address)
        if group is not None and len(group) >= self._limits.strangers_per_address:
            self._evict(group.oldest(), "limit_strangers_per_address")
        if len(self._all) >= self._limits.strangers:
            self._evict(self._all.oldest(), "limit_strangers")
        self._all.silent[handshake] = None
        self._by_address.setdefault(handshake.address, _Group()).silent[handshake] = None

    def first_message_arrived(self, handshake: Handshake) -> None:
        """From now on it is closed only if no silent one is left."""
        if handshake in self._all.silent:
            for group in (self._all, self._by_address[handshake.address]):
                del group.silent[handshake]
                group.answering[handshake] = None

    def remove(self, handshake: Handshake) -> None:
        """It has ended, or is authenticated."""
        self._all.remove(handshake)
        group = self._by_address.get(handshake.address)
        if group is not None:
            group.remove(handshake)
            if not group:
                del self._by_address[handshake.address]

    def handshakes(self) -> list[Handshake]:
        """All of them."""
        return [*self._all.silent, *self._all.answering]

    def _evict(self, handshake: Handshake, counter: str) -> None:
        self._counters.add(counter)
        self.remove(handshake)
        handshake.evict()
