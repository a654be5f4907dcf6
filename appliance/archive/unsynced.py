"""Unsynced lines: what is not known to be on the disk, in the relaxed mode and after a program was killed.

After a failed sync the system may have dropped what was written, and a second sync succeeds all the same. So these
lines are kept until a sync succeeded, and are written again after one that failed.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import NamedTuple

from appliance.archive.segments import segments
from appliance.datafolder.files import change, sync_file, written_whole

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


def sync_last(folder: Path) -> None:
    """Sync the last segment: a program that was killed may have left lines that only the system's cache has.

    A start reads them, and acknowledges them to students' pages.

    Raises:
        OSError: neither it nor a copy of it can be made durable.
    """
    plain = [path for path in segments(folder) if path.suffix != ".gz" and path.stat().st_size]
    if not plain:
        return
    try:
        with change(plain[-1]) as file:
            sync_file(file)
    except OSError:
        # A second sync succeeds, although the system has dropped what it could not write.
        with plain[-1].open("rb") as old, written_whole(plain[-1]) as copy:
            shutil.copyfileobj(old, copy)
