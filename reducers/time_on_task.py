"""Time on task: how long a student worked, in total and on each document.

The rule is that of the Learning Observer's ``time_on_task`` and ``binned_time_on_task``: each event adds the time
since the one before it, but at most a minute, because a longer pause counts as absence. In the bins, time counts where
it began: of a long pause, the minute after the event before it.

One thing differs. There, a clock that goes back subtracts time; here, an event older than the newest one, as from a
second tab, adds nothing, and the next gap is counted from the newest event.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from appliance.reducer import DOCUMENT, STUDENT, Column, Event, Reducer, State, UnusableError

THRESHOLD_MS = 60_000
"""The longest time that one event adds, in milliseconds."""
BIN_MS = 600_000
"""Length of a bin, in milliseconds."""
BINS_KEPT = 1_008
"""The most bins that a state keeps, the newest ones that are not empty: a week of work without a pause."""
BINS_SHOWN = 144
"""How many bins back from the newest a summary reaches: 24 hours."""

LATEST = 2.0**53 / 1000
"""The latest time of an event, in seconds since the epoch: up to it whole milliseconds are exact."""
# Bytes of memory for one bin: a pair of numbers and its slot in the tuple.
_SIZE_BIN = 130


class TimeOnTask(State, frozen=True):
    """Time on task. It is counted in whole milliseconds, the resolution of an event's time, so that sums are exact.

    Attributes:
        started: whether there was an event.
        last: time of the newest event, in milliseconds since the epoch.
        total: time on task, in milliseconds.
        bin: number of the newest bin that is not empty: its start since the epoch, divided by the length of a bin.
        in_bin: time in that bin, in milliseconds.
        closed: earlier bins that are not empty, ascending: number and milliseconds.
    """

    started: bool = False
    last: int = 0
    total: int = 0
    bin: int = 0
    in_bin: int = 0
    closed: tuple[tuple[int, int], ...] = ()


class TimeOnTaskReducer(Reducer[TimeOnTask]):
    """Adds up the time between events, of the student and of each document.

    The summary: ``seconds``, time on task; ``bins``, start of a bin of 600 s in seconds since the epoch (as text) ->
    seconds in it, for the last 24 hours up to the newest bin, without empty ones. The detail has the last 1,008 bins
    that are not empty.
    """

    name = "time_on_task"
    State = TimeOnTask
    scopes = (STUDENT, DOCUMENT)
    columns: ClassVar[Mapping[str, Column]] = {
        "seconds": Column("time on task: the time between events, of each gap at most 60 s", "number", "s"),
        "bins": Column(
            "time on task by bins of 600 s: of a student the last 24 hours, of a document the last 1,008 bins",
            "series",
            "start in s since the epoch: s",
        ),
    }

    def reduce(self, state: TimeOnTask, event: Event) -> TimeOnTask:
        return self.reduce_all(state, (event,))

    def reduce_all(self, state: TimeOnTask, events: Sequence[Event]) -> TimeOnTask:
        """Add the time of events.

        Raises:
            UnusableError: an event has no time after 1970 and before `LATEST`.
        """
        last, total, newest, in_bin, closed = state.last, state.total, state.bin, state.in_bin, state.closed
        if not state.started:
            last = _milliseconds(events[0].at)
        end = (newest + 1) * BIN_MS
        latest = _unbroken(last / 1000, events)
        if latest is not None and last >= end - BIN_MS and (now := _milliseconds(latest)) <= end:
            # The gaps of a run without a pause, in the newest bin, add up to its length.
            total += now - last
            in_bin += now - last
            last = now
            events = ()
        for event in events:
            now = _milliseconds(event.at)
            if now <= last:
                continue
            gap = min(now - last, THRESHOLD_MS)
            bin = last // BIN_MS
            beyond = max(0, last + gap - (bin + 1) * BIN_MS)
            newest, in_bin, closed = _add(newest, in_bin, closed, bin, gap - beyond)
            if beyond:
                newest, in_bin, closed = _add(newest, in_bin, closed, bin + 1, beyond)
            total += gap
            last = now
        if state.started and last == state.last:
            return state
        return TimeOnTask(True, last, total, newest, in_bin, closed)

    def size(self, state: TimeOnTask) -> int:
        return 300 + _SIZE_BIN * len(state.closed)

    def summarize(self, state: TimeOnTask) -> dict[str, Any]:
        return {"seconds": state.total / 1000, "bins": _bins(state, state.bin - BINS_SHOWN)}

    def detail(self, state: TimeOnTask) -> dict[str, Any]:
        return {"seconds": state.total / 1000, "bins": _bins(state, None)}


def _milliseconds(at: float) -> int:
    """A time in seconds since the epoch in whole milliseconds."""
    if not 0 <= at <= LATEST:
        raise UnusableError("An event has a time from 0 to 2^53 ms since the epoch.")
    return round(at * 1000)


def _unbroken(before: float, events: Sequence[Event]) -> float | None:
    """The time of the last event, None if a gap between events is negative or longer than the threshold."""
    times = [before, *[event.at for event in events]]
    if times != sorted(times):
        return None
    longest = THRESHOLD_MS / 1000
    # A run that is shorter than the threshold, as most are, has no longer gap.
    if times[-1] - before > longest and any(b - a > longest for a, b in itertools.pairwise(times)):
        return None
    return times[-1]


def _add(
    newest: int, in_bin: int, closed: tuple[tuple[int, int], ...], bin: int, time: int
) -> tuple[int, int, tuple[tuple[int, int], ...]]:
    """The newest bin, the time in it and the earlier bins, after time was added to the newest bin or a later one."""
    if bin == newest:
        return newest, in_bin + time, closed
    if in_bin:
        closed = (*closed, (newest, in_bin))[1 - BINS_KEPT :]
    return bin, time, closed


def _bins(state: TimeOnTask, after: int | None) -> dict[str, float]:
    bins = (*state.closed, (state.bin, state.in_bin))
    return {str(bin * BIN_MS // 1000): ms / 1000 for bin, ms in bins if ms and (after is None or bin > after)}
