"""Event filter: which of the archived events a command takes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import msgspec

from appliance.archive.records import Record
from appliance.errors import SettingsError

_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d{8}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class EventFilter(msgspec.Struct, frozen=True):
    """Which events a command takes.

    Attributes:
        students: ids; None for all.
        classes: ids of the classes that the events came in; None for all.
        start: events from this time on, by the time at which they were done (``at``), in seconds since the epoch.
        end: events before this time.
    """

    students: frozenset[str] | None = None
    classes: frozenset[str] | None = None
    start: float | None = None
    end: float | None = None

    def takes(self, record: Record) -> bool:
        """Whether a line passes. Students are not compared: `appliance.archive.merge` reads theirs alone."""
        return (
            (self.classes is None or record.class_id in self.classes)
            and (self.start is None or record.at >= self.start)
            and (self.end is None or record.at < self.end)
        )


EVERYTHING = EventFilter()


def moment(flag: str, text: str, *, whole_day: bool = False) -> float:
    """A date or time as seconds since the epoch; without a zone it is this computer's local time.

    Args:
        flag: the command's flag, for the message.
        text: such as ``2026-11-24``, ``2026-11-24T10:30`` or ``2026-11-24T09:30:00Z``.
        whole_day: whether a date alone means the end of that day, not its beginning.

    Raises:
        SettingsError: it is no date or time.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"The flag {flag} must be a date or time such as 2026-11-24 or 2026-11-24T10:30; found {text!r}."
        ) from None
    day = timedelta(days=int(whole_day and _DATE.fullmatch(text) is not None))
    try:
        return (found + day).timestamp()
    except (ValueError, OverflowError, OSError):
        # The first and last days of the calendar, which have no local time everywhere; Windows has none before 1970.
        return (found.replace(tzinfo=found.tzinfo or UTC) - _EPOCH + day).total_seconds()
