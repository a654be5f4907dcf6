"""The cost of an event in steps of the interpreter: in proportion to its bytes, independent of earlier events."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from appliance.reducer import Event, Reducer
from reducers.activity import ActivityReducer
from reducers.responses import ResponsesReducer
from reducers.time_on_task import TimeOnTaskReducer
from reducers.writing import LIMIT, WritingReducer
from tests.reducers.folding import event, fold

writing = WritingReducer()


def steps(work: Callable[[], object]) -> int:
    """The instructions that Python runs for this; a call of a built-in function counts as one."""
    count = 0

    def trace(frame: FrameType, what: str, argument: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count += what == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def insert(ibi: int, s: str) -> dict[str, Any]:
    return {"ty": "is", "ibi": ibi, "s": s}


def save(*commands: Any, **fields: Any) -> Event:
    return event("google_docs_save", document="d", bundles=[{"commands": list(commands)}], **fields)


def nested(depth: int) -> dict[str, Any]:
    batch: dict[str, Any] = insert(1, "x")
    for _ in range(depth):
        batch = {"ty": "mlti", "mts": [batch]}
    return batch


PAD_AND_DELETE = [insert(300_000, "x"), {"ty": "ds", "si": 1, "ei": 300_000}]
GROWING: dict[str, Callable[[int], Event]] = {
    "long insert": lambda n: event("edit", document="d", offset=0, insert="a 😀\0" * 2 * n),
    "long text": lambda n: event("document", document="d", text="\0" * 200 + "\ud83d word" * n),
    "many commands": lambda n: save(*[insert(1, "x") for _ in range(n)]),
    "padding and deleting": lambda n: save(*PAD_AND_DELETE * (n // 2)),
    "padding apart": lambda n: save(*[insert(1_000 + index * 400, "x") for index in range(n)]),
    "padding in code points": lambda n: save(*[insert(1 + index * 400, "😀") for index in range(n)], unit="code_point"),
    "suggestions": lambda n: save(*[{"ty": "iss", "ibi": 1, "s": "x" * 300} for _ in range(n)]),
    "snapshot": lambda n: save({"ty": "rplc", "snapshot": [{"ty": "as"}, insert(1, "ab")] * n}),
    "deep batches": lambda n: save(nested(n)),
    "many names": lambda n: save({"ty": "nm", "nmr": ["t.1"] * n, "nmc": insert(1, "x")}),
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", GROWING)
def test_the_cost_of_an_event_is_in_line_with_its_bytes(shape: str) -> None:
    events = [GROWING[shape](size) for size in (200, 400, 800)]
    # The first call fills caches, such as that of regular expressions.
    _, one, two, four = (
        steps(lambda event=event: writing.reduce(writing.initial(), event))  # type: ignore[misc]
        for event in (events[0], *events)
    )
    # Little more than twice: an edit passes over the blocks of the text.
    assert two <= 2.5 * one
    assert four <= 2.5 * two


def scattered(units: int) -> list[Event]:
    return [event("edit", document="d", offset=number * 7919 % units, insert="x") for number in range(60)]


def long_text(units: int) -> Any:
    return writing.reduce(writing.initial(), event("document", document="d", text="word " * (units // 5)))


def gaps(units: int) -> Any:
    """A text that is mostly padding, with letters at the places that give the most chunks."""
    return writing.reduce(writing.initial(), save(*[insert(at, "x") for at in range(200, units, 200)]))


@pytest.mark.slow
@pytest.mark.parametrize("made", [long_text, gaps])
def test_an_edit_of_the_longest_text_costs_little_more_than_one_of_a_short_text(made: Callable[[int], Any]) -> None:
    costs = []
    for units in (20_000, LIMIT - 1_000):
        state = made(units)
        costs.append(steps(lambda state=state, units=units: fold_from(state, scattered(units))) / 60)  # type: ignore[misc]
    # A text that is a hundred times as long has ten to twenty times as many blocks, at few steps each.
    assert costs[1] < costs[0] + 12_000


def fold_from(state: Any, events: list[Event]) -> Any:
    for one in events:
        state = writing.reduce(state, one)
    return state


@pytest.mark.parametrize(
    ("reducer", "make"),
    [
        (ActivityReducer(), lambda n: event("edit", n * 60.0)),
        (TimeOnTaskReducer(), lambda n: event("edit", n * 600.0)),
        (ResponsesReducer(), lambda n: event("answer", n * 1.0, item="i", answer=[n] * 400)),
        (WritingReducer(), lambda n: event("edit", n * 5.0, document="d", offset=n * 5, insert="typed")),
        (WritingReducer(), lambda n: event("cursor", n * 5.0, document="d", offset=n)),
    ],
)
def test_the_cost_does_not_grow_with_the_events_before(reducer: Reducer[Any], make: Callable[[int], Event]) -> None:
    few = fold(reducer, map(make, range(200)))
    many = fold(reducer, map(make, range(4_000)))
    for call in (
        lambda state, number: reducer.reduce(state, make(number)),
        lambda state, number: reducer.size(state),
    ):
        costs = [steps(lambda: [call(state, n + i) for i in range(40)]) for state, n in ((few, 200), (many, 4_000))]  # noqa: B023
        assert costs[1] <= 1.5 * costs[0] + 500
