"""One's trouble is one's own: whatever step of the commit fails for one student, all others are served."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from appliance.archive import Archive, Record, StreamLines, read
from appliance.counters import Counters
from appliance.errors import ArchiveError, BackendError
from appliance.events import Clock
from appliance.health import worst
from appliance.kvs import Change
from appliance.kvs.memory import MemoryKVS
from appliance.pipeline import StreamClosedError, batch
from appliance.pubsub.memory import MemoryPubSub
from appliance.recovery.start import Recovery, snapshot
from appliance.reducer import DOCUMENT, STUDENT, Event, Reducer, State
from appliance.states import (
    Fold,
    StateLimits,
    StreamState,
    StreamStateError,
    StudentStates,
    student_details,
    student_key,
)
from appliance.states.replay import replay_records
from appliance.states.student_states import MEASURED_BYTES
from tests.pipeline.world import CLASS, STREAM, Tally, World, world

MARK = "FAULT"
PATIENCE = 10.0


class Trouble:
    """A fault that is there or not, and happens once or for ever."""

    def __init__(self, once: bool) -> None:
        self.active = False
        self.once = once
        self.happened = 0

    def strike(self, concerned: bool) -> None:
        """Raise what nobody foresaw, if the fault is there."""
        if self.active and concerned:
            self.happened += 1
            self.active = not self.once
            raise RuntimeError(f"an unforeseen error with the text {MARK}")


class BrittleState(State, frozen=True):
    seen: int = 0
    marked: bool = False


class Brittle(Reducer[BrittleState]):
    """Counts events; each of its functions may fail for a student who has sent the mark."""

    name = "brittle"
    State = BrittleState
    scopes = (DOCUMENT,)
    trouble: ClassVar[Trouble]
    function: ClassVar[str]

    def _try(self, function: str, marked: bool) -> None:
        if function == self.function:
            self.trouble.strike(marked)

    def reduce(self, state: BrittleState, event: Event) -> BrittleState:
        marked = state.marked or event.body.get("mark") == MARK
        self._try("reduce", marked)
        return BrittleState(state.seen + 1, marked)

    def reduce_all(self, state: BrittleState, events: Any) -> BrittleState:
        self._try("reduce_all", any(event.body.get("mark") == MARK for event in events))
        return super().reduce_all(state, events)

    def summarize(self, state: BrittleState) -> dict[str, Any]:
        self._try("summarize", state.marked)
        return {"seen": state.seen}

    def overview(self, states: Any, latest: str) -> dict[str, Any]:
        self._try("overview", any(state.marked for state in states.values()))
        return super().overview(states, latest)

    def encode(self, state: BrittleState) -> bytes:
        self._try("encode", state.marked)
        return super().encode(state)

    def decode(self, encoded: bytes) -> BrittleState:
        state = super().decode(encoded)
        self._try("decode", state.marked)
        return state


class _SharedKVS(MemoryKVS):
    """A store that encodes at the commit, as one over a network does."""

    shared = True

    async def commit(self, changes: Iterable[Change]) -> list[str]:
        changes = list(changes)
        for change in changes:
            for value in change.fields.values():
                if value is not None:
                    value.encode()
        return await super().commit(changes)


def inject(step: str, trouble: Trouble, patch: pytest.MonkeyPatch) -> None:
    """Put a fault into a step of the commit; it strikes where the mark is."""

    def wrap(owner: Any, name: str, concerned: Callable[..., bool], *, asynchronous: bool = False) -> None:
        before = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            trouble.strike(concerned(*args, **kwargs))
            return before(*args, **kwargs)

        async def acall(*args: Any, **kwargs: Any) -> Any:
            trouble.strike(concerned(*args, **kwargs))
            return await before(*args, **kwargs)

        patch.setattr(owner, name, acall if asynchronous else call)

    marked = MARK.encode()
    match step:
        case "decode":
            wrap(batch, "decode_events", lambda texts, _: marked in b"".join(texts))
        case "time":
            wrap(Clock, "times", lambda self, bodies, _: any(body.get("mark") == MARK for body in bodies))
        case "build":
            wrap(StreamLines, "events", lambda self, p, f, r, a, texts: marked in b"".join(texts))
        case "append":
            wrap(Archive, "append", lambda self, pieces: marked in b"".join(pieces))
        case "sync":
            wrap(Archive, "_write", lambda self, text: marked in text)
        case "store":
            wrap(
                MemoryKVS,
                "commit",
                lambda self, changes: any(change.key == student_key("bad") for change in changes),
                asynchronous=True,
            )
        case "publish":
            wrap(MemoryPubSub, "publish", lambda self, topic, message: b'"bad"' in message, asynchronous=True)
        case function:
            Brittle.function = function


STEPS = ["decode", "time", "build", "append", "sync", "store", "publish"]
FUNCTIONS = ["reduce", "reduce_all", "encode", "decode_state", "summarize", "overview"]


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


async def until(condition: Callable[[], object], what: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)
    assert condition(), what


def event(n: int, **fields: object) -> dict[str, object]:
    return {"event": "e", "document": "d", "n": n, **fields}


def replayed(w: World) -> dict[str, StudentStates]:
    """The students as a replay of the archive gives them."""
    fold = Fold(w.fold.reducers, Counters(), StateLimits(50, 100))
    students: dict[str, StudentStates] = {}

    def student(student_id: str, class_id: str) -> StudentStates:
        return students.setdefault(student_id, StudentStates(fold, student_id, class_id))

    replay_records(read([w.folder]), fold, student, lambda *_: None)
    return students


@pytest.mark.parametrize("shared", [False, True], ids=["memory", "shared"])
@pytest.mark.parametrize("once", [True, False], ids=["once", "for ever"])
@pytest.mark.parametrize("step", [*STEPS, *FUNCTIONS])
async def test_a_step_that_fails_for_one_student_delays_nobody_else(
    tmp_path: Path, patch: pytest.MonkeyPatch, step: str, once: bool, shared: bool
) -> None:
    trouble = Trouble(once)
    Brittle.trouble, Brittle.function = trouble, ""
    kvs = _SharedKVS() if shared else MemoryKVS()
    async with world(tmp_path, Brittle(), Tally(), kvs=kvs, commit_seconds=0.001) as w:
        bad, good = await w.stream("bad", "stream-of-bad"), await w.stream("good", "stream-of-good")
        w.accept(bad, 1, event(1))
        w.accept(good, 1, event(1))
        await w.pipeline.settle()

        inject(step.removesuffix("_state"), trouble, patch)
        trouble.active = True
        quarantined: list[str] = []
        w.pipeline.on_quarantined.add(lambda stream, reason: quarantined.append(stream.id))
        w.accept(bad, 2, event(2, mark=MARK), event(3))
        w.accept(good, 2, event(2), event(3))
        await until(lambda: good.durable_to == 3, "the others are acknowledged")
        # And so they are while it goes on.
        w.accept(good, 4, event(4))
        await until(lambda: good.durable_to == 4, "the others go on")
        # What is worked out when it is read is read: as a dashboard, another node or a snapshot does.
        for student in ("bad", "good"):
            await w.kvs.read([student_key(student)])
        if step == "decode_state":
            w.pipeline.students()["bad"].load((await w.kvs.read([student_key("bad")]))[0])
        assert quarantined in ([], ["stream-of-bad"])
        if step in ("reduce", "reduce_all", "publish") and (once or step == "reduce_all"):
            # The same events are given to the reducer once more, one by one; a hint is only a hint.
            pass
        elif step == "publish":
            await until(lambda: w.counters["publish_failures"], "it is counted")
        else:
            await until(w.health.findings, "the trouble is a finding")
            assert worst(w.health.findings()) == "error"
            assert MARK not in "".join(found.text for found in w.health.findings())

        trouble.active = False
        patch.undo()
        Brittle.function = ""
        if quarantined:
            assert bad.state is StreamState.QUARANTINED
            with pytest.raises(StreamClosedError):
                w.accept(bad, bad.last + 1, event(4))
            assert w.pipeline.paused_to(bad) == 3, "the page must send its text anew"
            bad = await w.stream("bad", "stream-of-bad")
        w.accept(bad, bad.last + 1, event(4))
        await w.pipeline.settle()
        assert bad.durable_to == bad.last == 4
        assert good.durable_to == 4

        lines = [line for line in w.lines() if isinstance(line, Record)]
        for stream, last in ((bad, 4), (good, 4)):
            numbers = [line.seq for line in lines if line.stream == stream.id]
            assert numbers == list(range(1, last + 1)), "each acknowledged number is archived, and once"
        rejected = [(line.stream, line.seq) for line in lines if line.rejected]
        assert rejected == ([("stream-of-bad", 2), ("stream-of-bad", 3)] if quarantined else [])
        for line in lines:
            if line.rejected:
                assert json.loads(line.text or "")["event"] == "e"
        # Live states equal replayed ones, but those of a reducer that failed.
        again = replayed(w)
        for student in ("bad", "good"):
            tally = (await w.summary("tally", student))["seen"]
            assert json.loads(again[student].row().fields["summary/tally"])["seen"] == tally
        assert (await w.summary("tally", "good"))["seen"] == 4
        assert (await w.summary("brittle", "good"))["seen"] == 4
        assert (await w.summary("tally", "bad"))["seen"] == 4 - len(rejected)


async def test_what_is_held_for_ever_waits_and_is_committed_when_the_cause_is_gone(
    tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    trouble = Trouble(once=False)
    Brittle.trouble, Brittle.function = trouble, ""
    async with world(tmp_path, Tally(), commit_seconds=0.001) as w:
        bad, good = await w.stream("bad", "stream-of-bad"), await w.stream("good", "stream-of-good")
        inject("store", trouble, patch)
        trouble.active = True
        for n in range(1, 6):
            w.accept(bad, n, event(n))
            w.accept(good, n, event(n))
            await until(lambda n=n: good.durable_to == n, "the others are acknowledged")  # type: ignore[misc]
        assert bad.durable_to == 0
        assert w.codes() == ["commit.error", "student.waiting"]
        assert "bad" not in "".join(found.text for found in w.health.findings())
        trouble.active = False
        await w.pipeline.settle()
        assert bad.durable_to == 5
        assert w.codes() == ["commit.error"]
        assert (await w.summary("tally", "bad"))["seen"] == 5


async def test_where_nobody_gets_through_the_node_says_that_it_does_not_commit(
    tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, Tally(), commit_seconds=0.001) as w:
        one, two = await w.stream("one", "stream-one"), await w.stream("two", "stream-two")

        async def broken(self: object, changes: object) -> list[str]:
            raise RuntimeError("nobody foresaw this")

        patch.setattr(MemoryKVS, "commit", broken)
        w.accept(one, 1, event(1))
        w.accept(two, 1, event(1))
        await until(lambda: "commit.failing" in w.codes(), "it is told")
        patch.undo()
        await w.pipeline.settle()
        assert (one.durable_to, two.durable_to) == (1, 1)
        assert w.codes() == ["commit.error"]


async def test_a_gap_in_memory_is_its_own_error_and_closes_one_stream(tmp_path: Path) -> None:
    async with world(tmp_path, Tally(), commit_seconds=3600) as w:
        bad, good = await w.stream("bad", "stream-of-bad"), await w.stream("good", "stream-of-good")
        w.accept(bad, 1, event(1))
        w.accept(good, 1, event(1))
        await w.pipeline.settle()
        bad.last = 5
        w.accept(bad, 6, event(6))
        w.accept(good, 2, event(2))
        closed: list[object] = []
        w.pipeline.on_quarantined.add(lambda stream, reason: closed.append(stream))
        await w.pipeline.settle()
        assert good.durable_to == 2
        assert closed == [bad]
        assert w.codes() == ["stream.gap"]
        bad = await w.stream("bad", "stream-of-bad")
        assert (bad.last, bad.durable_to) == (1, 1), "the page sends again what is missing"
        w.accept(bad, 2, event(2))
        await w.pipeline.settle()
        assert (await w.summary("tally", "bad"))["seen"] == 2


async def test_who_waits_for_a_number_goes_on_when_it_is_durable_or_learns_that_it_never_will_be(
    tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    trouble = Trouble(once=True)
    async with world(tmp_path, Tally(), commit_seconds=3600) as w:
        stream = await w.stream()
        w.accept(stream, 1, event(1), event(2))
        waits = [asyncio.create_task(stream.durable(n)) for n in (1, 2, 3)]
        await asyncio.sleep(0)
        await w.pipeline.settle()
        await asyncio.gather(*waits[:2])
        assert not waits[2].done()
        await stream.durable(2)
        inject("decode", trouble, patch)
        trouble.active = True
        w.accept(stream, 3, event(3, mark=MARK))
        await w.pipeline.settle()
        with pytest.raises(StreamClosedError):
            await waits[2]


async def test_a_reducer_that_was_short_of_something_of_the_machines_sees_the_events_again(tmp_path: Path) -> None:
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
        told = []
        w.health.changed.add(lambda: told.extend(w.codes()))
        await until(lambda: bad.durable_to == 2 and good.durable_to == 1, "both are served")
        assert told == ["student.waiting"]
        assert w.codes() == []
        assert (await w.summary("short", "bad"))["seen"] == 2
        assert (await w.summary("tally", "bad"))["seen"] == 2
        assert [line.seq for line in w.lines() if line.stream == bad.id] == [1, 2]


async def test_a_reducer_that_is_always_short_is_a_failing_reducer(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    class Greedy(Tally):
        name = "greedy"

        def reduce(self, state: Any, event: Event) -> Any:
            raise MemoryError

        reduce_all = Reducer.reduce_all

    patch.setattr("appliance.tasks.random.uniform", lambda low, high: 0.01)
    async with world(tmp_path, Tally(), Greedy(), commit_seconds=0.001) as w:
        stream = await w.stream()
        w.accept(stream, 1, event(1))
        await until(lambda: stream.durable_to == 1, "it is served after some tries")
        assert w.codes() == ["reducer.failing"]
        assert (await w.summary("tally"))["seen"] == 1


class _Bad(Tally):
    """A plug-in with a fault of its own in `reduce`."""

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
async def test_whatever_a_plug_in_does_costs_its_own_figures_alone(tmp_path: Path, fault: Callable[[], Any]) -> None:
    async with world(tmp_path, Tally(), _Bad(fault), commit_seconds=0.001) as w:
        stream = await w.stream()
        w.accept(stream, 1, event(1), event(2))
        await until(lambda: stream.durable_to == 2, "it is acknowledged")
        assert (await w.summary("tally"))["seen"] == 2
        assert "summary/bad" not in (await w.kvs.read([student_key("s-1")]))[0].fields
        assert w.codes() == ["reducer.failing"]
        assert w.counters["reducer_failures{bad}"] == 2


async def test_a_slow_reducer_is_named(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("appliance.states.fold.SLOW_SECONDS", -1.0)
    async with world(tmp_path, Tally(), commit_seconds=0.001) as w:
        w.accept(await w.stream(), 1, event(1))
        await w.pipeline.settle()
        [found] = w.health.findings()
        assert (found.code, found.subject) == ("reducer.slow", "tally")
        assert w.fold.seconds["tally"] > 0


class _Huge(Tally):
    """Its state cannot be stored from the second event on."""

    name = "huge"
    mended: ClassVar[bool] = False

    def encode(self, state: Any) -> bytes:
        if state.seen > 1 and not self.mended:
            raise OverflowError("can't serialize ints >= 2**64")
        return super().encode(state)


async def test_a_state_that_cannot_be_stored_keeps_its_last_good_value_and_is_rebuilt_once_mended(
    tmp_path: Path,
) -> None:
    kvs = _SharedKVS()
    _Huge.mended = False
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
    # A mended reducer does not go on with a state that lacks events.
    _Huge.mended = True
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


async def test_a_state_that_cannot_be_read_keeps_nobody_from_connecting(tmp_path: Path) -> None:
    class Unreadable(Tally):
        name = "unreadable"

        def decode(self, encoded: bytes) -> Any:
            raise ValueError("of another shape")

    kvs = _SharedKVS()
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


async def test_what_is_kept_of_one_student_is_bounded_in_all(tmp_path: Path) -> None:
    class Text(State, frozen=True):
        text: str = ""

    class Keeper(Reducer[Text]):
        name = "keeper"
        State = Text
        scopes = (DOCUMENT,)

        def reduce(self, state: Text, event: Event) -> Text:
            return Text(state.text + str(event.body.get("insert", "")))

        def summarize(self, state: Text) -> dict[str, Any]:
            return {"length": len(state.text)}

        def size(self, state: Text) -> int:
            return len(state.text)

    limits = StateLimits(50, 100, student_bytes=1000)
    async with world(tmp_path, Keeper(), state_limits=limits) as w:
        bad, good = await w.stream("bad", "stream-of-bad"), await w.stream("good", "stream-of-good")
        for n in range(1, 31):
            w.accept(bad, n, {"event": "edit", "document": f"d{n % 3}", "insert": "x" * 100, "t": n})
            # What is not measured yet is far less than half of what fits.
            await w.pipeline.settle()
            w.pipeline.students()["bad"].measure_after(MEASURED_BYTES)
        w.accept(good, 1, {"event": "edit", "document": "d", "insert": "x" * 400})
        await w.pipeline.settle()
        student = w.pipeline.students()["bad"]
        assert student.size == 1000 == sum(len(cell.state.text) for cell in student.scope_states[0].cells.values())
        assert w.counters["limit_student_state_bytes"] == 20
        assert w.codes() == ["student.full"]
        [row] = await w.kvs.read([student_key("bad")])
        assert json.loads(row.fields["summary/"])["limited_at"] == student.limited_at
        assert w.pipeline.students()["good"].limited_at is None
        # A replay of the archive comes to the same.
        fold = Fold(w.fold.reducers, Counters(), limits)
        again = StudentStates(fold, "bad", CLASS)
        replay_records((r for r in w.lines() if r.student_id == "bad"), fold, lambda *_: again, lambda *_: None)
        assert {v: c.state for v, c in again.scope_states[0].cells.items()} == {
            v: c.state for v, c in student.scope_states[0].cells.items()
        }
        assert again.limited_at == student.limited_at


async def test_a_loud_student_waits_for_itself(tmp_path: Path) -> None:
    async with world(tmp_path, Tally(), commit_seconds=3600, commit_events=100) as w:
        loud = [await w.stream("loud", f"stream-of-loud-{n}") for n in range(10)]
        quiet = [await w.stream(f"quiet-{n}", f"stream-quiet-{n}") for n in range(5)]
        for stream in loud:
            for n in range(1, 201):
                w.accept(stream, n, event(n, text="x" * 2000))
        for stream in quiet:
            w.accept(stream, 1, event(1))
        order: list[str] = []
        w.pipeline.on_durable.add(lambda streams: order.extend(stream.student.id for stream in streams))
        commits: list[int] = []
        w.pipeline.on_durable.add(lambda streams: commits.append(len(streams)))
        await w.pipeline.settle()
        assert all(stream.durable_to == 200 for stream in loud)
        first = order.index("quiet-4")
        assert order[:first].count("loud") <= 10, "everybody had a turn before the loud one had two"
        assert w.pipeline.waiting_bytes == 0


@pytest.mark.parametrize("hostile", ["now", "t", "offset"])
async def test_times_that_no_clock_shows_count_as_now(tmp_path: Path, hostile: str) -> None:
    async with world(tmp_path, Tally()) as w:
        stream = await w.stream()
        stream.clock.synchronize(1_700_000_000_000, 1.797e308 if hostile == "now" else 1_700_000_000_000.0)
        times = [-1e308, 1e308, -(10**400), 10**400, 2.0**60, True, "x", None] if hostile == "t" else [-1e308, 5]
        for n, t in enumerate(times, 1):
            text = json.dumps({"event": "a", "t": t}).encode()
            w.accept(stream, n, text)
        await w.pipeline.settle()
        assert stream.durable_to == len(times)
        assert w.codes() == []
        for line in w.lines():
            assert 0 <= line.at <= line.received


async def test_a_wrong_step_of_a_streams_life_says_what_was_expected(tmp_path: Path) -> None:
    async with world(tmp_path, Tally()) as w:
        stream = await w.stream()
        assert stream.state is StreamState.OPEN
        w.pipeline.paused.add(CLASS)
        w.accept(stream, 1, event(1))
        assert stream.state is StreamState.PAUSED
        w.pipeline.close_stream(stream)
        with pytest.raises(StreamStateError, match="closed cannot become open, only opening"):
            stream.become(StreamState.OPEN)
        with pytest.raises(StreamClosedError):
            w.accept(stream, 2, event(2))
        again = await w.stream()
        assert again is stream
        assert again.state is StreamState.PAUSED


class _SlowKVS(_SharedKVS):
    """Counts its reads, and answers each after a while."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    async def read(self, keys: Any, prefix: str = "") -> Any:
        self.reads += 1
        await asyncio.sleep(0.004)
        return await super().read(keys, prefix)


async def test_many_who_open_at_once_are_read_together_and_beside_the_commits(tmp_path: Path) -> None:
    kvs = _SlowKVS()
    async with world(tmp_path, Tally(), kvs=kvs, commit_seconds=0.001) as w:
        confirmed: list[int] = []

        async def confirm() -> None:
            confirmed.append(1)
            await asyncio.sleep(0.004)

        w.pipeline.confirm_with(confirm)
        other = await w.stream("other", "stream-of-other")
        kvs.reads = 0
        confirmed.clear()
        openings = asyncio.gather(*(w.stream(f"s-{n}", f"stream-{n:04}") for n in range(1000)))
        w.accept(other, 1, event(1))
        await until(lambda: other.durable_to == 1, "a student who is connected is acknowledged")
        assert not openings.done() or kvs.reads < 20
        streams = await openings
        assert len({stream.student.id for stream in streams}) == 1000
        assert kvs.reads <= 20
        assert len(confirmed) <= 20


async def test_an_opening_waits_for_the_commit_of_its_own_student_alone(tmp_path: Path) -> None:
    kvs = _SlowKVS()
    gate = asyncio.Event()

    class Gated(_SlowKVS):
        async def commit(self, changes: Iterable[Change]) -> list[str]:
            await gate.wait()
            return await super().commit(changes)

    kvs = Gated()
    async with world(tmp_path, Tally(), kvs=kvs, commit_seconds=0.001) as w:
        busy = await w.stream("busy", "stream-busy-1")
        w.accept(busy, 1, event(1))
        await until(lambda: w.pipeline._committer.is_committing(busy.student), "its commit is under way")
        assert (await w.stream("free", "stream-free-1")).last == 0
        opening = asyncio.create_task(w.stream("busy", "stream-busy-2"))
        with pytest.raises(BackendError):
            await w.stream("busy", "stream-busy-3")
        gate.set()
        await asyncio.gather(opening, return_exceptions=True)
        await w.pipeline.settle()
        assert busy.durable_to == 1
        assert (await w.stream("busy", STREAM)).student is busy.student


async def test_a_window_is_bounded_and_says_how_much_was_left_out(tmp_path: Path) -> None:
    async with world(tmp_path, Tally()) as w:
        stream = await w.stream()
        w.accept(stream, 1, *({"event": "e" * n, "document": f"d{n}"} for n in range(1, 50)))
        await w.pipeline.settle()
        [row] = await w.kvs.read([student_key("s-1")])
        whole = student_details(w.fold, row)
        assert (len(whole.scopes["documents"]), whole.left_out) == (49, 0)
        some = student_details(w.fold, row, 1000)
        assert 0 < some.left_out < 49
        shown = [detail for found in some.scopes["documents"].values() for detail in found.values()]
        assert sum(len(bytes(detail)) for detail in shown) <= 1000
        assert set(some.scopes["documents"]) == set(whole.scopes["documents"])
        assert w.counters["limit_window_bytes"] == 1


async def test_no_snapshot_is_written_while_a_student_is_held(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    trouble = Trouble(once=False)
    kvs = MemoryKVS()
    async with world(tmp_path, Tally(), kvs=kvs, commit_seconds=0.001) as w:
        recovery = Recovery(tmp_path, kvs, w.pipeline, w.archive, w.counters)
        bad = await w.stream("bad", "stream-of-bad")
        inject("store", trouble, patch)
        trouble.active = True
        w.accept(bad, 1, event(1))
        await until(w.pipeline.has_unstored, "it is held")
        with pytest.raises(ArchiveError):
            await recovery.save()
        trouble.active = False
        await w.pipeline.settle()
        assert await recovery.save()


async def test_a_reducer_with_a_state_that_cannot_be_stored_is_rebuilt_at_the_next_start(tmp_path: Path) -> None:
    _Huge.mended = False
    kvs = MemoryKVS()
    async with world(tmp_path, Tally(), _Huge(), kvs=kvs) as w:
        w.accept(await w.stream(), 1, event(1), event(2))
        recovery = Recovery(tmp_path, kvs, w.pipeline, w.archive, w.counters)
        assert await recovery.save()
    found, unusable = snapshot.newest(snapshot.snapshots(tmp_path / "snapshots"))
    assert found is not None
    assert not unusable
    assert found.head.reducers == {"tally": 1}
