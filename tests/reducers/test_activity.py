from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reducers.activity import ActivityReducer
from tests.reducers.folding import check_any_body, event, fold

reducer = ActivityReducer()


def test_before_the_first_event() -> None:
    assert reducer.summarize(reducer.initial()) == {
        "events": 0,
        "minutes": {},
        "last_event_at": None,
        "visible": None,
        "focused": None,
        "help": False,
    }


def test_counts_by_minute() -> None:
    state = fold(reducer, [event("edit", at) for at in (600.0, 601.5, 659.999, 660.0, 900.25)])
    summary = reducer.summarize(state)
    assert summary["events"] == 5
    assert summary["minutes"] == {"10": 3, "11": 1, "15": 1}
    assert summary["last_event_at"] == 900.25


def test_visibility_focus_and_help() -> None:
    events = [event("visibility", visible=False), event("focus", focused=True), event("help", raised=True)]
    summary = reducer.summarize(fold(reducer, events))
    assert (summary["visible"], summary["focused"], summary["help"]) == (False, True, True)
    events += [event("visibility", visible=True), event("focus", focused=False), event("help", raised=False)]
    summary = reducer.summarize(fold(reducer, events))
    assert (summary["visible"], summary["focused"], summary["help"]) == (True, False, False)


@pytest.mark.parametrize("wrong", [1, 0, "true", None, [], {"visible": True}])
def test_what_is_not_a_truth_value_is_ignored_and_the_event_counts(wrong: object) -> None:
    events = [event("visibility", visible=True), event("visibility", visible=wrong), event("help", raised=wrong)]
    summary = reducer.summarize(fold(reducer, events))
    assert (summary["events"], summary["visible"], summary["help"]) == (3, True, False)


def test_fields_of_other_events_mean_nothing() -> None:
    summary = reducer.summarize(fold(reducer, [event("edit", visible=True, focused=True, raised=True)]))
    assert (summary["visible"], summary["focused"], summary["help"]) == (None, None, False)


def test_an_older_event_counts_in_its_own_minute() -> None:
    events = [event("edit", at) for at in (600.0, 720.0, 659.0, 661.0)]
    summary = reducer.summarize(fold(reducer, events))
    assert summary["minutes"] == {"10": 2, "11": 1, "12": 1}
    assert summary["last_event_at"] == 720.0


@given(st.lists(st.integers(0, 300 * 60_000), max_size=60))
def test_minutes_are_those_of_the_window(times: list[int]) -> None:
    summary = reducer.summarize(fold(reducer, [event("edit", ms / 1000) for ms in times]))
    newest = max((ms // 60_000 for ms in times), default=0)
    # Whether an older event was counted depends on the newest event at that time.
    expected: Counter[int] = Counter()
    seen = -1
    for ms in times:
        seen = max(seen, ms // 60_000)
        if ms // 60_000 > seen - 120:
            expected[ms // 60_000] += 1
    assert summary["minutes"] == {str(m): count for m, count in expected.items() if m > newest - 120}
    assert summary["events"] == len(times)


@pytest.mark.slow
def test_any_body() -> None:
    check_any_body(reducer, ["visibility", "focus", "help", "edit"], ["visible", "focused", "raised"])
