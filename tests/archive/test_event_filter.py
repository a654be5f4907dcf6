"""The event filter: classes, and times as people write them."""

from __future__ import annotations

from datetime import datetime

import pytest

from appliance.archive import Record
from appliance.archive.event_filter import EVERYTHING, EventFilter, moment
from appliance.errors import SettingsError


def record(at: float, class_id: str = "7a") -> Record:
    return Record(at, at, "s", class_id, "x", "u", 1)


def test_which_lines_pass() -> None:
    assert EVERYTHING.takes(record(5))
    later = EventFilter(start=10.0, end=20.0)
    assert [at for at in (9.9, 10, 19.9, 20) if later.takes(record(at))] == [10, 19.9]
    assert not EventFilter(classes=frozenset({"7b"})).takes(record(1))


def test_dates_and_times() -> None:
    assert moment("--from", "2026-11-24T09:30:00Z") == 1795512600
    assert moment("--from", "2026-11-24") == datetime(2026, 11, 24).timestamp()
    for text in ("2026-11-24", "20261124"):
        assert moment("--until", text, whole_day=True) == datetime(2026, 11, 25).timestamp()
    at = moment("--until", "2026-11-24T10:30", whole_day=True)
    assert at == datetime(2026, 11, 24, 10, 30).timestamp()


def test_the_first_and_the_last_day_of_the_calendar_are_dates() -> None:
    day = 86400.0
    for whole_day in (False, True):
        first, last = (moment("--to", text, whole_day=whole_day) for text in ("0001-01-01", "9999-12-31"))
        assert abs(first + 62135596800 - day * whole_day) <= day
        assert abs(last - 253402214400 - day * whole_day) <= day
        assert first < moment("--to", "1970-01-02") < last
    everything = EventFilter(start=moment("--from", "0001-01-01"), end=moment("--to", "9999-12-31", whole_day=True))
    assert everything.takes(record(0.0))
    assert everything.takes(record(1_700_000_000.0))
    assert moment("--from", "0001-01-01T00:00+05:00") == -62135596800 - 5 * 3600


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "0000-01-01"])
def test_what_is_no_date_is_a_sentence(text: str) -> None:
    with pytest.raises(SettingsError, match="The flag --until must be a date or time"):
        moment("--until", text, whole_day=True)
