"""Failing reducers: a failure affects only the figures of that reducer, and is counted and reported."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from appliance.kvs.memory import MemoryKVS
from appliance.recovery.start import Recovery, snapshot
from appliance.reducer import STUDENT, Event, Reducer
from appliance.states import student_key
from tests.pipeline.faults import MARK, replayed
from tests.pipeline.world import A, SharedKVS, Tally, event, until, world


async def test_a_failing_reducer_keeps_its_state_and_the_others_go_on(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.accept(await w.stream(), 1, A, {"event": "boom"}, {"event": "odd"}, {"event": "wrong"}, A)
        await w.pipeline.settle()
        assert (await w.summary("fragile"))["seen"] == 2
        assert (await w.summary("tally"))["seen"] == 5
        assert w.counters["reducer_failures{fragile}"] == 2
        assert w.counters["unusable_events{fragile}"] == 1


async def test_the_report_of_a_failure_contains_nothing_of_the_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path) as w:
        w.accept(await w.stream(), 1, {"event": "boom", "essay": "private words"})
        await w.pipeline.settle()
        report = w.fold.failures.last["fragile"] + caplog.text
        assert "ValueError" in report
        assert "private" not in report
        assert "secret" not in report


async def test_a_reducer_that_was_short_of_memory_or_files_gets_the_events_again(tmp_path: Path) -> None:
    class Short(Tally):
        name = "short"
        fails = 2

        def reduce(self, state: Any, event: Event) -> Any:
            if Short.fails and event.body.get("mark"):
                Short.fails -= 1
                raise OSError(24, "Too many open files")
            return super().reduce(state, event)

        reduce_all = Reducer.reduce_all

    async with world(tmp_path, Tally(), Short(), commit_seconds=0.001) as w:
        bad, good = await w.stream("bad", "stream-of-bad"), await w.stream("good", "stream-of-good")
        w.accept(bad, 1, event(1), event(2, mark=MARK))
        w.accept(good, 1, event(1))
        codes: list[str] = []
        w.health.changed.add(lambda: codes.extend(w.codes()))
        await until(lambda: bad.durable_to == 2 and good.durable_to == 1, "both are served")
        assert codes == ["student.waiting"]
        assert w.codes() == []
        assert (await w.summary("short", "bad"))["seen"] == 2
        assert (await w.summary("tally", "bad"))["seen"] == 2
        assert [line.seq for line in w.lines() if line.stream == bad.id] == [1, 2]


async def test_a_reducer_that_is_always_short_is_a_failing_reducer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Greedy(Tally):
        name = "greedy"

        def reduce(self, state: Any, event: Event) -> Any:
            raise MemoryError

        reduce_all = Reducer.reduce_all

    monkeypatch.setattr("appliance.tasks.random.uniform", lambda low, high: 0.01)
    async with world(tmp_path, Tally(), Greedy(), commit_seconds=0.001) as w:
        stream = await w.stream()
        w.accept(stream, 1, event(1))
        await until(lambda: stream.durable_to == 1, "it is served after some attempts")
        assert w.codes() == ["reducer.failing"]
        assert (await w.summary("tally"))["seen"] == 1


class _Bad(Tally):
    """A plug-in with a fault in `reduce`."""

    name = "bad"
    scopes = (STUDENT,)
    reduce_all = Reducer.reduce_all

    def __init__(self, fault: Callable[[], Any]) -> None:
        self.fault = fault

    def reduce(self, state: Any, event: Event) -> Any:
        return self.fault()


def _raises(error: BaseException) -> Callable[[], Any]:
    def fault() -> Any:
        raise error

    return fault


def _recurses() -> Any:
    return _recurses()


@pytest.mark.parametrize(
    "fault",
    [
        lambda: None,
        lambda: {"seen": 1},
        _recurses,
        _raises(SystemExit(3)),
        _raises(KeyboardInterrupt()),
        _raises(GeneratorExit()),
        _raises(asyncio.CancelledError()),
        lambda: print("printed by a plug-in"),
        lambda: setattr(Tally.State(), "seen", 2),
    ],
    ids=["nothing", "a dict", "recursion", "exit", "interrupt", "generator exit", "cancelled", "print", "mutation"],
)
async def test_whatever_a_plug_in_does_concerns_its_own_figures_alone(tmp_path: Path, fault: Callable[[], Any]) -> None:
    async with world(tmp_path, Tally(), _Bad(fault), commit_seconds=0.001) as w:
        stream = await w.stream()
        w.accept(stream, 1, event(1), event(2))
        await until(lambda: stream.durable_to == 2, "it is acknowledged")
        assert (await w.summary("tally"))["seen"] == 2
        assert "summary/bad" not in (await w.kvs.read([student_key("s-1")]))[0].fields
        assert w.codes() == ["reducer.failing"]
        assert w.counters["reducer_failures{bad}"] == 2


async def test_a_slow_reducer_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.states.fold.SLOW_SECONDS", -1.0)
    async with world(tmp_path, Tally(), commit_seconds=0.001) as w:
        w.accept(await w.stream(), 1, event(1))
        await w.pipeline.settle()
        [found] = w.health.findings()
        assert (found.code, found.subject) == ("reducer.slow", "tally")
        assert w.fold.seconds["tally"] > 0


class _Huge(Tally):
    """Its state cannot be stored from the second event on."""

    name = "huge"
    repaired: ClassVar[bool] = False

    def encode(self, state: Any) -> bytes:
        if state.seen > 1 and not self.repaired:
            raise OverflowError("can't serialize ints >= 2**64")
        return super().encode(state)


async def test_a_state_that_cannot_be_stored_keeps_its_last_good_value_and_is_rebuilt_once_repaired(
    tmp_path: Path,
) -> None:
    kvs = SharedKVS()
    _Huge.repaired = False
    async with world(tmp_path, Tally(), _Huge(), kvs=kvs) as w:
        stream = await w.stream()
        for n in (1, 2, 3):
            w.accept(stream, n, event(n))
            await w.pipeline.settle()
        assert stream.durable_to == 3
        assert w.codes() == ["reducer.states"]
        [row] = await kvs.read([student_key("s-1")])
        state = _Huge().decode(row.fields["state/huge//"])
        assert state.seen == 1
        assert row.fields["broken/huge"] == b"1"
        assert json.loads(row.fields["summary/tally"])["seen"] == 3
    # A repaired reducer does not continue with a state that lacks events.
    _Huge.repaired = True
    async with world(tmp_path, Tally(), _Huge(), kvs=kvs) as w:
        stream = await w.stream()
        w.accept(stream, 4, event(4))
        await w.pipeline.settle()
        [row] = await kvs.read([student_key("s-1")])
        assert _Huge().decode(row.fields["state/huge//"]).seen == 1
        student = w.pipeline.students()["s-1"]
        student.adopt(replayed(w)["s-1"])
        change = student.change(encoded=True)
        assert change is not None
        assert change.fields["broken/huge"] is None


async def test_a_student_with_a_state_that_cannot_be_read_can_connect(tmp_path: Path) -> None:
    class Unreadable(Tally):
        name = "unreadable"

        def decode(self, encoded: bytes) -> Any:
            raise ValueError("of another shape")

    kvs = SharedKVS()
    async with world(tmp_path, Tally(), Unreadable(), kvs=kvs) as w:
        w.accept(await w.stream(), 1, event(1))
        await w.pipeline.settle()
        [before] = await kvs.read([student_key("s-1")])
    async with world(tmp_path, Tally(), Unreadable(), kvs=kvs) as w:
        stream = await w.stream()
        assert stream.durable_to == 1
        w.accept(stream, 2, event(2))
        await w.pipeline.settle()
        assert w.codes() == ["reducer.states"]
        assert w.counters["reducer_states_failed{unreadable}"] == 2, "the state of the student and of the document"
        [row] = await kvs.read([student_key("s-1")])
        assert row.fields["state/unreadable//"] == before.fields["state/unreadable//"]
        assert json.loads(row.fields["summary/tally"])["seen"] == 2


async def test_a_summary_that_fails_or_is_too_large_stays_as_it_last_was(tmp_path: Path) -> None:
    class Wide(Tally):
        name = "wide"

        def summarize(self, state: Any) -> dict[str, Any]:
            return {"seen": state.seen, "wide": "x" * (100 if state.seen < 2 else 1 << 20)}

    async with world(tmp_path, Wide()) as w:
        stream = await w.stream()
        w.accept(stream, 1, event(1))
        await w.pipeline.settle()
        assert (await w.summary("wide"))["seen"] == 1
        w.accept(stream, 2, event(2))
        await w.pipeline.settle()
        assert (await w.summary("wide"))["seen"] == 1
        assert w.counters["limit_summary_bytes"]
        assert w.codes() == ["reducer.failing"]


async def test_a_reducer_with_a_state_that_cannot_be_stored_is_rebuilt_at_the_next_start(tmp_path: Path) -> None:
    _Huge.repaired = False
    kvs = MemoryKVS()
    async with world(tmp_path, Tally(), _Huge(), kvs=kvs) as w:
        w.accept(await w.stream(), 1, event(1), event(2))
        recovery = Recovery(tmp_path, kvs, w.pipeline, w.archive, w.counters)
        assert await recovery.save()
    found, unusable = snapshot.newest(snapshot.snapshots(tmp_path / "snapshots"))
    assert found is not None
    assert not unusable
    assert found.head.reducers == {"tally": 1}
