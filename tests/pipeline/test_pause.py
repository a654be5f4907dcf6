"""Paused classes: events are archived and not reduced, and the last paused number of a stream is known."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from appliance.archive import BEGINNING
from appliance.cluster.archive_upload import ArchiveUpload
from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.kvs import Change, Encoded
from appliance.pubsub.memory import MemoryPubSub
from appliance.states import Fold, StateLimits, decode_stream_position, student_key
from tests.pipeline.world import CLASS, STREAM, A, Order, SharedKVS, World, world


async def test_paused_events_are_archived_marked_and_not_reduced(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        stream = await w.stream()
        w.accept(stream, 1, A)
        w.pipeline.paused.add(CLASS)
        w.accept(stream, 2, A)
        w.pipeline.paused.clear()
        w.accept(stream, 3, A)
        await w.pipeline.settle()
        assert stream.durable_to == 3
        assert (await w.summary("tally"))["seen"] == 2
        assert [line.paused for line in w.lines()] == [False, True, False]


async def test_it_is_known_how_far_a_stream_was_paused(tmp_path: Path) -> None:
    async with world(tmp_path, commit_seconds=3600) as w:
        stream = await w.stream()
        w.accept(stream, 1, A)
        assert w.pipeline.paused_to(stream) == 0
        w.pipeline.paused.add(CLASS)
        w.accept(stream, 2, A, A)
        w.pipeline.paused.clear()
        w.accept(stream, 4, A)
        assert (w.pipeline.paused_to(stream), stream.paused_to) == (3, 0), "while they wait, too"
        await w.pipeline.settle()
        assert (w.pipeline.paused_to(stream), stream.paused_to) == (3, 3)
        w.accept(stream, 5, A)
        await w.pipeline.settle()
        assert w.pipeline.paused_to(stream) == 3
        other = await w.stream(stream="another-stream")
        w.accept(other, 1, A)
        await w.pipeline.settle()
        assert w.pipeline.paused_to(other) == 0
        [row] = await w.kvs.read([student_key("s-1")])
    assert decode_stream_position(row.fields["stream/" + STREAM]).paused_to == 3
    assert len(json.loads(row.fields["stream/another-stream"])) == 2, "rows are as before where there was no pause"


async def test_a_rejected_event_of_a_paused_time_is_only_rejected(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        stream = await w.stream()
        w.pipeline.paused.add(CLASS)
        w.accept(stream, 1, A, "no object")
        await w.pipeline.settle()
        assert (stream.durable_to, stream.paused_to) == (2, 1)
        assert [line.paused for line in w.lines()] == [True, False]


async def test_a_conflict_leaves_how_far_a_stream_was_paused(tmp_path: Path) -> None:
    kvs = SharedKVS()
    async with (
        world(tmp_path / "one", Order(), kvs=kvs, commit_seconds=3600) as one,
        world(tmp_path / "two", Order(), kvs=kvs, commit_seconds=3600) as two,
    ):
        here, there = await one.stream(), await two.stream(stream="another-stream")
        one.pipeline.paused.add(CLASS)
        one.accept(here, 1, {"event": "a"}, {"event": "b"})
        one.pipeline.paused.clear()
        one.accept(here, 3, {"event": "c"})
        two.accept(there, 1, {"event": "d"})
        await two.pipeline.settle()
        await one.pipeline.settle()
        assert one.counters["commit_conflicts"] == 1
        assert one.pipeline.paused_to(here) == 2
        assert (await one.summary("order"))["last"] == "dc"
        # The student's next page comes to the other node.
        assert two.pipeline.paused_to(await two.stream()) == 2
        assert two.pipeline.paused_to(there) == 0


@pytest.mark.parametrize(("paused_here", "expected"), [(True, 0), (False, 2)])
async def test_the_node_that_applies_an_event_first_decides_whether_it_was_paused(
    tmp_path: Path, paused_here: bool, expected: int
) -> None:
    kvs = SharedKVS()
    async with (
        world(tmp_path / "one", Order(), kvs=kvs, commit_seconds=3600) as one,
        world(tmp_path / "two", Order(), kvs=kvs, commit_seconds=3600) as two,
    ):
        here, there = await one.stream(), await two.stream()
        (one if paused_here else two).pipeline.paused.add(CLASS)
        one.accept(here, 1, {"event": "a"}, {"event": "b"})
        two.accept(there, 1, {"event": "a"}, {"event": "b"})
        one.pipeline.paused.clear()
        one.accept(here, 3, {"event": "c"})
        await two.pipeline.settle()
        await one.pipeline.settle()
        assert one.pipeline.paused_to(here) == expected
        assert two.pipeline.paused_to(await two.stream()) == expected
        assert (await one.summary("order"))["last"] == ("c" if expected else "abc")


class _BrokenSharedKVS(SharedKVS):
    broken = True

    async def commit(self, changes: Iterable[Change]) -> list[str]:
        if self.broken:
            raise BackendError("The store is unavailable.")
        return await super().commit(changes)


async def test_how_far_a_stream_was_paused_is_known_while_a_commit_fails(tmp_path: Path) -> None:
    kvs = _BrokenSharedKVS()
    w = World(tmp_path, kvs, MemoryPubSub(Counters(), 10), [Order()])
    stream = await w.stream()
    w.pipeline.paused.add(CLASS)
    w.accept(stream, 1, {"event": "a"})
    w.pipeline.paused.clear()
    with pytest.raises(BackendError):
        await w.pipeline.close()
    assert (stream.durable_to, w.pipeline.paused_to(stream)) == (0, 1)
    # Another node changes the row, which does not have the pause, and is read again.
    kvs.broken = False
    await kvs.commit([Change(student_key("s-1"), 0, {"stream/elsewhere": Encoded(b"[1,1]")})])
    await w.pipeline.close()
    assert (stream.durable_to, stream.paused_to, w.pipeline.paused_to(stream)) == (1, 1, 1)
    await w.archive.close()
    await w.pubsub.close()


async def test_a_store_that_lost_its_data_gets_the_pause_from_the_archive(tmp_path: Path) -> None:
    kvs = SharedKVS()
    async with world(tmp_path, Order()) as w:
        stream = await w.stream()
        w.accept(stream, 1, {"event": "a"})
        w.pipeline.paused.add(CLASS)
        w.accept(stream, 2, {"event": "b"})
        w.pipeline.paused.clear()
        w.accept(stream, 3, {"event": "c"})
        await w.pipeline.settle()
        fold = lambda: Fold([Order()], Counters(), StateLimits(50, 100))  # noqa: E731
        await ArchiveUpload(w.archive, BEGINNING, kvs, w.pubsub, fold, w.counters, {}).run(0.0)
        [lived] = await w.kvs.read([student_key("s-1")])
        [refilled] = await kvs.read([student_key("s-1")])
    assert decode_stream_position(refilled.fields["stream/" + STREAM]).paused_to == 2
    assert refilled.fields == lived.fields
