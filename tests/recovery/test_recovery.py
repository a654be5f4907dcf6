"""Snapshots, and starts from them: what was committed is there again, once."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from appliance.archive import Position, numbered_segments
from appliance.kvs import Encoded, Row
from appliance.recovery import snapshot
from appliance.reducer import Reducer
from reducers.activity import ActivityReducer
from reducers.responses import ResponsesReducer
from reducers.time_on_task import TimeOnTaskReducer
from reducers.writing import WritingReducer
from tests.pipeline.world import Tally, TallyState
from tests.recovery.world import CLASS, Core, replayed

STREAM = "0f8fad5b-d9cb-469f-a165-70867728950e"


def bundled() -> list[Reducer[Any]]:
    return [ActivityReducer(), TimeOnTaskReducer(), ResponsesReducer(), WritingReducer()]


class TestSnapshotFile:
    def write(self, folder: Path) -> Path:
        rows = [("student/s-1", 3, {"a": Encoded(b"\x00\xff"), "b": Encoded(b"")}), ("class/c", 1, {})]
        return snapshot.write(folder, Position(4, 1234), {"tally": 2}, rows)

    def test_what_was_written_is_read(self, tmp_path: Path) -> None:
        found = snapshot.read(self.write(tmp_path / "s"))
        assert found.rows == [Row("student/s-1", 3, {"a": b"\x00\xff", "b": b""}), Row("class/c", 1, {})]
        assert found.head.position == Position(4, 1234)
        assert found.head.reducers == {"tally": 2}

    def test_every_flipped_byte_and_every_cut_is_noticed(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "s")
        whole = path.read_bytes()
        broken = [whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :] for at in range(len(whole))]
        for content in broken + [whole[:length] for length in range(len(whole))]:
            path.write_bytes(content)
            with pytest.raises(snapshot.UnreadableError):
                snapshot.read(path)

    def test_the_newest_two_are_kept(self, tmp_path: Path) -> None:
        paths = [self.write(tmp_path / "s") for _ in range(4)]
        assert snapshot.snapshots(tmp_path / "s") == paths[2:]


async def _class_of_two(core: Core, first: int = 1, count: int = 5) -> None:
    for student in ("s-1", "s-2"):
        stream = await core.stream(student, STREAM)
        core.accept(stream, first, *({"event": "edit", "document": "d", "t": 1000 * n} for n in range(count)))


async def test_a_snapshot_and_what_came_after_it(tmp_path: Path) -> None:
    core = Core(tmp_path, Tally())
    await core.start()
    await _class_of_two(core)
    assert await core.recovery.save()
    assert not await core.recovery.save(), "nothing had changed"
    await _class_of_two(core, 6)
    await core.pipeline.settle()
    lived = core.states()
    await core.crash()

    again = Core(tmp_path, Tally())
    await again.start()
    assert again.states() == lived == await replayed(tmp_path, Tally())
    assert again.state("s-2", "tally//").seen == 10
    assert (await again.stream("s-1", STREAM)).durable_to == 10
    await again.stop()


async def test_events_that_came_late_are_counted_and_after_a_crash_too(tmp_path: Path) -> None:
    now = 1_700_000_000_000
    core = Core(tmp_path, Tally())
    await core.start()
    stream = await core.stream("s-1", STREAM)
    held = [{"event": "edit", "t": now - 60_000 + n} for n in range(3)]
    core.accept(stream, 1, *held, "no object", {"event": "edit", "t": now - 30_000}, {"event": "edit"}, received=now)
    await core.pipeline.settle()
    assert (stream.student.late, stream.student.late_at) == (3, now / 1000)
    core.accept(stream, 7, {"event": "edit", "t": now}, received=now + 60_000)
    await core.pipeline.settle()
    lived = (stream.student.late, stream.student.late_at)
    assert lived == (4, now / 1000 + 60)
    await core.crash()
    for save in (True, False):
        core = Core(tmp_path, Tally())
        await core.start()
        student = core.pipeline.students()["s-1"] if save else (await core.stream("s-1", STREAM)).student
        assert (student.late, student.late_at) == lived
        await (core.stop() if save else core.crash())
    # Others that come much later are counted anew.
    core = Core(tmp_path, Tally())
    await core.start()
    stream = await core.stream("s-1", STREAM)
    core.accept(stream, 8, {"event": "edit", "t": now + 60_000}, received=now + 86_400_000)
    await core.pipeline.settle()
    assert stream.student.late == 1
    await core.stop()


async def test_a_damaged_snapshot_falls_back_to_the_one_before_and_then_to_the_archive(tmp_path: Path) -> None:
    core = Core(tmp_path, Tally())
    await core.start()
    for round in range(2):
        await _class_of_two(core, 1 + 5 * round)
        await core.recovery.save()
    lived = core.states()
    await core.crash()
    files = snapshot.snapshots(tmp_path / "snapshots")
    for damaged, path in enumerate(reversed(files), 1):
        path.write_bytes(path.read_bytes()[:-1])
        core = Core(tmp_path, Tally())
        await core.start()
        assert core.states() == lived
        assert core.counters["snapshots_damaged"] == damaged
        assert len(core.recovery.findings) == damaged
        await core.crash()


async def test_segments_that_are_missing_do_not_hide_what_comes_later(tmp_path: Path) -> None:
    core = Core(tmp_path, Tally())
    await core.start()
    for _ in range(3):
        await _class_of_two(core, 1 + 5 * _)
        await core.stop()
        core = Core(tmp_path, Tally())
        await core.start()
    await core.crash()
    shutil.rmtree(tmp_path / "archive")
    core = Core(tmp_path, Tally())
    await core.start()
    await _class_of_two(core, 16)
    await core.pipeline.settle()
    await core.crash()
    core = Core(tmp_path, Tally())
    await core.start()
    assert core.state("s-1", "tally//").seen == 20
    await core.crash()


async def test_a_paused_class_is_paused_after_a_crash(tmp_path: Path) -> None:
    core = Core(tmp_path, Tally())
    await core.start()
    await core.recovery.save()
    await core.classes.set_state(CLASS, "paused")
    await core.crash()
    core = Core(tmp_path, Tally())
    await core.start()
    assert core.classes.state(CLASS) == "paused"
    await core.classes.set_state(CLASS, "open")
    await core.crash()
    core = Core(tmp_path, Tally())
    await core.start()
    assert core.classes.state(CLASS) == "open"
    await core.crash()


async def test_class_states_that_are_damaged_are_reported(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_bytes(b"{")
    core = Core(tmp_path, Tally())
    await core.start()
    assert "classes.json" in core.recovery.findings[0].text
    await core.crash()


async def test_how_far_a_stream_was_paused_is_known_after_every_start(tmp_path: Path) -> None:
    core = Core(tmp_path, Tally())
    await core.start()
    await _class_of_two(core)
    await core.classes.set_state(CLASS, "paused")
    await _class_of_two(core, 6)
    await core.classes.set_state(CLASS, "open")
    await _class_of_two(core, 11)
    await core.pipeline.settle()
    lived = core.states()
    assert lived == await replayed(tmp_path, Tally())
    await core.crash()
    # From the archive, from a snapshot, and from a snapshot and the lines after it.
    for after in range(3):
        core = Core(tmp_path, Tally())
        await core.start()
        stream = await core.stream("s-1", STREAM)
        assert (stream.last, core.pipeline.paused_to(stream)) == (15 + max(0, after - 1), 10)
        await core.recovery.save()
        if after:
            core.accept(stream, stream.last + 1, {"event": "edit", "document": "d"})
            await core.pipeline.settle()
        await core.crash()


class Doubled(Tally):
    """`Tally` in its second version, which counts double."""

    version = 2

    def reduce(self, state: TallyState, event: Any) -> TallyState:
        return TallyState(state.seen + 2, event.name, event.at)


class TestRebuild:
    @pytest.mark.parametrize("later", [Doubled, None], ids=["another version", "a new reducer"])
    async def test_in_the_background_while_events_go_on(self, tmp_path: Path, later: type[Tally] | None) -> None:
        before = [Tally()] if later else [ActivityReducer()]
        core = Core(tmp_path, *before, segment_bytes=4096)
        await core.start()
        for round in range(40):
            await _class_of_two(core, 1 + 5 * round)
        await core.stop()

        now = [later()] if later else [Tally(), ActivityReducer()]
        core = Core(tmp_path, *now, segment_bytes=4096)
        await core.start()
        assert core.recovery.stale == {"tally"} == core.fold.held
        core.pipeline.start()
        rebuilding = asyncio.create_task(core.rebuild())
        first = 201
        while not rebuilding.done():
            await _class_of_two(core, first, 1)
            first += 1
            await asyncio.sleep(0)
        assert (await rebuilding).progress == 1
        assert first > 203, "events were taken meanwhile"
        await _class_of_two(core, first, 1)
        await core.pipeline.settle()
        assert core.state("s-1", "tally//").seen == (2 if later else 1) * first
        assert not core.fold.held
        lived = core.states()
        await core.stop()
        assert lived == await replayed(tmp_path, *now)
        core = Core(tmp_path, *now)
        await core.start()
        assert not core.recovery.stale
        assert core.states() == lived
        await core.crash()

    async def test_one_that_was_interrupted_begins_again(self, tmp_path: Path) -> None:
        core = Core(tmp_path, Tally())
        await core.start()
        await _class_of_two(core)
        await core.stop()
        for _ in range(2):
            core = Core(tmp_path, Doubled())
            await core.start()
            assert core.recovery.stale == {"tally"}
            await core.stop()

    async def test_one_that_did_not_run_for_a_while_is_behind(self, tmp_path: Path) -> None:
        for reducers in ([Tally(), ActivityReducer()], [ActivityReducer()]):
            core = Core(tmp_path, *reducers)
            await core.start()
            await _class_of_two(core, 1 if len(reducers) == 2 else 6)
            await core.stop()
        core = Core(tmp_path, Tally(), ActivityReducer())
        await core.start()
        assert core.recovery.stale == {"tally"}
        await core.rebuild()
        assert core.state("s-1", "tally//").seen == 10
        await core.stop()

    async def test_one_that_fails_at_archived_events_is_a_failing_one(self, tmp_path: Path) -> None:
        class Fails(Tally):
            name = "fails"

            def reduce(self, state: Any, event: Any) -> Any:
                raise ValueError("what a student wrote")

        core = Core(tmp_path, Tally())
        await core.start()
        await _class_of_two(core)
        await core.stop()
        core = Core(tmp_path, Tally(), Fails())
        await core.start()
        assert core.recovery.stale == {"fails"}
        await core.rebuild()
        assert core.counters["reducer_failures{fails}"] == 20
        assert "ValueError" in core.fold.failures["fails"]
        await core.stop()

    async def test_a_state_that_no_longer_fits_is_rebuilt(self, tmp_path: Path) -> None:
        class Other(TallyState, frozen=True):
            seen: str = ""  # type: ignore[assignment]

        class Changed(Tally):
            State = Other

            def reduce(self, state: Any, event: Any) -> Any:
                return Other(state.seen + "x")

        core = Core(tmp_path, Tally())
        await core.start()
        await _class_of_two(core)
        await core.stop()
        core = Core(tmp_path, Changed())
        await core.start()
        assert core.recovery.stale == {"tally"}
        await core.rebuild()
        assert core.state("s-1", "tally//").seen == "xxxxx"
        await core.stop()


@settings(max_examples=60, stateful_step_count=25, deadline=None)
class Life(RuleBasedStateMachine):
    """An appliance's life against a model that is a list of the events of each stream.

    Whatever happens, what was committed stays, in its order and once; replaying gives what was lived through.
    """

    students = st.sampled_from(["s-1", "s-2"])
    streams = st.sampled_from(["stream-1", "stream-2"])
    event = st.one_of(
        st.builds(
            lambda offset, insert, remove, t: {
                "event": "edit",
                "document": "d",
                "offset": offset,
                "insert": insert,
                "remove": remove,
                "t": t,
            },
            st.integers(0, 30),
            st.text(max_size=5).map(lambda text: text.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")),
            st.integers(0, 3),
            st.integers(1_699_999_000_000, 1_700_000_000_000),
        ),
        st.builds(
            lambda item, ok: {"event": "answer", "item": item, "answer": "x", "correct": ok},
            st.sampled_from("ab"),
            st.booleans(),
        ),
        st.just({"event": "help", "raised": True}),
        st.just("no object"),
    )

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.taken: dict[tuple[str, str], list[object]] = {}
        self.durable: dict[tuple[str, str], int] = {}
        self.open()

    def open(self) -> None:
        self.core = Core(self.folder, *bundled(), segment_bytes=4096)
        self.do(self.core.start())

    def do(self, steps: Any) -> Any:
        return self.loop.run_until_complete(steps)

    @rule(student=students, stream=streams, events=st.lists(event, min_size=1, max_size=6), again=st.integers(0, 3))
    def send(self, student: str, stream: str, events: list[object], again: int) -> None:
        """New events, after some that were sent before."""
        taken = self.taken.setdefault((student, stream), [])
        again = min(again, len(taken))
        first = len(taken) + 1 - again
        fresh = self.core.accept(self.do(self.core.stream(student, stream)), first, *taken[first - 1 :], *events)
        assert fresh == len(events)
        taken += events

    @rule()
    def commit(self) -> None:
        self.do(self.core.pipeline.settle())
        self.durable = {key: len(events) for key, events in self.taken.items()}

    @rule(state=st.sampled_from(["open", "paused"]))
    def pause(self, state: Any) -> None:
        self.do(self.core.classes.set_state(CLASS, state))

    @rule()
    def save(self) -> None:
        self.do(self.core.recovery.save())
        self.durable = {key: len(events) for key, events in self.taken.items()}

    @rule()
    def compress(self) -> None:
        self.do(self.core.archive.compress())

    @precondition(lambda self: snapshot.snapshots(self.folder / "snapshots"))
    @rule()
    def damage_the_newest_snapshot(self) -> None:
        path = snapshot.snapshots(self.folder / "snapshots")[-1]
        path.write_bytes(path.read_bytes()[:-3])

    @rule()
    def restart(self) -> None:
        self.do(self.core.stop())
        self.durable = {key: len(events) for key, events in self.taken.items()}
        self.open()

    @rule(cut=st.integers(0, 40))
    def crash(self, cut: int) -> None:
        paused = self.core.classes.state(CLASS)
        self.do(self.core.crash())
        plain = [path for _, path in numbered_segments(self.folder / "archive") if path.suffix != ".gz"]
        if plain and cut:
            # Half a line that was being written and never acknowledged.
            with plain[-1].open("ab") as file:
                file.write(json.dumps({"received": 1, "student_id": "s-1", "text": "é" * 20}).encode()[:cut])
        self.open()
        assert self.core.classes.state(CLASS) == paused
        for (student, stream), taken in self.taken.items():
            last = self.do(self.core.stream(student, stream)).durable_to
            assert self.durable.get((student, stream), 0) <= last <= len(taken)
            # The client sends the rest again.
            if last < len(taken):
                self.core.accept(self.do(self.core.stream(student, stream)), last + 1, *taken[last:])

    @rule()
    def compare(self) -> None:
        """The states are those that the archive gives."""
        self.commit()
        assert self.core.states() == self.do(replayed(self.folder, *bundled()))
        for (student, stream), taken in self.taken.items():
            assert self.do(self.core.stream(student, stream)).durable_to == len(taken)

    def teardown(self) -> None:
        if hasattr(self, "core"):
            self.compare()
            self.do(self.core.crash())
            self.loop.close()
            shutil.rmtree(self.folder)


TestLife = Life.TestCase
