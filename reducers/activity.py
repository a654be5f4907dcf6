"""Activity: how many events a student's programs sent in each minute, and whether the page is in use.

Every event counts. Of three of them a field is read:

==============  ===========  ================================================================
event           field        meaning
==============  ===========  ================================================================
``visibility``  ``visible``  whether the page is in view
``focus``       ``focused``  whether the page has the keyboard
``help``        ``raised``   whether the student asks for help; false withdraws the request
==============  ===========  ================================================================

The fields are true or false. Any other value is ignored; the event still counts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from appliance.reducer import STUDENT, Column, Event, Reducer, State, UnusableError

WINDOW_MINUTES = 120
"""How far back, from the newest minute with an event, the counts by minute reach."""

LATEST = 2.0**53 / 1000
"""The latest time of an event, in seconds since the epoch: up to it whole milliseconds are exact."""
# Bytes of memory for one minute: a pair of numbers and its slot in the tuple.
_SIZE_MINUTE = 130

_FIELDS = {"visibility": "visible", "focus": "focused", "help": "raised"}


class Activity(State, frozen=True):
    """A student's activity.

    Attributes:
        events: events so far.
        last_at: time of the newest event, in seconds since the epoch.
        minute: the minute of the newest event, in whole minutes since the epoch.
        count: events in that minute so far.
        closed: earlier minutes within the window that had events, ascending, with their counts.
        visible: whether the page is in view, None where unknown.
        focused: whether the page has the keyboard, None where unknown.
        help: whether the student asks for help.
    """

    events: int = 0
    last_at: float = 0.0
    minute: int = 0
    count: int = 0
    closed: tuple[tuple[int, int], ...] = ()
    visible: bool | None = None
    focused: bool | None = None
    help: bool = False


class ActivityReducer(Reducer[Activity]):
    """Counts a student's events, in total and by minute.

    The summary: ``events``; ``minutes``, minute since the epoch (as text) -> events, for the last 120 minutes up to
    the newest event, without those that had none; ``last_event_at`` in seconds since the epoch, None before the
    first event; ``visible`` and ``focused``, true, false or None; ``help``, true or false.
    """

    name = "activity"
    State = Activity
    scopes = (STUDENT,)
    columns: ClassVar[Mapping[str, Column]] = {
        "events": Column("events so far", "whole", "events"),
        "minutes": Column(
            "events by minute, of the last 120 minutes up to the newest event, without those that had none",
            "series",
            "minutes since the epoch: events",
        ),
        "last_event_at": Column("time of the newest event", "time"),
        "visible": Column("whether the page was in view at last", "truth"),
        "focused": Column("whether the page had the keyboard at last", "truth"),
        "help": Column("whether the student asked for help at last", "truth"),
    }

    def reduce(self, state: Activity, event: Event) -> Activity:
        return self.reduce_all(state, (event,))

    def reduce_all(self, state: Activity, events: Sequence[Event]) -> Activity:
        """Count events; one older than the newest (from another tab) counts in its own minute.

        Raises:
            UnusableError: an event has no time after 1970 and before `LATEST`.
        """
        started = state.events > 0
        newest, current, count, closed = state.last_at, state.minute, state.count, state.closed
        visible, focused, help = state.visible, state.focused, state.help
        until = (current + 1) * 60.0
        for event in events:
            at = event.at
            if newest <= at < until and started:
                count += 1
                newest = at
            else:
                minute = _minute(at)
                if minute == current:
                    count += 1
                elif not started or minute > current:
                    if started:
                        closed = _window((*closed, (current, count)), minute)
                    current, count = minute, 1
                    until = (minute + 1) * 60.0
                else:
                    closed = _counted(closed, minute, current)
                newest = max(newest, at) if started else at
                started = True
            field = _FIELDS.get(event.name)
            if field is not None:
                value = event.body.get(field)
                if value is True or value is False:
                    if field == "visible":
                        visible = value
                    elif field == "focused":
                        focused = value
                    else:
                        help = value
        return Activity(state.events + len(events), newest, current, count, closed, visible, focused, help)

    def size(self, state: Activity) -> int:
        return 300 + _SIZE_MINUTE * len(state.closed)

    def summarize(self, state: Activity) -> dict[str, Any]:
        minutes = {str(minute): count for minute, count in state.closed}
        if state.events:
            minutes[str(state.minute)] = state.count
        return {
            "events": state.events,
            "minutes": minutes,
            "last_event_at": state.last_at if state.events else None,
            "visible": state.visible,
            "focused": state.focused,
            "help": state.help,
        }


def _minute(at: float) -> int:
    """The whole minutes since the epoch of a time in seconds since then.

    Raises:
        UnusableError: it is before 1970 or after `LATEST`.
    """
    if not 0 <= at <= LATEST:
        raise UnusableError("An event has a time from 0 to 2^53 ms since the epoch.")
    return int(at // 60)


def _window(closed: tuple[tuple[int, int], ...], newest: int) -> tuple[tuple[int, int], ...]:
    """The minutes within the window that ends with the newest minute."""
    return closed[bisect_left(closed, (newest - WINDOW_MINUTES + 1,)) :]


def _counted(closed: tuple[tuple[int, int], ...], minute: int, newest: int) -> tuple[tuple[int, int], ...]:
    """The closed minutes after one more event in one of them; an event before the window is not kept."""
    if minute <= newest - WINDOW_MINUTES:
        return closed
    at = bisect_left(closed, (minute,))
    if at < len(closed) and closed[at][0] == minute:
        return (*closed[:at], (minute, closed[at][1] + 1), *closed[at + 1 :])
    return (*closed[:at], (minute, 1), *closed[at:])
