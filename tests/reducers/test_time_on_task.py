from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.reducer import DOCUMENT, STUDENT
from reducers.time_on_task import TimeOnTaskReducer
from tests.reducers.folding import check_any_body, event, fold

reducer = TimeOnTaskReducer()
DAY = 86_400


def after(*times: float) -> dict[str, Any]:
    return reducer.summarize(fold(reducer, [event("edit", at) for at in times]))


def test_scopes() -> None:
    assert tuple(reducer.scopes) == (STUDENT, DOCUMENT)
    assert reducer.events is None


def test_before_the_first_event() -> None:
    assert reducer.summarize(reducer.initial()) == {"seconds": 0, "bins": {}}
    assert after(1234.5) == {"seconds": 0, "bins": {}}


# The Learning Observer's own figures for these times, but for the last row: there a clock that goes back takes
# time away, which gives 85.
@pytest.mark.parametrize(
    ("times", "seconds"),
    [((0, 10, 3610, 3620), 80), ((0, 59.5, 119.5, 180, 180), 179.5), ((0, 30, 10, 25, 200), 90)],
)
def test_pauses_add_at_most_a_minute(times: tuple[float, ...], seconds: float) -> None:
    start = 1_700_000_000
    assert after(*(start + at for at in times))["seconds"] == seconds


def test_time_is_split_over_the_boundary_of_two_bins() -> None:
    start = 1_700_000_400
    assert start % 600 == 0
    times = [start + 570]
    for gap in (10, 35, 25, 1960, 10):
        times.append(times[-1] + gap)
    # The minute of the idle gap counts where the gap began.
    assert after(*times)["bins"] == {str(start): 30, str(start + 600): 100, str(start + 2400): 10}


def test_sums_are_exact() -> None:
    assert after(*(1_700_000_000 + number / 10 for number in range(1001)))["seconds"] == 100


def test_the_summary_reaches_back_a_day_and_the_detail_further() -> None:
    times = [float(at) for day in range(3) for at in (day * DAY + 600, day * DAY + 605)]
    state = fold(reducer, [event("edit", at) for at in times])
    assert reducer.summarize(state)["bins"] == {str(2 * DAY + 600): 5}
    # A new day's first event adds the minute after the last one before it.
    assert reducer.detail(state)["bins"] == {"600": 65, str(DAY + 600): 65, str(2 * DAY + 600): 5}
    assert reducer.summarize(state)["seconds"] == 135


def test_the_newest_bins_are_kept() -> None:
    state = fold(reducer, [event("edit", 600.0 * number + second) for number in range(1200) for second in (0, 1)])
    bins = reducer.detail(state)["bins"]
    assert len(bins) == 1008
    assert list(bins) == [str(600 * number) for number in range(192, 1200)]


@given(st.lists(st.integers(0, 7_200_000), max_size=50))
def test_bins_add_up(times: list[int]) -> None:
    summary = after(*(ms / 1000 for ms in times))
    total, last = 0, times[0] if times else 0
    bins: dict[int, int] = {}
    for ms in times:
        for instant in (last, last + min(60_000, max(ms - last, 0))):
            bins.setdefault(instant // 600_000, 0)
        gap = min(60_000, max(ms - last, 0))
        inside = min(gap, (last // 600_000 + 1) * 600_000 - last)
        bins[last // 600_000] += inside
        bins[(last + gap) // 600_000] += gap - inside
        total += gap
        last = max(last, ms)
    assert summary["seconds"] == total / 1000
    assert summary["bins"] == {str(number * 600): ms / 1000 for number, ms in bins.items() if ms}


@pytest.mark.slow
def test_any_body() -> None:
    check_any_body(reducer, ["edit", "anything"], ["document", "t"], examples=50)
