"""Gaps of the archive: states are never folded over one unless it was accepted, and nothing is taken twice."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from appliance.archive import numbered_segments
from appliance.archive.accepted_gaps import ACCEPTED_GAPS, read_accepted
from appliance.archive.event_filter import EVERYTHING
from appliance.archive.markers import MarkedSegment, Marker, add_marker
from appliance.archive.merge import sources
from appliance.health import Finding
from appliance.node.rebuilding import Rebuilding
from appliance.states import StateLimits, student_details, student_key
from appliance.states.replay import Replay
from reducers.activity import ActivityReducer
from tests.archive.rewriting import rewrite
from tests.pipeline.world import Tally, TallyState
from tests.recovery.test_recovery import Doubled
from tests.recovery.world import CHARACTERS, VALUES, Core, replayed

STREAM = "stream-1"
FIXTURES = Path(__file__).parents[1] / "fixtures"


async def lesson(folder: Path, rounds: int, *, save_after: int = 0, students: tuple[str, ...] = ("s-1", "s-2")) -> None:
    """Each round is a start of the program and a segment with 5 events of each student.

    Args:
        folder: the data folder.
        rounds: how many.
        save_after: after which round a snapshot is written; 0 for none.
        students: who takes part; "s-2" only in the first round and the last one.
    """
    for number in range(rounds):
        core = Core(folder, Tally())
        await core.start()
        for student in students:
            if student == "s-2" and 0 < number < rounds - 1:
                continue
            await send(core, student)
        await core.pipeline.settle()
        if number + 1 == save_after:
            await core.recovery.save()
        await core.crash()


async def send(core: Core, student: str, count: int = 5) -> None:
    stream = await core.stream(student, STREAM)
    core.accept(stream, stream.last + 1, *({"event": "edit", "document": "d", "t": 1000} for _ in range(count)))
    await core.pipeline.settle()


def files(folder: Path) -> list[Path]:
    return [path for _, path in numbered_segments(folder / "archive")]


def seen(core: Core, student: str) -> int:
    return int(core.state(student, "tally//").seen)


def codes(found: list[Finding]) -> list[tuple[str, str]]:
    """All but that the chain of the archive is broken where a segment is missing."""
    return [(one.code, one.subject) for one in found if one.code != "archive.broken_link"]


async def rebuilt(core: Core) -> list[Finding]:
    """Run what a node runs in the background after a start; returns its findings."""
    rebuilding = Rebuilding(core.pipeline, core.archive, core.health, core.counters, StateLimits(VALUES, CHARACTERS))
    rebuilding.start(core.recovery)
    await rebuilding.done()
    await core.pipeline.settle()
    return list(rebuilding.findings())


class TestStart:
    async def test_a_middle_segment_is_missing(self, tmp_path: Path) -> None:
        await lesson(tmp_path, 3)
        files(tmp_path)[1].unlink()
        core = Core(tmp_path, Tally())
        await core.start()
        [found, link] = core.recovery.findings
        assert codes([found]) == [("archive.gap", "s-1")]
        assert (link.code, link.subject) == ("archive.broken_link", files(tmp_path)[1].name)
        assert "lacks 5 events of one student (numbers 6 to 10 of a stream, between " in found.text
        before, after = files(tmp_path)
        last = before.read_bytes().splitlines(keepends=True)[4]
        place = before.read_bytes().index(last)
        assert f"between {before.name}, byte {place} and {after.name}, byte 0; no archive file with the number 2" in (
            found.text
        )
        assert "s-1" not in found.text
        assert core.counters["archive_events_missing"] == 5
        assert (seen(core, "s-1"), seen(core, "s-2")) == (5, 10), "the other student is not affected"
        # All that is archived is acknowledged, and no event is asked for again.
        stream = await core.stream("s-1", STREAM)
        assert (stream.last, stream.durable_to) == (15, 15)
        student = stream.student
        assert student.held_at == 1.0
        await send(core, "s-1")
        await send(core, "s-2")
        assert (seen(core, "s-1"), seen(core, "s-2")) == (5, 15), "later events do not change what is held"
        await core.stop()

        # With the snapshot the next start has not met the gap, and holds the states all the same.
        core = Core(tmp_path, Tally())
        await core.start()
        assert (seen(core, "s-1"), seen(core, "s-2")) == (5, 15)
        assert not core.recovery.stale
        assert core.recovery.held == {"s-1": {"tally"}}
        assert codes(await rebuilt(core)) == [("reducer.gap", "s-1")]
        await send(core, "s-1")
        assert seen(core, "s-1") == 5
        assert (await core.stream("s-1", STREAM)).last == 25
        await core.stop()

    async def test_the_first_segments_are_missing(self, tmp_path: Path) -> None:
        await lesson(tmp_path, 2)
        [first, _] = files(tmp_path)
        add_marker(tmp_path / "archive", Marker("moved", 1.0, [MarkedSegment(first.name, 1, 10, 1000)], to="/mnt/usb"))
        first.unlink()
        core = Core(tmp_path, Tally())
        await core.start()
        assert codes(core.recovery.findings) == [("archive.gap", "s-1"), ("archive.gap", "s-2")]
        assert "(numbers 1 to 5 of a stream, before events-" in core.recovery.findings[0].text
        assert "; in files that were moved to /mnt/usb)" in core.recovery.findings[0].text
        assert not any(field.startswith("state/") for field in core.kvs.row(student_key("s-1")).fields)
        assert (await core.stream("s-1", STREAM)).last == 10
        await core.crash()

    async def test_what_the_snapshot_has_is_no_gap(self, tmp_path: Path) -> None:
        await lesson(tmp_path, 3, save_after=2)
        files(tmp_path)[0].unlink()
        core = Core(tmp_path, Tally())
        await core.start()
        assert codes(core.recovery.findings) == [("archive.missing", "")]
        assert (seen(core, "s-1"), seen(core, "s-2")) == (15, 10)
        await core.crash()

    async def test_a_gap_after_the_snapshot(self, tmp_path: Path) -> None:
        await lesson(tmp_path, 4, save_after=2)
        files(tmp_path)[2].unlink()
        core = Core(tmp_path, Tally())
        await core.start()
        assert codes(core.recovery.findings) == [("archive.gap", "s-1")]
        assert (seen(core, "s-1"), seen(core, "s-2")) == (10, 10)
        await core.crash()

    async def test_damage_between_two_lines_explains_a_gap(self, tmp_path: Path) -> None:
        await lesson(tmp_path, 3)
        path = files(tmp_path)[1]
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(lines[0] + b"}\n" + b"".join(lines[2:]))
        core = Core(tmp_path, Tally())
        await core.start()
        assert codes(core.recovery.findings) == [("archive.unreadable", "")]
        assert seen(core, "s-1") == 14
        await core.crash()

    async def test_damage_elsewhere_explains_nothing(self, tmp_path: Path) -> None:
        await lesson(tmp_path, 3)
        first, second, third = files(tmp_path)
        second.unlink()
        first.write_bytes(b"no line\n" + first.read_bytes())
        *others, last = third.read_bytes().splitlines(keepends=True)
        third.write_bytes(b"".join([*others, b"no line\n", last]))
        core = Core(tmp_path, Tally())
        await core.start()
        assert codes(core.recovery.findings) == [("archive.unreadable", ""), ("archive.gap", "s-1")]
        assert seen(core, "s-1") == 5
        await core.crash()

    async def test_it_is_accepted_once_for_all_starts(self, tmp_path: Path) -> None:
        await lesson(tmp_path, 3)
        files(tmp_path)[1].unlink()
        core = Core(tmp_path, Tally(), accept_gaps=True)
        await core.start()
        [found] = core.recovery.findings
        assert codes([found]) == [("archive.gaps_accepted", "")]
        assert "lacks 5 events of 1 student" in found.text
        assert seen(core, "s-1") == 10
        assert len(read_accepted(tmp_path / "archive")[0]) == 1
        await core.crash()
        # No snapshot was written.
        core = Core(tmp_path, Tally())
        await core.start()
        assert core.recovery.findings == []
        assert seen(core, "s-1") == 10
        await core.crash()
        # More is missing than what was accepted.
        path = files(tmp_path)[1]
        rewrite(path, lambda lines: lines[2:])
        core = Core(tmp_path, Tally())
        await core.start()
        assert codes(core.recovery.findings) == [("archive.gap", "s-1")]
        await core.crash()

    async def test_a_held_student_is_shown_again_once_it_is_accepted(self, tmp_path: Path) -> None:
        await lesson(tmp_path, 3)
        files(tmp_path)[1].unlink()
        core = Core(tmp_path, Tally())
        await core.start()
        await core.stop()
        core = Core(tmp_path, Tally(), accept_gaps=True)
        await core.start()
        assert seen(core, "s-1") == 5
        assert codes(core.recovery.findings) == [("archive.gaps_accepted", "")]
        assert await rebuilt(core) == []
        await send(core, "s-1")
        assert seen(core, "s-1") == 15
        assert core.pipeline.students()["s-1"].held_at is None
        lived = core.states()
        await core.stop()
        core = Core(tmp_path, Tally())
        await core.start()
        assert not core.recovery.held
        assert core.states() == lived
        await core.crash()

    @pytest.mark.parametrize("missing", [1, 2])
    async def test_a_start_that_ends_at_once_has_accepted_it_too(self, tmp_path: Path, missing: int) -> None:
        await lesson(tmp_path, 3, save_after=3)
        files(tmp_path)[missing].unlink()
        # Another version makes the start rebuild the states, and so hold them.
        core = Core(tmp_path, Doubled())
        await core.start()
        assert {code for code, _ in codes(await rebuilt(core))} == {"reducer.gap"}
        await core.stop()
        core = Core(tmp_path, Doubled(), accept_gaps=True)
        await core.start()
        assert core.recovery.held
        await core.crash()
        core = Core(tmp_path, Doubled())
        await core.start()
        assert core.recovery.findings == []
        assert await rebuilt(core) == []
        assert core.pipeline.students()["s-1"].held_at is None
        await core.crash()

    async def test_what_nobody_holds_is_not_accepted_with_it(self, tmp_path: Path) -> None:
        await lesson(tmp_path, 3, save_after=3, students=("s-1",))
        files(tmp_path)[1].unlink()
        core = Core(tmp_path, Tally(), accept_gaps=True)
        await core.start()
        assert not core.recovery.held
        assert read_accepted(tmp_path / "archive")[0] == []
        await core.crash()

    async def test_and_once_the_segment_is_back(self, tmp_path: Path) -> None:
        await lesson(tmp_path, 3)
        missing = files(tmp_path)[1]
        missing.rename(tmp_path / "moved")
        core = Core(tmp_path, Tally())
        await core.start()
        await send(core, "s-1")
        await core.stop()
        (tmp_path / "moved").rename(missing)
        core = Core(tmp_path, Tally())
        await core.start()
        assert seen(core, "s-1") == 5
        live = await core.stream("s-1", STREAM)
        core.accept(live, 21, {"event": "edit", "document": "d", "t": 1000})
        assert await rebuilt(core) == []
        assert not core.fold.suspended
        assert seen(core, "s-1") == 21
        core.accept(live, 22, {"event": "edit", "document": "d", "t": 1000})
        await core.pipeline.settle()
        assert seen(core, "s-1") == 22
        await core.stop()
        assert core.states() == await replayed(tmp_path, Tally())

    async def test_a_decision_that_cannot_be_written_is_a_finding(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_room(*arguments: object, **words: object) -> None:
            raise OSError(28, "No space left on device")

        await lesson(tmp_path, 3)
        files(tmp_path)[1].unlink()
        monkeypatch.setattr("appliance.archive.accepted_gaps.write_private", no_room)
        core = Core(tmp_path, Tally(), accept_gaps=True)
        await core.start()
        assert [code for code, _ in codes(core.recovery.findings)] == ["archive.gaps_accepted", "archive.gaps_unsaved"]
        assert "No space left" in core.recovery.findings[1].text
        assert seen(core, "s-1") == 10
        await core.crash()

    async def test_many_are_summed_up(self, tmp_path: Path) -> None:
        await lesson(tmp_path, 3, students=tuple(f"p-{number:03}" for number in range(30)))
        files(tmp_path)[1].unlink()
        core = Core(tmp_path, Tally())
        await core.start()
        assert len(codes(core.recovery.findings)) == 21
        assert "lacks 50 events of 10 further students" in core.recovery.findings[20].text
        await core.crash()


class TestRebuild:
    @pytest.mark.parametrize("save", [True, False], ids=["a snapshot of all", "a snapshot of the first"])
    async def test_another_version_over_a_missing_segment(self, tmp_path: Path, save: bool) -> None:
        await lesson(tmp_path, 4, save_after=4)
        missing = files(tmp_path)[1]
        missing.rename(tmp_path / "moved")
        core = Core(tmp_path, Doubled())
        await core.start()
        assert core.recovery.stale == {"tally"}
        assert codes(core.recovery.findings) == [("archive.missing", "")]
        [found] = await rebuilt(core)
        assert codes([found]) == [("reducer.gap", "s-1")]
        assert "lacks 5 events of one student (numbers 6 to 10 of a stream, between events-" in found.text
        assert "figures of tally" in found.text
        # 20 and 10 events: the state of the old version is kept; the other student's is of the new one.
        assert (seen(core, "s-1"), seen(core, "s-2")) == (20, 20)
        assert not core.fold.suspended
        for student in ("s-1", "s-2"):
            await send(core, student, 1)
        assert (seen(core, "s-1"), seen(core, "s-2")) == (20, 22)
        row = core.kvs.row(student_key("s-1"))
        assert row.fields["version/tally"] == b"1"
        assert b"held_at" in row.fields["summary/"]
        if save:
            await core.stop()
        else:
            await core.crash()

        core = Core(tmp_path, Doubled())
        await core.start()
        assert core.recovery.stale == (set() if save else {"tally"})
        assert codes(await rebuilt(core)) == [("reducer.gap", "s-1")]
        assert (seen(core, "s-1"), seen(core, "s-2")) == (20, 22)
        await core.stop()

        (tmp_path / "moved").rename(missing)
        core = Core(tmp_path, Doubled())
        await core.start()
        assert await rebuilt(core) == []
        assert (seen(core, "s-1"), seen(core, "s-2")) == (42, 22)
        await core.stop()
        assert core.states() == await replayed(tmp_path, Doubled())

    async def test_with_the_first_segment_moved_nothing_is_lost(self, tmp_path: Path) -> None:
        """30 events in three segments, of which the first is moved away, as docs/durability.md advised."""
        await lesson(tmp_path, 3, save_after=3)
        files(tmp_path)[0].unlink()
        core = Core(tmp_path, Doubled())
        await core.start()
        assert codes(await rebuilt(core)) == [("reducer.gap", "s-1"), ("reducer.gap", "s-2")]
        assert (seen(core, "s-1"), seen(core, "s-2")) == (15, 10)
        await core.stop()

    async def test_a_student_of_whom_no_line_is_left(self, tmp_path: Path) -> None:
        await lesson(tmp_path, 1, save_after=1)
        shutil.rmtree(tmp_path / "archive")
        core = Core(tmp_path, Doubled())
        await core.start()
        found = await rebuilt(core)
        assert codes(found) == [("reducer.gap", "s-1"), ("reducer.gap", "s-2")]
        assert "(numbers 1 to 5 of a stream)" in found[0].text
        assert seen(core, "s-1") == 5
        # The class that only a connection names is in the lines that follow.
        await send(core, "s-1", 1)
        await core.stop()
        assert b'"class_id":"class-1"' in files(tmp_path)[-1].read_bytes()

    async def test_the_last_lines_of_a_student_are_missing(self, tmp_path: Path) -> None:
        await lesson(tmp_path, 2, save_after=2)
        files(tmp_path)[1].unlink()
        core = Core(tmp_path, Doubled())
        await core.start()
        found = await rebuilt(core)
        assert codes(found) == [("reducer.gap", "s-1"), ("reducer.gap", "s-2")]
        assert "numbers 6 to 10 of a stream, after events-" in found[0].text
        assert seen(core, "s-1") == 10
        await core.stop()

    async def test_a_new_reducer_has_no_states_of_a_student_with_a_gap(self, tmp_path: Path) -> None:
        await lesson(tmp_path, 3, save_after=3)
        files(tmp_path)[1].unlink()
        core = Core(tmp_path, Tally(), ActivityReducer())
        await core.start()
        assert core.recovery.stale == {"activity"}
        assert codes(await rebuilt(core)) == [("reducer.gap", "s-1")]
        await send(core, "s-1", 1)
        row = core.kvs.row(student_key("s-1"))
        assert row.fields["broken/activity"] == b"gap"
        assert "summary/activity" not in row.fields
        assert seen(core, "s-1") == 16, "the states that were whole go on"
        assert "summary/activity" in core.kvs.row(student_key("s-2")).fields
        await core.stop()

    async def test_one_that_did_not_run_for_a_while_keeps_what_it_had(self, tmp_path: Path) -> None:
        await lesson(tmp_path, 1, save_after=1)
        core = Core(tmp_path, ActivityReducer())
        await core.start()
        await rebuilt(core)
        await send(core, "s-1")
        await core.stop()
        files(tmp_path)[0].unlink()
        core = Core(tmp_path, Tally(), ActivityReducer())
        await core.start()
        await rebuilt(core)
        await send(core, "s-1")
        assert seen(core, "s-1") == 5
        assert core.state("s-1", "tally//").seen == 5
        await core.stop()

    async def test_damage_is_folded_over_as_before(self, tmp_path: Path) -> None:
        await lesson(tmp_path, 3, save_after=3)
        files(tmp_path)[1].write_bytes(b"no line\n")
        core = Core(tmp_path, Doubled())
        await core.start()
        assert await rebuilt(core) == []
        assert (seen(core, "s-1"), seen(core, "s-2")) == (20, 20)
        await core.stop()

    async def test_it_is_accepted(self, tmp_path: Path) -> None:
        await lesson(tmp_path, 3, save_after=3)
        files(tmp_path)[1].unlink()
        core = Core(tmp_path, Doubled(), accept_gaps=True)
        await core.start()
        assert codes(core.recovery.findings) == [("archive.gaps_accepted", "")]
        assert await rebuilt(core) == []
        assert seen(core, "s-1") == 20
        await core.stop()
        # The next version, without the flag.
        core = Core(tmp_path, type("Third", (Doubled,), {"version": 3})())
        await core.start()
        assert core.recovery.stale == {"tally"}
        assert await rebuilt(core) == []
        assert seen(core, "s-1") == 20
        await core.stop()

    async def test_states_that_are_kept_are_shown_where_they_can_be_decoded(self, tmp_path: Path) -> None:
        class Scoped(Tally):
            scopes = (("document",),)

        class Other(Scoped):
            version = 2

        class Unlike(Scoped):
            version = 3
            State = type("Unlike", (TallyState,), {"__annotations__": {"seen": "str"}}, frozen=True)

        core = Core(tmp_path, Scoped())
        await core.start()
        await send(core, "s-1")
        await core.stop()
        files(tmp_path)[0].unlink()
        for reducer, shown in ((Other(), {"tally"}), (Unlike(), {"tally"})):
            core = Core(tmp_path, reducer)
            await core.start()
            assert codes(await rebuilt(core)) == [("reducer.gap", "s-1")]
            details = student_details(core.fold, core.kvs.row(student_key("s-1")))
            assert details.scopes["documents"]["d"].keys() == shown
            assert core.counters["reducer_states_failed{tally}"] == 0
            await core.stop()


def test_a_replay_knows_what_a_start_accepted(tmp_path: Path) -> None:
    async def live() -> int:
        await lesson(tmp_path, 3)
        files(tmp_path)[1].unlink()
        core = Core(tmp_path, Tally(), accept_gaps=True)
        await core.start()
        await core.crash()
        return seen(core, "s-1")

    def replay(folder: Path, *, accept: bool = False) -> Replay:
        limits = StateLimits(VALUES, CHARACTERS)
        run = Replay(sources([folder]), [Tally()], EVERYTHING, limits=limits, accept_gaps=accept)
        for _ in run.run():
            pass
        return run

    lived = asyncio.run(live())
    run = replay(tmp_path / "archive")
    assert (run.held, run.events) == (set(), 20)
    assert Tally().decode(run.students["s-1"].row().fields["state/tally//"]).seen == lived == 10
    (tmp_path / "archive" / ACCEPTED_GAPS).unlink()
    assert replay(tmp_path / "archive").held == {"s-1"}
