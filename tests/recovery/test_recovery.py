"""Snapshots, and starts from them: every committed event is in the states once."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import itertools
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.archive import Position, numbered_segments
from appliance.errors import ArchiveError
from appliance.kvs import Encoded, Row
from appliance.recovery import snapshot
from appliance.recovery.rebuild import Rebuild
from appliance.reducer import Reducer
from appliance.states import StateLimits
from reducers.activity import ActivityReducer
from reducers.responses import ResponsesReducer
from reducers.time_on_task import TimeOnTaskReducer
from reducers.writing import WritingReducer
from tests.pipeline.world import Tally, TallyState
from tests.recovery.world import CHARACTERS, CLASS, VALUES, Core, replayed

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


async def test_the_time_of_late_events_is_that_of_their_own_frame(tmp_path: Path) -> None:
    now = 1_700_000_000_000
    core = Core(tmp_path, Tally())
    await core.start()
    stream = await core.stream("s-1", STREAM)
    core.accept(stream, 1, {"event": "edit", "t": now - 60_000}, received=now)
    core.accept(stream, 2, {"event": "edit"}, received=now + 1000)
    await core.pipeline.settle()
    assert (stream.student.late, stream.student.late_at) == (1, now / 1000)
    await core.crash()
    core = Core(tmp_path, Tally())
    await core.start()
    student = core.pipeline.students()["s-1"]
    assert (student.late, student.late_at) == (1, now / 1000)
    await core.stop()


async def test_events_that_came_late_are_counted_and_after_a_crash_too(tmp_path: Path) -> None:
    now = 1_700_000_000_000
    core = Core(tmp_path, Tally())
    await core.start()
    stream = await core.stream("s-1", STREAM)
    late = [{"event": "edit", "t": now - 60_000 + n} for n in range(3)]
    core.accept(stream, 1, *late, "no object", {"event": "edit", "t": now - 30_000}, {"event": "edit"}, received=now)
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
    # Others that come much later are counted as a new group.
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
    """`Tally` in its second version, which counts each event twice."""

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
        assert core.recovery.stale == {"tally"} == core.fold.suspended
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
        assert not core.fold.suspended
        lived = core.states()
        await core.stop()
        assert lived == await replayed(tmp_path, *now)
        core = Core(tmp_path, *now)
        await core.start()
        assert not core.recovery.stale
        assert core.states() == lived
        await core.crash()

    async def test_its_progress_is_the_share_of_the_archive_that_was_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A second passes with each line, so the progress is noted at each.
        clock = SimpleNamespace(monotonic=itertools.count().__next__)
        monkeypatch.setattr("appliance.recovery.rebuild.time", clock)
        core = Core(tmp_path, Tally())
        await core.start()
        await _class_of_two(core)
        await core.pipeline.settle()
        rebuild = Rebuild(core.pipeline, core.archive, ["tally"], limits=StateLimits(VALUES, CHARACTERS))
        rebuilding = asyncio.create_task(rebuild.run())
        seen = [rebuild.progress]
        while not rebuilding.done():
            await asyncio.sleep(0)
            if rebuild.progress != seen[-1]:
                seen.append(rebuild.progress)
        await rebuilding
        assert seen == sorted(seen)
        assert seen[0] == 0
        assert 0 < seen[1] < 0.5 < seen[-2] < seen[-1] == 1
        await core.stop()

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
        assert "ValueError" in core.fold.failures.last["fails"]
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


class TestFailingDisk:
    def no_room(self, *arguments: object, **words: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def test_a_snapshot_that_cannot_be_written_leaves_the_one_before(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        core = Core(tmp_path, Tally())
        await core.start()
        await _class_of_two(core)
        await core.recovery.save()
        before = snapshot.snapshots(tmp_path / "snapshots")
        await _class_of_two(core, 6)
        with monkeypatch.context() as disk:
            disk.setattr(snapshot, "write_private", self.no_room)
            with pytest.raises(ArchiveError, match="The snapshot cannot be written: No space left"):
                await core.recovery.save()
        assert core.counters["snapshot_failures"] == 1
        assert snapshot.snapshots(tmp_path / "snapshots") == before
        assert await core.recovery.save(), "it is tried again"
        await core.crash()

    async def test_no_snapshot_while_archived_events_are_not_stored(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        core = Core(tmp_path, Tally())
        await core.start()
        await _class_of_two(core)
        monkeypatch.setattr(core.pipeline, "has_unstored", lambda: True)
        with pytest.raises(ArchiveError, match="No snapshot is written"):
            await core.recovery.save()
        assert snapshot.snapshots(tmp_path / "snapshots") == []
        await core.crash()

    async def test_a_class_state_that_cannot_be_written_is_taken_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        core = Core(tmp_path, Tally())
        await core.start()
        await core.classes.set_state(CLASS, "paused")
        with monkeypatch.context() as disk:
            disk.setattr("appliance.datafolder.files.write_private", self.no_room)
            with pytest.raises(ArchiveError, match=r"classes\.json cannot be written: No space left"):
                await core.classes.set_state(CLASS, "open")
        await core.crash()
        core = Core(tmp_path, Tally())
        await core.start()
        assert core.classes.state(CLASS) == "paused"
        await core.crash()


async def test_what_a_start_finds_in_the_archive_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("appliance.recovery.start.LOG_SECONDS", 0.0)
    core = Core(tmp_path, Tally())
    await core.start()
    await _class_of_two(core)
    await core.pipeline.settle()
    await core.crash()
    (tmp_path / "archive" / "events-20250101-0009.jsonl").mkdir()
    path = numbered_segments(tmp_path / "archive")[-1][1]
    path.write_bytes(b"not a line\n" + path.read_bytes() + b"half a line")
    core = Core(tmp_path, Tally())
    await core.start()
    assert [found.code for found in core.recovery.findings] == [
        "archive.torn",
        "archive.folder",
        "archive.unreadable",
    ]
    assert core.archive.torn[0].reason in core.recovery.findings[0].text
    assert core.counters["archive_lines_damaged"] == 1
    assert "Reading the archive: 100 %" in caplog.text
    assert core.state("s-1", "tally//").seen == 5
    await core.crash()


async def test_half_a_line_that_stays_since_the_disk_is_full_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = Core(tmp_path, Tally())
    await core.start()
    await _class_of_two(core)
    await core.pipeline.settle()
    await core.crash()
    [(_, path)] = numbered_segments(tmp_path / "archive")
    path.write_bytes(path.read_bytes().partition(b"\n")[0] + b"\n" + b'{"half a line')

    def no_room(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("appliance.archive.torn_lines.make_folder", no_room)
    core = Core(tmp_path, Tally())
    await core.start()
    assert [found.code for found in core.recovery.findings] == ["archive.torn"]
    assert core.counters["archive_lines_damaged"] == 0
    await core.crash()


async def test_a_start_that_reads_for_long_logs_its_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("appliance.recovery.start.LOG_SECONDS", 0.0)
    core = Core(tmp_path, Tally())
    await core.start()
    await _class_of_two(core, count=1500)
    await core.pipeline.settle()
    await core.crash()
    core = Core(tmp_path, Tally())
    await core.start()
    progress = [text for text in caplog.messages if text.startswith("Reading the archive: ")]
    assert len(progress) == 2
    assert progress[-1] == "Reading the archive: 100 %."
    assert core.state("s-1", "tally//").seen == 1500
    await core.crash()


def test_a_snapshot_of_something_else_with_a_right_checksum_is_unreadable(tmp_path: Path) -> None:
    for body in (b"{}\n\x90", b'{"position":[1,2],"reducers":{},"written":1,"program":"x"}\n\x91\xc0'):
        path = tmp_path / "snapshot-000001.bin"
        path.write_bytes(b"classroom-observer-snapshot 1 %b\n%b" % (hashlib.sha256(body).hexdigest().encode(), body))
        with pytest.raises(snapshot.UnreadableError, match="its content is not as expected"):
            snapshot.read(path)


def test_a_later_format_and_a_folder_are_unusable_and_an_older_snapshot_is_taken(tmp_path: Path) -> None:
    good = snapshot.write(tmp_path, Position(1, 2), {}, [])
    (tmp_path / "snapshot-000002.bin").write_bytes(b"classroom-observer-snapshot 2 x\n")
    (tmp_path / "snapshot-000003.bin").mkdir()
    found, unusable = snapshot.newest(snapshot.snapshots(tmp_path))
    assert found == snapshot.read(good)
    assert [one.subject for one in unusable] == ["snapshot-000003.bin", "snapshot-000002.bin"]
    assert "its format is not 1" in unusable[1].text
