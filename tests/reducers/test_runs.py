"""Reducing many events at once has the same result as reducing them one by one, for every bundled reducer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.counters import Counters
from appliance.reducer import Event, Reducer
from appliance.states import Fold, StateLimits, StudentStates
from reducers.activity import ActivityReducer
from reducers.responses import ResponsesReducer
from reducers.time_on_task import TimeOnTaskReducer
from reducers.writing import WritingReducer
from tests.reducers.folding import event

REDUCERS: list[Reducer[Any]] = [ActivityReducer(), ResponsesReducer(), TimeOnTaskReducer(), WritingReducer()]
# Typing, pauses, and the borders of minutes and bins; sometimes a step back, as a second tab makes.
STEPS = st.sampled_from([0, 1, 80, 1999, 2000, 2001, 30_000, 60_000, 60_001, 599_999, 600_000, 3_600_000, -1, -45_000])
DOCUMENTS = st.sampled_from(["one", "two", None, 7, ["one"]])
EVENTS = st.one_of(
    # Mostly typing at one place, which is joined.
    st.builds(lambda text: ("edit", {"offset": "on", "insert": text}), st.sampled_from(["a", "b ", "\n", "é", "😀"])),
    st.builds(
        lambda offset, remove, text: ("edit", {"offset": offset, "remove": remove, "insert": text}),
        st.integers(0, 12),
        st.integers(0, 4),
        st.sampled_from(["", "x", "word", "\ud83d", "\ude00", "\0"]),
    ),
    st.sampled_from(
        [
            ("edit", {"offset": -1}),
            ("edit", {"offset": "here"}),
            ("cursor", {"offset": 3}),
            ("document", {"text": "a new text 😀"}),
            ("google_docs_save", {"bundles": [{"commands": [{"ty": "is", "ibi": 1, "s": "G"}]}]}),
            ("help", {"raised": True}),
            ("visibility", {"visible": False}),
            ("answer", {"item": "q1", "answer": 4, "correct": True}),
            ("answer", {"item": "q2", "answer": 4, "correct": "yes"}),
            ("anything", {}),
        ]
    ),
)


def _events(script: list[tuple[tuple[str, dict[str, Any]], int, Any]]) -> list[Event]:
    at, end = 1_700_000_000_000, 0
    made = []
    for (name, body), step, document in script:
        at += step
        fields = dict(body)
        if fields.get("offset") == "on":
            fields["offset"] = end
        if type(fields.get("offset")) is int:
            end = max(0, fields["offset"]) + len(fields.get("insert", "").encode("utf-16-le", "surrogatepass")) // 2
        if document is not None:
            fields["document"] = document
        made.append(event(name, at / 1000, **fields))
    return made


def _lived(events: list[Event], cuts: set[int]) -> tuple[dict[str, bytes], dict[str, int]]:
    counters = Counters()
    fold = Fold(REDUCERS, counters, StateLimits(50, 100))
    student = StudentStates(fold, "s-1", "class-1")
    stream = student.stream("stream-1", "org.example.test")
    start = 0
    for end in [*sorted(cuts), len(events)]:
        if events[start:end]:
            fold.reduce(stream, events[start:end])
        start = max(start, end)
    return student.row().fields, counters.snapshot()


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(EVENTS, STEPS, DOCUMENTS), max_size=25), st.sets(st.integers(1, 24)))
@example([(("edit", {"offset": "on", "insert": letter}), 100, "one") for letter in "typed on and on"], set())
def test_runs_of_any_length_give_the_same_states(script: Any, cuts: set[int]) -> None:
    events = _events(script)
    assert _lived(events, cuts) == _lived(events, set(range(len(events))))


@pytest.mark.parametrize("reducer", REDUCERS, ids=lambda reducer: reducer.name)
def test_one_event_is_a_run_of_one(reducer: Reducer[Any]) -> None:
    one = event("answer", 5.0, item="q1", answer=1, document="d") if reducer.name == "responses" else None
    one = one or event("edit", 5.0, document="d", offset=0, insert="x")
    assert reducer.reduce(reducer.initial(), one) == reducer.reduce_all(reducer.initial(), [one])
