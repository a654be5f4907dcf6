"""Faults within a commit: each step is retried, done for each student singly, or left to the next commit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from appliance.archive import Archive, StreamLines, read
from appliance.errors import ArchiveError, BackendError
from appliance.events import RejectedError
from appliance.kvs import Change, Row
from appliance.kvs.memory import MemoryKVS
from appliance.pipeline import batch, commit
from appliance.pipeline.event_queue import EventQueue
from appliance.pipeline.postponed import PostponedStudents
from appliance.states import Fold, Stream, StreamState, StudentStates, student_key
from tests.pipeline.world import SharedKVS, Tally, World, event, until, world


class Steps:
    """Raises one error after the other when a step is done, and then lets it succeed.

    Attributes:
        errors: the remaining ones.
    """

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)

    def step(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    def patch(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        before = getattr(owner, name)

        async def call(*args: Any) -> Any:
            self.step()
            return await before(*args)

        monkeypatch.setattr(owner, name, call)


@pytest.fixture(autouse=True)
def _short_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.tasks.random.uniform", lambda low, high: 0.05)


async def closed(w: World, error: type[Exception]) -> None:
    """Close a pipeline whose last commit fails."""
    with pytest.raises(error):
        await w.pipeline.close()


@pytest.mark.parametrize("errors", [[ArchiveError("full")], [RuntimeError("unexpected"), ArchiveError("full")]])
async def test_where_the_archive_fails_at_the_end_the_events_stay_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: list[Exception]
) -> None:
    async with world(tmp_path, Tally(), commit_seconds=3600) as w:
        stream = await w.stream()
        w.accept(stream, 1, event(1), event(2))
        Steps(*errors).patch(monkeypatch, Archive, "sync")
        await closed(w, ArchiveError)
        assert (stream.durable_to, stream.applied, len(stream.queued)) == (0, 0, 1)
        await w.pipeline.settle()
        assert stream.durable_to == 2
        assert (await w.summary("tally"))["seen"] == 2
        assert [line.seq for line in w.lines()] == [1, 2]


@pytest.mark.parametrize("errors", [[BackendError("full")], [RuntimeError("unexpected"), BackendError("full")]])
async def test_where_the_store_fails_at_the_end_the_events_are_stored_by_the_next_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: list[Exception]
) -> None:
    async with world(tmp_path, Tally(), commit_seconds=3600) as w:
        stream = await w.stream()
        w.accept(stream, 1, event(1), event(2))
        Steps(*errors).patch(monkeypatch, MemoryKVS, "commit")
        await closed(w, BackendError)
        assert (stream.durable_to, stream.applied) == (0, 2)
        assert w.pipeline.has_unstored()
        await w.pipeline.settle()
        assert stream.durable_to == 2
        assert [line.seq for line in w.lines()] == [1, 2]


@pytest.mark.parametrize("errors", [[BackendError("away")], [RuntimeError("unexpected"), RuntimeError("unexpected")]])
async def test_restored_states_that_cannot_be_stored_are_stored_by_the_next_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: list[Exception]
) -> None:
    async with world(tmp_path, Tally()) as w:
        w.accept(await w.stream(), 1, event(1))
    async with world(tmp_path, Tally(), commit_seconds=3600) as w:
        Steps(*errors).patch(monkeypatch, MemoryKVS, "commit")
        w.pipeline.restore(read([w.folder]), w.kvs.row)
        if isinstance(errors[0], BackendError):
            await closed(w, BackendError)
        await w.pipeline.settle()
        assert (await w.summary("tally"))["seen"] == 1


async def test_a_student_who_cannot_be_archived_is_left_out_where_each_is_archived_singly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Archive.append

    def fail(self: Archive, pieces: list[bytes]) -> None:
        if b'"bad"' in b"".join(pieces):
            raise RuntimeError("unexpected")
        append(self, pieces)

    async with world(tmp_path, Tally(), commit_seconds=3600) as w:
        bad, good = await w.stream("bad", "stream-1"), await w.stream("good", "stream-2")
        w.accept(bad, 1, event(1))
        w.accept(good, 1, event(1))
        with monkeypatch.context() as patch:
            patch.setattr(Archive, "append", fail)
            Steps(RuntimeError("unexpected")).patch(patch, Archive, "sync")
            settling = asyncio.create_task(w.pipeline.settle())
            await until(lambda: good.durable_to == 1, "the other student is committed")
            assert bad.durable_to == 0
        await settling
        assert bad.durable_to == 1
        assert [(line.student_id, line.seq) for line in w.lines()] == [("good", 1), ("bad", 1)]


async def test_a_student_whose_change_cannot_be_made_is_postponed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = StudentStates.change
    steps = Steps(RuntimeError("unexpected"))

    def fail(self: StudentStates, **options: Any) -> Any:
        if self.id == "bad":
            steps.step()
        return change(self, **options)

    monkeypatch.setattr(StudentStates, "change", fail)
    async with world(tmp_path, Tally(), commit_seconds=3600) as w:
        bad, good = await w.stream("bad", "stream-1"), await w.stream("good", "stream-2")
        w.accept(bad, 1, event(1))
        w.accept(good, 1, event(1))
        await w.pipeline.settle()
        assert (bad.durable_to, good.durable_to) == (1, 1)
        assert w.counters["students_held"] == 1
        assert (await w.summary("tally", "bad"))["seen"] == 1


async def test_a_store_that_does_not_answer_in_time_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging(MemoryKVS):
        hangs = True

        async def commit(self, changes: Iterable[Change]) -> list[str]:
            if self.hangs:
                self.hangs = False
                await asyncio.Event().wait()
            return await super().commit(changes)

    monkeypatch.setattr(commit, "STORE_SECONDS", 0.01)
    async with world(tmp_path, Tally(), kvs=Hanging(), commit_seconds=3600) as w:
        stream = await w.stream()
        w.accept(stream, 1, event(1))
        await w.pipeline.settle()
        assert stream.durable_to == 1
        assert w.counters["commit_retries"] == 1


async def test_a_postponed_student_whose_row_was_lost_stays_postponed_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kvs = SharedKVS()
    async with world(tmp_path, Tally(), kvs=kvs, commit_seconds=3600) as w:
        stream = await w.stream()
        w.accept(stream, 1, event(1))
        await w.pipeline.settle()
        [row] = await kvs.read([student_key("s-1")])
        w.accept(stream, 2, event(2))
        Steps(RuntimeError("unexpected"), RuntimeError("unexpected")).patch(monkeypatch, kvs, "commit")
        settling = asyncio.create_task(w.pipeline.settle())
        await until(w.pipeline.has_unstored, "the student is postponed")
        stream.student.load(Row(student_key("s-1"), 0, {}))
        await until(lambda: w.counters["students_held"] > 1, "the student is postponed again")
        assert stream.durable_to == 1
        stream.student.load(row)
        await settling
        assert stream.durable_to == 2
        assert (await w.summary("tally"))["seen"] == 2


async def test_the_events_of_a_postponed_student_are_decoded_again_where_the_row_was_loaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, Tally(), commit_seconds=3600) as w:
        stream = await w.stream()
        w.accept(stream, 1, event(1), event(2))
        Steps(RuntimeError("unexpected"), RuntimeError("unexpected")).patch(monkeypatch, MemoryKVS, "commit")
        settling = asyncio.create_task(w.pipeline.settle())
        await until(w.pipeline.has_unstored, "the student is postponed")
        stream.student.load(Row(student_key("s-1"), 0, {}))
        await settling
        assert (await w.summary("tally"))["seen"] == 2
        assert [line.seq for line in w.lines()] == [1, 2]


async def test_of_two_streams_of_a_student_only_the_unusable_one_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reduce = Fold.reduce
    always = False

    def fail(self: Fold, stream: Stream, events: Any) -> None:
        reduce(self, stream, events)
        if stream.id == "stream-bad" and (events or always):
            raise RuntimeError("unexpected")

    monkeypatch.setattr(Fold, "reduce", fail)
    async with world(tmp_path, Tally(), commit_seconds=3600) as w:
        good, bad = await w.stream(stream="stream-good"), await w.stream(stream="stream-bad")
        w.accept(good, 1, event(1), event(2))
        w.accept(bad, 1, event(1))
        await w.pipeline.settle()
        assert (good.durable_to, bad.durable_to, bad.state) == (2, 1, StreamState.QUARANTINED)
        assert (await w.summary("tally"))["seen"] == 2
        assert [(line.stream, bool(line.rejected)) for line in w.lines()] == [
            ("stream-good", False),
            ("stream-good", False),
            ("stream-bad", True),
        ]
        # If even that fails, the student waits.
        bad = await w.stream(stream="stream-bad")
        always = True
        w.accept(bad, 2, event(2))
        w.accept(good, 3, event(3))
        settling = asyncio.create_task(w.pipeline.settle())
        await until(lambda: "student.waiting" in w.codes(), "the student is postponed")
        assert (good.durable_to, bad.durable_to, good.applied) == (2, 1, 2)
        always = False
        await settling
        assert (good.durable_to, bad.durable_to) == (3, 2)
        assert (await w.summary("tally"))["seen"] == 3


async def test_a_student_whose_events_cannot_be_decoded_for_lack_of_memory_is_postponed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = batch.decode_events
    steps = Steps(MemoryError(), MemoryError())

    def fail(*args: Any) -> list[dict[str, Any] | RejectedError]:
        steps.step()
        return decode(*args)

    monkeypatch.setattr(batch, "decode_events", fail)
    async with world(tmp_path, Tally(), commit_seconds=3600) as w:
        stream = await w.stream()
        w.accept(stream, 1, event(1))
        await w.pipeline.settle()
        assert stream.durable_to == 1
        assert (w.counters["students_held"], w.codes()) == (2, [])
        assert (await w.summary("tally"))["seen"] == 1


async def test_a_gap_in_memory_of_one_stream_leaves_the_students_others_alone(tmp_path: Path) -> None:
    async with world(tmp_path, Tally(), commit_seconds=3600) as w:
        good, bad = await w.stream(stream="stream-good"), await w.stream(stream="stream-bad")
        bad.last = 5
        w.accept(good, 1, event(1))
        w.accept(bad, 6, event(6))
        await w.pipeline.settle()
        assert (good.durable_to, bad.durable_to, bad.state) == (1, 0, StreamState.QUARANTINED)
        assert (await w.summary("tally"))["seen"] == 1


async def test_a_rejected_event_that_cannot_be_archived_is_counted_and_its_number_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise RuntimeError("unexpected")

    async with world(tmp_path, Tally(), commit_seconds=3600) as w:
        stream = await w.stream()
        w.accept(stream, 1, event(1))
        with monkeypatch.context() as patch:
            patch.setattr(batch, "decode_events", fail)
            patch.setattr(StreamLines, "rejected", fail)
            await w.pipeline.settle()
        assert (stream.durable_to, w.counters["events_unarchived"]) == (1, 1)


async def test_a_commit_that_takes_long_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, may_end = asyncio.Event(), asyncio.Event()

    class Slow(MemoryKVS):
        async def commit(self, changes: Iterable[Change]) -> list[str]:
            began.set()
            await may_end.wait()
            return await super().commit(changes)

    monkeypatch.setattr(commit, "SLOW_SECONDS", -1.0)
    async with world(tmp_path, Tally(), kvs=Slow(), commit_seconds=0.001) as w:
        w.accept(await w.stream(), 1, event(1))
        await began.wait()
        assert w.codes() == ["commit.slow"]
        may_end.set()
        await w.pipeline.settle()
        assert w.codes() == []


async def test_a_postponed_student_without_queued_events_is_forgotten_when_the_time_has_come(tmp_path: Path) -> None:
    async with world(tmp_path, Tally()) as w:
        student = (await w.stream()).student
        postponed = PostponedStudents(EventQueue(10), w.counters, w.health)
        postponed.postpone(student, MemoryError())
        assert postponed.has_any([student])
        assert postponed.due(everybody=False) == []
        assert 0 < postponed.next_attempt() <= 0.05
        assert w.codes() == ["student.waiting"]
        assert postponed.due(everybody=True) == []
        assert (postponed.has_any([student]), postponed.next_attempt(), w.codes()) == (False, 0, [])


async def test_a_pipeline_whose_background_commit_failed_at_the_end_gives_the_error_of_the_last_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, Tally(), commit_seconds=0.001) as w:
        stream = await w.stream()
        with monkeypatch.context() as patch:
            steps = Steps(*[BackendError(f"away {n}") for n in range(4)])
            steps.patch(patch, MemoryKVS, "commit")
            w.pipeline.stop_retries()
            w.accept(stream, 1, event(1))
            await until(lambda: len(steps.errors) < 4, "the commit in the background has failed")
            with pytest.raises(BackendError, match="away"):
                await w.pipeline.close()
        await w.pipeline.settle()
        assert stream.durable_to == 1
        assert json.loads(w.kvs.row(student_key("s-1")).fields["summary/tally"])["seen"] == 1


async def test_a_pipeline_with_a_postponed_student_does_not_close_without_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, Tally(), commit_seconds=3600) as w:
        stream = await w.stream()
        with monkeypatch.context() as patch:
            Steps(*[RuntimeError("unexpected")] * 20).patch(patch, MemoryKVS, "commit")
            w.accept(stream, 1, event(1))
            with pytest.raises(BackendError, match="could not be made durable"):
                await w.pipeline.close()
        await w.pipeline.settle()
        assert stream.durable_to == 1
