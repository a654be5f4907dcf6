"""Unsynced lines: what was acknowledged in the relaxed mode and is not known to be on the disk yet.

After a failed sync the system may have dropped what was written, and a second sync succeeds all the same. So these
lines are kept until a sync succeeded, and are written again after one that failed.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

UNSYNCED_BYTES = 8 * 1024 * 1024
"""With more than this number of bytes a write waits for a sync, as in the strict mode."""


class Group(NamedTuple):
    """A commit group that was written.

    Attributes:
        lines: its lines, as they were appended.
        size: length of the segment before it.
        own: OWN of the group before it (`appliance.archive.chain`).
    """

    lines: bytes
    size: int
    own: bytes


class Unsynced:
    """The groups since the last sync that succeeded. A write and a sync may run in two threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: list[Group] = []
        self._first = 0
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._groups)

    @property
    def full(self) -> bool:
        """Whether the next write waits for a sync."""
        return self._bytes > UNSYNCED_BYTES

    def add(self, group: Group) -> None:
        """Keep a group that was written."""
        with self._lock:
            self._groups.append(group)
            self._bytes += len(group.lines)

    def mark(self) -> int:
        """The end of what a sync that begins now makes durable."""
        with self._lock:
            return self._first + len(self._groups)

    def synced(self, mark: int) -> None:
        """Forget what was written before `mark`: a sync that began there succeeded."""
        with self._lock:
            done = max(0, mark - self._first)
            self._bytes -= sum(len(group.lines) for group in self._groups[:done])
            del self._groups[:done]
            self._first += done

    def groups(self) -> list[Group]:
        """All that is kept, oldest first."""
        with self._lock:
            return list(self._groups)
