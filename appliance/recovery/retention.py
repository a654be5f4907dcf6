"""Retention: days of the archive that are older than `archive.retention_days` are deleted, with a marker.

A day is deleted whole or not at all: all of its segments are closed and, where the store is in memory, all snapshots
that are kept have their events. So states stay; what is deleted cannot be computed again, as for a new reducer.
"""

from __future__ import annotations

import calendar
import logging
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

from appliance.archive import segments
from appliance.archive.markers import MarkedSegment
from appliance.archive.moving import closed_segments, delete, marked
from appliance.archive.segments import SEGMENT_NAME, Position, uncompressed_bytes
from appliance.config import Settings
from appliance.counters import Counters
from appliance.health import Finding, finding
from appliance.kvs import kvs_facts
from appliance.recovery import snapshot
from appliance.text import counted

log = logging.getLogger(__name__)

CLOCK_DAYS = 60
"""A clock that is more days after the last trace of the appliance, which are holidays or a wrong clock, is not trusted
at once."""
CLOCK_SECONDS = 86400.0
"""So long nothing is deleted then."""
_DAY = 86400.0


def covered_before(data: Path) -> Position:
    """The position before which all lines of the archive are in each snapshot that a start may use.

    Args:
        data: the data folder.
    """
    positions = []
    for path in snapshot.snapshots(data / snapshot.FOLDER):
        usable, _ = snapshot.newest([path])
        if usable is not None:
            positions.append(usable.head.position)
    return min(positions, default=Position(0, 0))


class Retention:
    """Deletes what is old, while the appliance runs.

    Attributes:
        stopped: set when the program ends: a thread that is deleting ends after the day that it is at.
    """

    def __init__(self, settings: Settings, folder: Path, counters: Counters) -> None:
        """Args:
        settings: name the data folder, the store and the number of days.
        folder: the archive.
        counters: counts deleted segments.
        """
        self._settings = settings
        self._folder = folder
        self._counters = counters
        self.stopped = False
        self._began = time.monotonic()
        self._waiting = False

    def delete_old(self) -> list[MarkedSegment]:
        """Delete the days that are old by now; returns what was deleted. Takes a while where there is much.

        Raises:
            OSError: something cannot be read or written; the next time continues.
        """
        now = time.time()
        self._waiting = time.monotonic() - self._began < CLOCK_SECONDS and self._days_without_trace >= CLOCK_DAYS
        if self._waiting:
            return []
        shared = kvs_facts(self._settings.kvs.url).shared
        deleted = delete_old(
            self._folder,
            now - self._settings.archive.retention_days * _DAY,
            covered=None if shared else lambda: covered_before(self._settings.data_path),
            plain=not self._settings.archive.compress,
            stop=lambda: self.stopped,
        )
        self._counters.add("archive_segments_deleted", len(deleted))
        return deleted

    @cached_property
    def _days_without_trace(self) -> int:
        """Days between the last trace of the appliance before this start, and now."""
        traces = [0.0]
        usable, _ = snapshot.newest(snapshot.snapshots(self._settings.data_path / snapshot.FOLDER))
        if usable is not None:
            traces.append(usable.head.written)
        for path in segments(self._folder)[-1:]:
            traces.append(path.stat().st_mtime)
        return int((time.time() - max(traces)) / _DAY)

    def findings(self) -> Iterator[Finding]:
        """A finding while the clock is not trusted."""
        if self._waiting:
            yield finding("archive.retention_clock", days=self._days_without_trace)


def delete_old(
    folder: Path,
    limit: float,
    *,
    covered: Callable[[], Position] | None,
    plain: bool,
    stop: Callable[[], bool] = lambda: False,
) -> list[MarkedSegment]:
    """Delete the days of an archive that ended before a time.

    Args:
        folder: the archive.
        limit: the time, in seconds since the epoch.
        covered: gives the position before which all lines are in the snapshots; None where the store is on a server.
        plain: whether segments stay uncompressed; otherwise those are still to be compressed, and stay.
        stop: asked before each day; when it returns true the others are left for the next time.

    Returns:
        What was deleted.

    Raises:
        OSError: something cannot be read or written; the next time continues.
    """
    by_day: dict[str, list[tuple[int, Path]]] = {}
    for number, path in closed_segments(folder, plain=True):
        match = SEGMENT_NAME.fullmatch(path.name)
        if match and _end_of(match[1]) <= limit:
            by_day.setdefault(match[1], []).append((number, path))
    end = covered() if by_day and covered else None
    deleted: list[MarkedSegment] = []
    for _, found in sorted(by_day.items()):
        if stop():
            break
        old = [_old(number, path, limit, end, plain) for number, path in found]
        if all(old):
            whole_day = [segment for segment in old if segment]
            delete(folder, whole_day)
            deleted += whole_day
    if deleted:
        log.info(
            "Deleted from the archive, as archive.retention_days says: %s, with %s (%s).",
            counted(len(deleted), "segment"),
            counted(sum(segment.events for segment in deleted), "event"),
            ", ".join(segment.name for segment in deleted),
        )
    return deleted


def _old(number: int, path: Path, limit: float, covered: Position | None, plain: bool) -> MarkedSegment | None:
    """A segment that may be deleted; None for any other."""
    if path.suffix != ".gz" and not plain:
        return None
    if covered is not None and (number, uncompressed_bytes(path)) > covered:
        return None
    segment = marked(path)
    return segment if segment and segment.last <= limit else None


def _end_of(day: str) -> float:
    """The end of a UTC day such as ``20260921``, in seconds since the epoch; never of one that is none."""
    try:
        return calendar.timegm(time.strptime(day, "%Y%m%d")) + _DAY
    except ValueError:
        return float("inf")
