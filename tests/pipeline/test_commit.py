"""Commits: durable before acknowledged, each number once, and what happens while a backend is unavailable."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from appliance.archive import Damage, Record, read
from appliance.config import ArchiveSettings, LimitSettings, PipelineSettings, Settings
from appliance.errors import ArchiveError, BackendError
from appliance.events import EventLimits
from appliance.kvs import Change
from appliance.kvs.memory import MemoryKVS
from appliance.pipeline import GapError, PipelineOptions, class_topic
from appliance.pipeline.scheduler import QUANTUM
from appliance.pubsub.memory import MemoryPubSub
from appliance.states import Stream
from tests.pipeline.world import CLASS, A, Fragile, Order, until, world


async def test_events_are_durable_in_archive_and_store_before_they_may_be_acknowledged(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        seen: list[tuple[int, int, object]] = []
        stream = await w.stream()

        def durable(streams: object) -> None:
            seen.append((stream.durable_to, len(w.lines()), None))

        w.pipeline.on_durable.add(durable)
        w.accept(stream, 1, A, A)
        assert stream.durable_to == 0
        await w.pipeline.settle()
        assert seen == [(2, 2, None)]
        assert w.counters["events_committed"] == 2
        assert (await w.summary("tally"))["seen"] == 2


async def test_a_commit_comes_by_itself(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        done = asyncio.Event()
        w.pipeline.on_durable.add(lambda streams: done.set())
        w.accept(await w.stream(), 1, A)
        async with asyncio.timeout(10):
            await done.wait()


async def test_enough_events_are_committed_without_waiting(tmp_path: Path) -> None:
    async with world(tmp_path, commit_seconds=3600, commit_events=3) as w:
        done = asyncio.Event()
        w.pipeline.on_durable.add(lambda streams: done.set())
        w.accept(await w.stream(), 1, A, A, A)
        async with asyncio.timeout(10):
            await done.wait()


async def test_of_very_many_events_a_commit_takes_a_part_and_the_next_one_begins_at_once(tmp_path: Path) -> None:
    async with world(tmp_path, commit_seconds=3600, commit_events=10) as w:
        streams = [await w.stream(f"s-{n}", f"stream-{n}") for n in range(9)]
        commits: list[int] = []
        done = asyncio.Event()

        def durable(some: list[Stream]) -> None:
            commits.append(len(some))
            if all(stream.durable_to == 4 for stream in streams):
                done.set()

        w.pipeline.on_durable.add(durable)
        for stream in streams:
            w.accept(stream, 1, A, A, A, A)
        async with asyncio.timeout(10):
            await done.wait()
        assert commits == [3, 3, 3]
        assert len(w.lines()) == 36


async def test_settle_waits_for_all_accepted_events(tmp_path: Path) -> None:
    async with world(tmp_path, commit_seconds=3600, commit_events=2) as w:
        streams = [await w.stream(f"s-{n}", f"stream-{n}") for n in range(5)]
        for stream in streams:
            w.accept(stream, 1, A)
        await w.pipeline.settle()
        assert [stream.durable_to for stream in streams] == [1] * 5


async def test_a_resent_event_is_not_applied_twice(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        stream = await w.stream()
        w.accept(stream, 1, A, A)
        assert w.accept(stream, 1, A, A, A) == 1
        assert w.accept(stream, 2, A) == 0
        await w.pipeline.settle()
        assert (await w.summary("tally"))["seen"] == 3
        assert [line.seq for line in w.lines()] == [1, 2, 3]


async def test_of_a_frame_after_a_gap_nothing_is_accepted_and_the_next_number_is_given(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        stream = await w.stream()
        w.accept(stream, 1, A)
        with pytest.raises(GapError) as gap:
            w.accept(stream, 3, A)
        assert gap.value.expected == 2
        await w.pipeline.settle()
        assert stream.durable_to == 1


async def test_the_archive_keeps_the_text_unchanged_in_one_line(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        stream = await w.stream()
        w.accept(stream, 1, b'{ "event":"a",\n "n": 1.50, "s":"\\n" }', received=1_700_000_000_123)
        await w.pipeline.settle()
        [line] = w.lines()
        assert bytes(line.event) == b'{ "event":"a",  "n": 1.50, "s":"\\n" }'
        assert (line.received, line.student_id, line.class_id, line.stream) == (1700000000.123, "s-1", CLASS, stream.id)


async def test_a_large_frame_is_taken_in_parts_and_its_work_is_reported(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        worked: list[tuple[str, float]] = []
        w.pipeline.on_worked.add(lambda student_id, seconds: worked.append((student_id, seconds)))
        stream = await w.stream()
        texts = [b'{"event":"a","x":"%b"}' % (b"x" * size) for size in [1] * 900 + [QUANTUM, 2 * QUANTUM, 1, QUANTUM]]
        w.accept(stream, 1, *texts)
        assert len(stream.queued) > 4
        assert all(part.size <= QUANTUM or len(part.texts) == 1 for part in stream.queued)
        assert [text for part in stream.queued for text in part.texts] == texts
        assert stream.last == stream.queued[-1].last == len(texts)
        await w.pipeline.settle()
        assert [line.seq for line in w.lines()] == list(range(1, len(texts) + 1))
        assert [bytes(line.event) for line in w.lines()] == texts
        assert stream.durable_to == len(texts)
        assert worked
        assert all(student_id == stream.student.id and seconds > 0 for student_id, seconds in worked)


async def test_each_commit_publishes_once_which_students_changed(tmp_path: Path) -> None:
    async with world(tmp_path, commit_seconds=3600) as w, w.pubsub.subscribe(class_topic(CLASS)) as topic:
        one, two = await w.stream("s-1"), await w.stream("s-2", "another-stream")
        for n in range(1, 4):
            w.accept(one, n, A)
            w.accept(two, n, A)
        await w.pipeline.settle()
        w.accept(two, 4, A)
        await w.pipeline.settle()
        messages = aiter(topic)
        assert msgspec.json.decode(await anext(messages)) == ["s-1", "s-2"]
        assert msgspec.json.decode(await anext(messages)) == ["s-2"]


async def test_another_pipeline_on_the_same_store_continues_at_the_last_number(tmp_path: Path) -> None:
    kvs = MemoryKVS()
    async with world(tmp_path, kvs=kvs) as w:
        w.accept(await w.stream(), 1, A, A)
    async with world(tmp_path, kvs=kvs) as w:
        stream = await w.stream()
        assert (stream.last, stream.durable_to) == (2, 2)
        w.accept(stream, 2, A, A)
        await w.pipeline.settle()
        tally = await w.summary("tally")
        assert (tally["seen"], tally["last"]) == (3, "a")


async def test_the_events_of_a_commit_that_fails_unexpectedly_are_committed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, Order(), commit_seconds=3600) as w:
        stream = await w.stream()
        w.accept(stream, 1, {"event": "a"})

        async def broken(changes: Iterable[Change]) -> list[str]:
            raise RuntimeError("an unexpected error")

        monkeypatch.setattr(w.kvs, "commit", broken)
        settling = asyncio.create_task(w.pipeline.settle())
        async with asyncio.timeout(10):
            while "student.waiting" not in w.codes():
                await asyncio.sleep(0)
        assert stream.durable_to == 0
        monkeypatch.undo()
        await settling
        assert w.codes() == ["commit.error"]
        w.accept(stream, 2, {"event": "b"})
        await w.pipeline.settle()
        assert stream.durable_to == 2
        assert (await w.summary("order"))["last"] == "ab"
        assert [line.seq for line in w.lines()] == [1, 2]


class _BrokenKVS(MemoryKVS):
    broken = True

    async def commit(self, changes):  # type: ignore[no-untyped-def]
        if self.broken:
            raise BackendError("The store is unavailable.")
        return await super().commit(changes)


async def test_while_the_store_is_unavailable_nothing_is_acknowledged_and_afterwards_everything(tmp_path: Path) -> None:
    kvs = _BrokenKVS()
    async with world(tmp_path, kvs=kvs) as w:
        stream = await w.stream()
        done = asyncio.Event()
        w.pipeline.on_durable.add(lambda streams: done.set())
        w.accept(stream, 1, A)
        async with asyncio.timeout(10):
            while w.failing() is None:
                await asyncio.sleep(0)
        assert w.failing() == "The store is unavailable."
        w.accept(stream, 2, A)
        assert stream.durable_to == 0
        kvs.broken = False
        await w.pipeline.settle()
        assert stream.durable_to == 2
        assert w.failing() is None
        assert (await w.summary("tally"))["seen"] == 2


async def test_a_failed_archive_write_loses_nothing_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, commit_seconds=0) as w:
        stream = await w.stream()
        w.accept(stream, 1, A)
        await w.pipeline.settle()

        def full(handle: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        w.accept(stream, 2, A)
        async with asyncio.timeout(10):
            while not (w.failing() or "").endswith("No space left on device."):
                await asyncio.sleep(0)
        assert stream.durable_to == 1
        monkeypatch.undo()
        await w.pipeline.settle()
        assert stream.durable_to == 2
        assert [line.seq for line in w.lines()] == [1, 2]


async def test_an_archive_that_cannot_be_written_gives_an_error_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("in the way")
    with pytest.raises(ArchiveError, match="cannot be written"):
        async with world(tmp_path, Fragile()):
            pass


async def test_damaged_lines_are_skipped_and_reported_with_their_position(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.accept(await w.stream(), 1, A, A, A)
        await w.pipeline.settle()
    [segment] = (tmp_path / "archive").iterdir()
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(lines[0] + b"\x00\xff damaged\n" + lines[1] + b'{"seq":1}\n' + lines[2][:-20])
    found = list(read([segment]))
    assert [type(line) for line in found] == [Record, Damage, Record, Damage, Damage]
    assert next((d.line, d.byte) for d in found if isinstance(d, Damage)) == (2, len(lines[0]))
    assert found[-1].reason == "the line is cut off"


async def test_a_pubsub_that_fails_or_hangs_delays_neither_commits_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(self: MemoryPubSub, topic: str, message: bytes) -> None:
        raise BackendError("The pubsub is unavailable.")

    async def hangs(self: MemoryPubSub, topic: str, message: bytes) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("appliance.pipeline.publish.LAST_SECONDS", 0.01)
    async with world(tmp_path, commit_seconds=3600) as w:
        stream = await w.stream()
        monkeypatch.setattr(MemoryPubSub, "publish", fails)
        for number in (1, 2):
            w.accept(stream, number, A)
            await w.pipeline.settle()
            await until(lambda n=number: w.counters["publish_failures"] == n, "it is counted")  # type: ignore[misc]
        assert caplog.text.count("The pubsub is unavailable.") == 1
        monkeypatch.setattr(MemoryPubSub, "publish", hangs)
        w.accept(stream, 3, A)
    assert stream.durable_to == 3


def test_options_of_the_configuration() -> None:
    settings = Settings(
        limits=LimitSettings(
            event_bytes=1, event_depth=2, event_name_characters=3, event_values=4, streams_per_student=5
        ),
        pipeline=PipelineSettings(commit_ms=6, commit_events=7),
        archive=ArchiveSettings(buffer_bytes=8),
    )
    assert PipelineOptions.of(settings) == PipelineOptions(EventLimits(1, 2, 3, 4), 0.006, 7, 5, 8)
