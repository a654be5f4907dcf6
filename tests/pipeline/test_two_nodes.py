"""Two nodes on one store: no update is lost, and each number is applied once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from appliance.errors import BackendError
from appliance.kvs import Change
from appliance.pipeline import class_topic
from appliance.states import Stream, student_key
from tests.pipeline.world import CLASS, PATIENCE, Order, SharedKVS, until, world


async def test_two_nodes_with_a_tab_each_of_one_student_lose_nothing(tmp_path: Path) -> None:
    kvs = SharedKVS()
    async with (
        world(tmp_path / "one", Order(), kvs=kvs, commit_seconds=0.001) as one,
        world(tmp_path / "two", Order(), kvs=kvs, commit_seconds=0.001) as two,
    ):
        here, there = await one.stream(stream="stream-one"), await two.stream(stream="stream-two")
        for n in range(1, 101):
            one.accept(here, n, {"event": "a"})
            two.accept(there, n, {"event": "b"})
            if n % 7 == 0:
                await asyncio.sleep(0.001)
        await asyncio.gather(one.pipeline.settle(), two.pipeline.settle())
        assert (here.durable_to, there.durable_to) == (100, 100)
        order = await one.summary("order")
        assert (order["seen"], order["last"].count("a"), order["last"].count("b")) == (200, 100, 100)
        assert one.counters["commit_conflicts"] + two.counters["commit_conflicts"] > 0


async def test_a_stream_that_moves_to_another_node_and_back_goes_on_at_its_number(tmp_path: Path) -> None:
    kvs = SharedKVS()
    async with (
        world(tmp_path / "one", Order(), kvs=kvs) as one,
        world(tmp_path / "two", Order(), kvs=kvs) as two,
    ):
        one.accept(await one.stream(), 1, {"event": "a"}, {"event": "b"})
        await one.pipeline.settle()
        moved = await two.stream()
        assert moved.last == 2
        two.accept(moved, 2, {"event": "b"}, {"event": "c"})
        await two.pipeline.settle()
        back = await one.stream()
        assert (back.last, back.durable_to) == (3, 3)
        one.accept(back, 3, {"event": "c"}, {"event": "d"})
        await one.pipeline.settle()
        assert (await one.summary("order"))["last"] == "abcd"


async def test_events_that_two_nodes_received_count_once(tmp_path: Path) -> None:
    kvs = SharedKVS()
    async with (
        world(tmp_path / "one", Order(), kvs=kvs, commit_seconds=3600) as one,
        world(tmp_path / "two", Order(), kvs=kvs, commit_seconds=3600) as two,
    ):
        here, there = await one.stream(), await two.stream()
        # A connection was lost before the first node could commit, and the browser sent everything again to the second.
        one.accept(here, 1, {"event": "a"}, {"event": "b"})
        two.accept(there, 1, {"event": "a"}, {"event": "b"}, {"event": "c"})
        await two.pipeline.settle()
        one.accept(here, 3, {"event": "c"})
        await one.pipeline.settle()
        assert (here.durable_to, here.last) == (3, 3)
        assert (await one.summary("order"))["last"] == "abc"


async def test_queued_events_that_another_node_has_applied_count_once(tmp_path: Path) -> None:
    kvs = SharedKVS()
    async with (
        world(tmp_path / "one", Order(), kvs=kvs, commit_seconds=3600) as one,
        world(tmp_path / "two", Order(), kvs=kvs, commit_seconds=3600) as two,
    ):
        here, there = await one.stream(), await two.stream()
        one.accept(here, 1, {"event": "a"}, {"event": "b"})
        two.accept(there, 1, {"event": "a"}, {"event": "b"})
        await two.pipeline.settle()
        # Another tab opens, and this node reads the student's row again.
        await one.stream(stream="another-stream")
        durable: list[Stream] = []
        one.pipeline.on_durable.add(durable.extend)
        await one.pipeline.settle()
        assert (durable, here.applied, here.durable_to) == ([here], 2, 2)
        one.accept(here, 3, {"event": "c"})
        await one.pipeline.settle()
        assert (await one.summary("order"))["last"] == "abc"


async def test_frames_after_one_that_another_node_has_applied_in_part_are_applied_whole(tmp_path: Path) -> None:
    """Of several queued frames, those after the one that another node has applied in part are applied whole."""
    kvs = SharedKVS()
    async with world(tmp_path / "a", kvs=kvs, commit_seconds=3600) as a:
        async with world(tmp_path / "b", kvs=kvs, commit_seconds=3600) as b:
            here, there = await a.stream(), await b.stream()
            for first in (1, 4, 7):
                a.accept(here, first, *({"event": "x"} for _ in range(3)))
            b.accept(there, 1, {"event": "x"}, {"event": "x"})
            await b.pipeline.settle()
            [row] = await kvs.read([student_key("s-1")])
            here.student.load(row)
            await a.pipeline.settle()
            assert await a.summary("tally") == {"seen": 9, "last": "x", "at": 1_700_000_000.0}
            assert [line.seq for line in a.lines()] == list(range(3, 10))


class _ForgetfulKVS(SharedKVS):
    """Commits, and loses the connection before the answer."""

    lost = 1

    async def commit(self, changes: Iterable[Change]) -> list[str]:
        conflicts = await super().commit(changes)
        if self.lost:
            self.lost -= 1
            raise BackendError("The connection was lost.")
        return conflicts


async def test_a_commit_whose_answer_was_lost_is_not_applied_twice(tmp_path: Path) -> None:
    async with world(tmp_path, Order(), kvs=_ForgetfulKVS()) as w:
        stream = await w.stream()
        w.accept(stream, 1, {"event": "a"}, {"event": "b"})
        await w.pipeline.settle()
        assert stream.durable_to == 2
        w.accept(stream, 3, {"event": "c"})
        await w.pipeline.settle()
        assert (await w.summary("order"))["last"] == "abc"


async def test_a_store_that_lost_its_data_stops_acknowledgements(tmp_path: Path) -> None:
    kvs = SharedKVS()
    async with world(tmp_path, Order(), kvs=kvs) as w:
        stream = await w.stream()
        w.accept(stream, 1, {"event": "a"})
        await w.pipeline.settle()
        before = await kvs.read(["student/s-1"])
        await kvs.remove(["student/s-1"])
        w.accept(stream, 2, {"event": "b"})
        async with asyncio.timeout(10):
            while "has lost" not in (w.failing() or ""):
                await asyncio.sleep(0)
        assert stream.durable_to == 1
        kvs.load(before)
        await w.pipeline.settle()
        assert stream.durable_to == 2
        assert (await w.summary("order"))["last"] == "ab"


async def test_events_keep_their_numbers_when_the_store_has_lost_earlier_ones(tmp_path: Path) -> None:
    kvs = SharedKVS()
    async with world(tmp_path, kvs=kvs, commit_seconds=3600) as w:
        stream = await w.stream()
        w.accept(stream, 1, {"event": "x"}, {"event": "x"})
        await w.pipeline.settle()
        await kvs.remove([student_key("s-1")])
        [row] = await kvs.read([student_key("s-1")])
        stream.student.load(row)
        w.accept(stream, 3, {"event": "x"})
        w.pipeline.accept_gaps = True
        await w.pipeline.settle()
        assert [line.seq for line in w.lines()] == [1, 2, 3]
        assert w.counters["events_missing"] == 2


async def test_a_new_stream_does_not_begin_a_row_anew_that_the_store_has_lost(tmp_path: Path) -> None:
    kvs = SharedKVS()
    async with world(tmp_path, Order(), kvs=kvs) as w:
        w.accept(await w.stream(), 1, {"event": "a"})
        await w.pipeline.settle()
        other = await w.stream(stream="another-stream")
        before = await kvs.read([student_key("s-1")])
        await kvs.remove([student_key("s-1")])
        w.accept(other, 1, {"event": "b"})
        await until(lambda: "has lost" in (w.failing() or ""), "the loss is noticed")
        assert not await kvs.keys()
        kvs.load(before)
        await w.pipeline.settle()
        assert (await w.summary("order"))["last"] == "ab"


async def test_a_change_for_a_lost_row_is_not_written_to_a_new_row_of_the_same_version(tmp_path: Path) -> None:
    refilled = SharedKVS()
    async with world(tmp_path / "refill", Order(), kvs=refilled, commit_seconds=3600) as w:
        w.accept(await w.stream(), 1, {"event": "a"}, {"event": "b"})
        await w.pipeline.settle()
    kvs = SharedKVS()
    async with world(tmp_path / "node", Order(), kvs=kvs) as w:
        stream = await w.stream()
        w.accept(stream, 1, {"event": "a"})
        await w.pipeline.settle()
        await kvs.remove([student_key("s-1")])
        w.accept(stream, 2, {"event": "b"})
        await until(lambda: "has lost" in (w.failing() or ""), "the loss is noticed")
        # The change that waits was made for version 1, and so has this row.
        kvs.load(await refilled.read([student_key("s-1")]))
        await w.pipeline.settle()
        assert (stream.applied, stream.durable_to) == (2, 2)
        w.accept(stream, 3, {"event": "c"})
        await w.pipeline.settle()
        assert (await w.summary("order"))["last"] == "abc"
        assert w.counters["students_held"] == 0


async def test_what_was_read_while_the_store_was_refilled_is_read_again(tmp_path: Path) -> None:
    async with world(tmp_path, kvs=SharedKVS()) as w:
        w.pipeline.refilling = True
        reads: list[bool] = []

        async def read() -> int:
            reads.append(w.pipeline.refilling)
            if w.pipeline.refilling:
                w.pipeline.refilling = False
            return len(reads)

        assert await w.pipeline.read_whole(read) == 2
        assert reads == [True, False]


async def test_changes_that_could_not_be_published_are_published_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w, w.pubsub.subscribe(class_topic(CLASS)) as changes:
        publish = w.pubsub.publish

        async def fails(topic: str, message: bytes) -> None:
            monkeypatch.setattr(w.pubsub, "publish", publish)
            raise BackendError("The pubsub is away.")

        monkeypatch.setattr(w.pubsub, "publish", fails)
        w.accept(await w.stream(), 1, {"event": "a"})
        async with asyncio.timeout(PATIENCE):
            assert await anext(aiter(changes)) == b'["s-1"]'
        assert w.counters["publish_failures"] == 1


async def test_a_student_whose_row_was_read_empty_goes_on_once_the_store_is_refilled(tmp_path: Path) -> None:
    kvs = SharedKVS()
    async with world(tmp_path, Order(), kvs=kvs) as w:
        stream = await w.stream()
        w.accept(stream, 1, {"event": "a"})
        await w.pipeline.settle()
        before = await kvs.read([student_key("s-1")])
        await kvs.remove([student_key("s-1")])
        [empty] = await kvs.read([student_key("s-1")])
        stream.student.load(empty)
        w.accept(stream, 2, {"event": "b"})
        await until(lambda: "student.waiting" in w.codes(), "the loss is noticed")
        kvs.load(before)
        await w.pipeline.settle()
        assert (await w.summary("order"))["last"] == "ab"
        assert w.counters["events_missing"] == 0
