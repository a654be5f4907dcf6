"""The fold: routes of events, cells, sizes and failures of every function of a reducer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from appliance.archive import Damage, Record
from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.events import Event
from appliance.health import Health
from appliance.kvs import Encoded, Row
from appliance.reducer import DOCUMENT, STUDENT, Reducer
from appliance.states import (
    Fold,
    StateLimits,
    Stream,
    StreamClosedError,
    StudentStates,
    decode_student_summary,
    student_details,
    student_key,
    undo,
)
from appliance.states.replay import replay_records
from tests.pipeline.world import A, Tally


class Folding:
    """A fold with one student and one stream.

    Attributes:
        health: where failures are findings.
    """

    def __init__(self, *reducers: Reducer[Any], limits: StateLimits | None = None) -> None:
        self.counters = Counters()
        self.health = Health(self.counters)
        self.fold = Fold(reducers, self.counters, limits or StateLimits(50, 100), health=self.health)
        self.student = StudentStates(self.fold, "s-1", "class-1")
        self.stream = self.student.stream("stream-1", "org.example.test")

    def reduce(self, *bodies: dict[str, Any]) -> None:
        events = [Event(body.get("event", "a"), float(n), "org.example.test", body) for n, body in enumerate(bodies)]
        self.fold.reduce(self.stream, events)

    def seen(self, name: str = "tally", value: str = "") -> int:
        """The number of events in a state of a `Tally`; 0 if there is none."""
        scoped = next(one for one in self.fold.scoped_reducers if one.name == name and bool(one.fields) == bool(value))
        cell = self.student.scope_states[scoped.index].cells.get(value)
        return cell.state.seen if cell else 0  # type: ignore[attr-defined]


def failing(function: str, result: Callable[[], Any]) -> Reducer[Any]:
    """A `Tally` one of whose functions has another result."""
    body = {"name": "failing", "scopes": (STUDENT,), function: lambda self, *args: result()}
    return type("Failing", (Tally,), body)()


def error() -> Any:
    raise ValueError("a fault")


def test_a_field_of_a_scope_that_is_no_text_is_no_value_of_it() -> None:
    f = Folding(Tally())
    f.reduce(A, {"event": "a", "document": ["d1"]}, {"event": "a", "document": {}}, {"event": "a", "document": 7}, A)
    assert (f.seen(), f.seen(value="d1")) == (5, 2)


def test_a_stream_may_change_many_documents() -> None:
    f = Folding(Tally(), limits=StateLimits(200, 100))
    for _ in range(3):
        for n in range(100):
            f.reduce({"event": "a", "document": f"d{n}"})
    assert all(f.seen(value=f"d{n}") == 3 for n in range(100))
    assert len(f.stream.cells) <= 100


@pytest.mark.parametrize("initial", [error, lambda: None])
def test_a_reducer_whose_initial_state_fails_gets_no_events(initial: Callable[[], Any]) -> None:
    f = Folding(Tally(), failing("initial", initial))
    f.reduce(A)
    assert f.seen() == 1
    assert f.seen("failing") == 0
    assert f.counters["reducer_failures{failing}"] == 1


@pytest.mark.parametrize("result", [error, lambda: "text", lambda: b"x" * 1000])
def test_a_state_that_never_could_be_encoded_is_stored_as_nothing(result: Callable[[], Any]) -> None:
    f = Folding(Tally(), failing("encode", result), limits=StateLimits(50, 100, state_bytes=500))
    f.reduce(A)
    row = f.student.row()
    assert row.fields["state/failing//"] == b""
    assert f.fold.codec.unstored == {"failing"}
    assert "failing" in f.fold.failures.last
    assert [found.code for found in f.health.findings()] == ["reducer.states"]


@pytest.mark.parametrize("result", [error, lambda: None, lambda: A])
def test_a_state_that_cannot_be_decoded_breaks_the_states_of_its_reducer(result: Callable[[], Any]) -> None:
    f = Folding(Tally(), failing("decode", result))
    f.reduce(A)
    row = f.student.row()
    f.student.load(Row(row.key, 1, row.fields))
    f.reduce(A)
    assert f.seen() == 2
    assert f.seen("failing") == 0
    change = f.student.change()
    assert change is not None
    assert change.fields["broken/failing"] == Encoded(b"1")


@pytest.mark.parametrize("result", [error, lambda: None, lambda: {"wide": "x" * 1000}])
def test_a_summary_that_fails_is_empty_where_there_was_none_before(result: Callable[[], Any]) -> None:
    f = Folding(failing("summarize", result), limits=StateLimits(50, 100, summary_bytes=500))
    f.reduce(A)
    change = f.student.change()
    assert change is not None
    summary = change.fields["summary/failing"]
    assert summary is not None
    assert (summary.encode(), summary.encode()) == (b"{}", b"{}")
    assert f.counters["reducer_failures{failing}"] == 2


def test_a_summary_that_fails_twice_is_empty() -> None:
    class Once(Tally):
        name = "once"
        calls = 0

        def summarize(self, state: Any) -> dict[str, Any]:
            self.calls += 1
            if self.calls > 1:
                raise ValueError("a fault")
            return super().summarize(state)

    f = Folding(Once())
    summaries = []
    for _ in range(2):
        f.reduce(A)
        change = f.student.change()
        assert change is not None
        summary = change.fields["summary/once"]
        assert summary is not None
        summaries.append(summary.encode())
    assert json.loads(summaries[0])["seen"] == 1
    assert summaries[1] == b"{}"


def test_a_detail_that_fails_is_empty() -> None:
    class Failing(Tally):
        name = "failing"
        scopes = (DOCUMENT,)

        def detail(self, state: Any) -> dict[str, Any]:
            raise ValueError("a fault")

    class Unreadable(Failing):
        name = "unreadable"

        def decode(self, encoded: bytes) -> Any:
            raise ValueError("a fault")

    f = Folding(Failing(), Unreadable())
    f.reduce(A)
    details = student_details(f.fold, f.student.row())
    assert {name: bytes(raw) for name, raw in details.scopes["documents"]["d1"].items()} == {
        "failing": b"{}",
        "unreadable": b"{}",
    }


class Sized(Tally):
    """Returns the size of its states, or fails."""

    name = "sized"
    scopes = (STUDENT,)

    def __init__(self, size: Callable[[Any], int]) -> None:
        self.of = size

    def size(self, state: Any) -> int:
        return self.of(state)


def test_a_reducer_that_gives_no_size_is_not_limited_by_the_size_of_others() -> None:
    f = Folding(Sized(lambda state: 100 * state.seen), Tally(), limits=StateLimits(50, 100, student_bytes=500))
    for _ in range(9):
        f.reduce(A)
    assert (f.seen("sized"), f.student.size, f.seen()) == (5, 500, 9)
    assert f.student.limited_at is not None
    change = f.student.change()
    assert change is not None
    stored = change.fields["summary/"]
    assert stored is not None
    assert decode_student_summary(stored.encode()).limited_at == f.student.limited_at
    assert [found.code for found in f.health.findings()] == ["student.full"]


def test_a_reducer_whose_size_fails_counts_as_nothing() -> None:
    f = Folding(Sized(lambda state: error()))
    f.reduce(A)
    assert (f.seen("sized"), f.student.size) == (1, 0)
    assert f.counters["reducer_failures{sized}"] == 1


def test_failures_without_health_are_counted_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.states.fold.SLOW_SECONDS", -1.0)
    counters, live = Counters(), Counters()
    fold = Fold([failing("reduce", error)], counters, StateLimits(50, 100))
    student = StudentStates(fold, "s-1", "class-1")
    fold.reduce(student.stream("stream-1", "source"), [Event("a", 1.0, "source", A)])
    assert counters["reducer_slow{failing}"] == 1
    assert counters["reducer_failures{failing}"] == 1
    other = Fold([Tally()], live, StateLimits(50, 100))
    other.failures.add_all(fold.failures)
    assert (live["reducer_failures{failing}"], list(other.failures.last)) == (1, ["failing"])


def test_failures_of_states_that_were_built_aside_are_findings() -> None:
    aside = Fold([failing("reduce", error)], Counters(), StateLimits(50, 100))
    student = StudentStates(aside, "s-1", "class-1")
    aside.reduce(student.stream("stream-1", "source"), [Event("a", 1.0, "source", A)] * 3)
    f = Folding(Tally())
    f.fold.failures.add_all(aside.failures)
    assert f.counters["reducer_failures{failing}"] == 3
    assert [(found.code, found.subject) for found in f.health.findings()] == [("reducer.failing", "failing")]


def test_a_reducer_with_sources_gets_their_events_alone() -> None:
    class Chosen(Tally):
        name = "chosen"
        scopes = (STUDENT,)
        sources = frozenset({"org.example.quiz"})
        events = frozenset({"answer"})

    f = Folding(Tally(), Chosen())
    f.reduce({"event": "answer"})
    assert (f.seen(), f.seen("chosen")) == (1, 0)
    f.student.stream("stream-1", "org.example.quiz")
    f.reduce({"event": "answer"}, {"event": "other"}, {"event": "answer"})
    assert (f.seen(), f.seen("chosen")) == (4, 2)


def test_a_suspended_reducer_gets_no_events() -> None:
    class Other(Tally):
        name = "other"

    f = Folding(Tally(), Other())
    f.fold.suspend(["tally"])
    f.student.refresh_routes()
    f.reduce(A)
    assert (f.seen(), f.seen("other")) == (0, 1)
    f.fold.suspend([])
    f.student.refresh_routes()
    f.reduce(A)
    assert (f.seen(), f.seen("other")) == (1, 2)


def test_a_rolled_back_student_is_as_before() -> None:
    f = Folding(Sized(lambda state: 100 * state.seen), Tally())
    f.reduce(A)
    f.student.note_applied(f.stream, 1.0)
    f.student.row()
    before = [(cell.value, cell.state) for states in f.student.scope_states for cell in states.cells.values()]
    savepoint = f.student.savepoint([f.stream])
    f.fold.undo_log = []
    f.reduce(A, {"event": "a", "document": "d2"}, A)
    f.stream.applied = 4
    f.student.note_applied(f.stream, 9.0, late=2, received=50.0)
    for step in reversed(f.fold.undo_log):
        undo(step)
    f.student.roll_back(savepoint)
    after = [(cell.value, cell.state) for states in f.student.scope_states for cell in states.cells.values()]
    assert after == before
    assert (f.stream.applied, f.student.last_event_at, f.student.late, f.student.size) == (0, 1.0, 0, 100)
    assert f.student.change() is None


def test_marking_everything_as_changed_writes_everything_again() -> None:
    f = Folding(Tally())
    f.reduce(A)
    first = f.student.row()
    f.reduce(A)
    f.student.mark_all_changed()
    f.student.mark_all_changed()
    assert f.student.row().fields.keys() >= first.fields.keys()
    assert f.student.change() is None


def test_damaged_and_invalid_lines_are_reported_and_skipped() -> None:
    f = Folding(Tally())
    damage = Damage("file", 1, 0, "the line is cut off")

    def record(seq: int, text: bytes) -> Record:
        return Record(
            received=1.0,
            at=1.0,
            student_id="s-1",
            class_id="class-1",
            source="source",
            stream="stream-2",
            seq=seq,
            event=msgspec.Raw(text),
        )

    event = b'{"event":"a"}'
    result = replay_records(
        [damage, record(1, event), record(1, event), record(2, b"[]"), record(3, event)],
        f.fold,
        lambda student_id, class_id: f.student,
        lambda *_: None,
    )
    assert (result.events, f.seen()) == (2, 2)
    assert [one.reason for one in result.damaged] == [
        damage.reason,
        'event 2 of a stream: An event must be a JSON object such as {"event": "edit"}.',
    ]


async def test_a_stream_that_fails_wakes_all_who_wait_but_those_who_are_gone() -> None:
    stream: Stream = Folding(Tally()).stream
    gone, waiting = asyncio.create_task(stream.durable(1)), asyncio.create_task(stream.durable(2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    stream.become(stream.state)
    stream.fail("a fault")
    with pytest.raises(StreamClosedError, match="a fault"):
        await waiting


def test_limits_of_the_configuration() -> None:
    limits = StateLimits.of(LimitSettings(scope_values=3, scope_characters=4))
    assert (limits.values, limits.characters) == (3, 4)


def test_a_row_without_states_has_a_key_alone() -> None:
    f = Folding(Tally())
    assert f.student.row() == Row(student_key("s-1"), 0, {})
