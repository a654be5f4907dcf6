"""Any content of an event: memory in proportion to its bytes, states that can be stored and shown, no lazy import."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from appliance.reducer import Event, Reducer, State, UnusableError
from appliance.states import to_json
from reducers.activity import ActivityReducer
from reducers.responses import ResponsesReducer
from reducers.time_on_task import TimeOnTaskReducer
from reducers.writing import Writing, WritingReducer
from tests.reducers.folding import event, fold, memory

REDUCERS: list[Reducer[Any]] = [ActivityReducer(), ResponsesReducer(), TimeOnTaskReducer(), WritingReducer()]
HOSTILE: list[Any] = [
    *(2**53, 2**53 + 1, 2**63, 2**64, 10**400, -1, -(2**64), -(10**400)),
    *(1e308, -1e308, 5e-324, 0.5, -0.0),
    *("\ud83d", "\ude00\ud83d", "\0" * 100, "x" * 100_000, "😀" * 10_000),
    *(None, True, [], {}, [[10**400]], {"\ud83d": "\ude00"}),
]
FIELDS = {
    "edit": ["offset", "remove", "insert", "document"],
    "document": ["text", "title", "document"],
    "cursor": ["offset", "length"],
    "answer": ["item", "answer", "correct"],
    "visibility": ["visible"],
    "focus": ["focused"],
    "help": ["raised"],
    "document_history": ["history", "object", "unit"],
    "google_docs_save": ["bundles", "unit", "origin"],
}
USUAL: dict[str, dict[str, Any]] = {
    "edit": {"offset": 0, "insert": "x", "document": "d"},
    "document": {"text": "one two", "title": "T", "document": "d"},
    "cursor": {"offset": 0, "length": 0},
    "answer": {"item": "i", "answer": "a", "correct": True},
}
COMMANDS: list[dict[str, Any]] = [
    {"ty": "is", "ibi": 1, "s": "x"},
    {"ty": "iss", "ibi": 1, "s": "x"},
    {"ty": "ds", "si": 1, "ei": 1},
    {"ty": "dss", "si": 1, "ei": 1},
    {"ty": "rplc", "snapshot": [{"ty": "is", "ibi": 1, "s": "x", "sl": 1}]},
]


def bodies() -> list[tuple[str, dict[str, Any]]]:
    """Each field of each event with each hostile value in the place of a usual one."""
    made = []
    for name, fields in FIELDS.items():
        for field in fields:
            made += [(name, {**USUAL.get(name, {}), field: value}) for value in HOSTILE]
    for command in COMMANDS:
        inner = command["snapshot"][0] if "snapshot" in command else command
        for field in inner:
            for value in HOSTILE:
                changed = {**inner, field: value}
                changed = {**command, "snapshot": [changed]} if "snapshot" in command else changed
                made.append(("google_docs_save", {"document": "d", "bundles": [{"commands": [changed]}]}))
    return made


def check(reducer: Reducer[State], state: State) -> None:
    """The state can be stored, read and shown."""
    encoded = reducer.encode(state)
    assert reducer.encode(reducer.decode(encoded)) == encoded
    for shown in (reducer.summarize(state), reducer.detail(state), reducer.overview({"\ud83d": state}, "\ud83d")):
        json.loads(to_json(shown))


@pytest.mark.parametrize("reducer", REDUCERS, ids=lambda reducer: reducer.name)
def test_every_field_with_every_hostile_value(reducer: Reducer[State]) -> None:
    state = reducer.initial()
    for name, body in bodies():
        if reducer.events is not None and name not in reducer.events:
            continue
        one = event(name, 5.0, **body)
        before = memory(state)
        try:
            state = reducer.reduce(state, one)
        except UnusableError:
            continue
        check(reducer, state)
        assert memory(state) - before < 2_000 + 10 * len(repr(body))


@pytest.mark.parametrize("at", [1e308, -1e308, 2.0**53, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("reducer", REDUCERS, ids=lambda reducer: reducer.name)
def test_times_that_no_clock_gives(reducer: Reducer[State], at: float) -> None:
    name = "answer" if reducer.name == "responses" else "edit"
    state = fold(reducer, [event(name, 5.0, **USUAL[name])])
    for _ in range(3):
        try:
            state = reducer.reduce(state, event(name, at, **USUAL[name]))
        except UnusableError:
            continue
    check(reducer, state)
    assert math.isfinite(state.edited_at if isinstance(state, Writing) else 0.0)


def padded(documents: int) -> list[Event]:
    """One event for each of many documents, with an index far beyond the end."""
    command = {"ty": "is", "ibi": 990_000, "s": "x"}
    return [
        event("google_docs_save", 1.0, document=str(number), bundles=[{"commands": [command]}])
        for number in range(documents)
    ]


def test_many_padded_documents_take_memory_by_their_events() -> None:
    reducer = WritingReducer()
    states = [reducer.reduce(reducer.initial(), one) for one in padded(500)]
    assert sum(map(memory, states)) < 1_000_000
    assert sum(len(reducer.encode(state)) for state in states) < 50_000
    assert sum(map(reducer.size, states)) < 1_000_000
    assert sum(len(to_json(reducer.detail(state))) for state in states) < 500_000


def writing(*texts: str) -> State:
    return fold(WritingReducer(), [event("document", document="d", text=text) for text in texts])


def gaps(number: int) -> State:
    commands = [{"ty": "is", "ibi": index * 99, "s": "λ"} for index in range(1, number)]
    return fold(WritingReducer(), [event("google_docs_save", document="d", bundles=[{"commands": commands}])])


def days(reducer: Reducer[State], step: float) -> State:
    return fold(reducer, [event("edit", number * step) for number in range(3_000)])


@pytest.mark.parametrize(
    "made",
    [
        lambda: (WritingReducer(), WritingReducer().initial()),
        *(
            lambda letters=letters, size=size: (WritingReducer(), writing(letters * size))  # type: ignore[misc]
            for letters in ("word ", "λόγος", "a 😀😀", "\0", "a" + "\0" * 70)
            for size in (10, 1_000, 20_000)
        ),
        lambda: (WritingReducer(), gaps(5_000)),
        lambda: (ResponsesReducer(), fold(ResponsesReducer(), [event("answer", item="i", answer="😀" * 500)])),
        lambda: (ActivityReducer(), days(ActivityReducer(), 60.0)),
        lambda: (TimeOnTaskReducer(), days(TimeOnTaskReducer(), 600.0)),
    ],
)
def test_the_size_is_about_the_memory(made: Callable[[], tuple[Reducer[State], State]]) -> None:
    reducer, state = made()
    assert 0.6 * memory(state) <= reducer.size(state) <= 4 * memory(state) + 1_000


def test_a_reducer_that_says_no_size_is_not_counted() -> None:
    class Plain(Reducer[State]):
        name = "plain"
        State = State

    assert Plain().size(State()) == 0


EXHAUSTED = r"""
import resource, sys
from appliance.events import EventLimits, RejectedError, decode_event
from appliance.states import to_json
from reducers.writing import WritingReducer
from reducers.activity import ActivityReducer
from reducers.responses import ResponsesReducer
from reducers.time_on_task import TimeOnTaskReducer
from appliance.reducer import Event

def run():
    for raw in TEXTS:
        try:
            body = decode_event(raw, EventLimits())
        except RejectedError:
            continue
        for reducer in (WritingReducer(), ActivityReducer(), ResponsesReducer(), TimeOnTaskReducer()):
            if reducer.events is not None and body["event"] not in reducer.events:
                continue
            state = reducer.reduce(reducer.initial(), Event(body["event"], 1.0, "test", body))
            state = reducer.decode(reducer.encode(state))
            shown = to_json(reducer.detail(state)) + to_json(reducer.overview({"x": state}, "x"))
            if reducer.name == "writing":
                print(ascii(reducer.detail(state)["text"]))

TEXTS = [
    '{"event":"edit","document":"d","offset":0,"insert":"\U0001f600 caf\u00e9"}'.encode(),
    b'{"event":"edit","document":"d","offset":0,"insert":"\ud83d"}',
    b'{"event":"document","document":"d","text":"\ud83d\ude00 \ude00"}',
    b'{"event":"answer","item":"\ud83d","answer":["\ud83d"]}',
    b'{"event":"google_docs_save","document":"d","unit":"code_point","bundles":[{"commands":['
    b'{"ty":"is","ibi":9000,"s":"\ud83d\ude00"},{"ty":"ds","si":1,"ei":2}]}]}',
    *('{"event":"x"}'.encode(codec) for codec in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")),
    b'\xef\xbb\xbf{"event":"x"}', b'{"event": 1e999}', b'\xff\xfe', b'[',
]
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
before = set(sys.modules)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
try:
    open(sys.executable).close()
except OSError:
    run()
    print("imported", sorted(set(sys.modules) - before))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a process has no such limit there")
def test_an_emoji_needs_no_file_handle() -> None:
    done = subprocess.run([sys.executable, "-c", EXHAUSTED], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        r"'\U0001f600 caf\xe9'",
        r"'\ud83d'",
        r"'\U0001f600 \ude00'",
        r"'\U0001f600'",
        "imported []",
    ]
