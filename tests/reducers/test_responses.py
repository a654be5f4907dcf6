from __future__ import annotations

from typing import Any

import pytest

from reducers.responses import ResponsesReducer
from tests.reducers.folding import check_any_body, event, fold, refused

reducer = ResponsesReducer()


def answered(answer: Any) -> Any:
    state = fold(reducer, [event("answer", item="1", answer=answer)])
    return reducer.summarize(reducer.decode(reducer.encode(state)))["answer"]


def test_before_the_first_answer() -> None:
    assert reducer.summarize(reducer.initial()) == {
        "attempts": 0,
        "correct": 0,
        "answer": None,
        "last_correct": None,
        "answered_at": None,
    }


def test_attempts_and_the_last_answer() -> None:
    events = [
        event("answer", 10.0, item="1", answer="4", correct=False),
        event("answer", 20.0, item="1", answer="5", correct=True),
        event("answer", 30.5, item="1", answer=6),
    ]
    state = fold(reducer, events)
    summary = {"attempts": 3, "correct": 1, "answer": 6, "last_correct": None, "answered_at": 30.5}
    assert reducer.summarize(state) == summary
    assert reducer.detail(state) == {**summary, "first_answered_at": 10.0}


@pytest.mark.parametrize("scalar", [None, True, False, 0, -3, 2.5, "", "wörd 😀", "\ud83d", "a\x00b"])
def test_scalars_are_kept_as_they_are(scalar: Any) -> None:
    kept = answered(scalar)
    assert kept == scalar
    assert type(kept) is type(scalar)


def test_long_and_nested_answers_are_bounded() -> None:
    assert answered("é" * 501) == "é" * 500
    assert answered(["a", {"b": [1, None]}]) == '["a",{"b":[1,null]}]'
    assert answered({"é": "x" * 1000}) == '{"é":"' + "x" * 494
    assert answered(10**30) == "1" + "0" * 30
    assert answered([10**600]) == "[1" + "0" * 498


def test_what_is_not_usable() -> None:
    deep: Any = None
    for _ in range(100_000):
        deep = [deep]
    for body in ({"correct": "yes"}, {"correct": 1}, {"answer": 10**5000}, {"answer": deep}):
        refused(reducer, reducer.initial(), event("answer", item="1", **body))


def test_overview_of_all_items() -> None:
    def item(*marks: bool | None, answer: str = "") -> Any:
        return fold(reducer, [event("answer", item="?", answer=answer, correct=mark) for mark in marks])

    states = {"1": item(False, True), "2": item(True, False), "3": item(None, answer="why"), "4": item(True)}
    assert reducer.overview(states, "3") == {
        "attempts": 6,
        "correct": 3,
        "items": 4,
        "items_correct": 2,
        "item": "3",
        "answer": "why",
    }


@pytest.mark.slow
def test_any_body() -> None:
    check_any_body(reducer, ["answer"], ["item", "answer", "correct"])
