"""Live students: streams are opened with their positions, many at once, and without delay by commits of others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import BackendError
from appliance.kvs import Change, Encoded
from appliance.kvs.memory import MemoryKVS
from appliance.pipeline import StreamClosedError, TooManyStreamsError
from appliance.states import StreamState, StreamStateError, student_key
from tests.pipeline.faults import MARK, Fault, inject
from tests.pipeline.world import CLASS, STREAM, A, SharedKVS, Tally, event, until, world


async def test_two_sockets_that_open_one_student_at_once_share_one_state(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        one, two = await asyncio.gather(w.stream(stream="stream-one"), w.stream(stream="stream-two"))
        for n in range(1, 51):
            w.accept(one, n, A)
            w.accept(two, n, A)
        await w.pipeline.settle()
        assert (await w.summary("tally"))["seen"] == 100


async def test_streams_of_one_student_are_bounded(tmp_path: Path) -> None:
    async with world(tmp_path, streams_per_student=2) as w:
        await w.stream(stream="stream-one")
        await w.stream(stream="stream-two")
        with pytest.raises(TooManyStreamsError):
            await w.stream(stream="stream-three")
        assert (await w.stream(stream="stream-one")).last == 0


async def test_a_row_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    kvs = MemoryKVS()
    await kvs.commit([Change(student_key("s-1"), 0, {"stream/" + STREAM: Encoded(b"[7,1700000000000]")})])
    async with world(tmp_path, kvs=kvs) as w:
        stream = await w.stream()
        assert (stream.applied, stream.durable_to, stream.last, stream.paused_to) == (7, 7, 7, 0)
        assert stream.clock.last == 1_700_000_000_000


class _SlowKVS(SharedKVS):
    """Counts reads, and answers each with a delay."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    async def read(self, keys: Any, prefix: str = "") -> Any:
        self.reads += 1
        await asyncio.sleep(0.004)
        return await super().read(keys, prefix)


async def test_the_rows_of_many_students_are_read_together_and_beside_the_commits(tmp_path: Path) -> None:
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


async def test_a_stream_is_opened_after_the_commit_of_its_own_student_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_began, commit_may_end = asyncio.Event(), asyncio.Event()

    class SlowCommits(SharedKVS):
        async def commit(self, changes: Iterable[Change]) -> list[str]:
            commit_began.set()
            await commit_may_end.wait()
            return await super().commit(changes)

    async with world(tmp_path, Tally(), kvs=SlowCommits(), commit_seconds=0.001) as w:
        busy = await w.stream("busy", "stream-busy-1")
        w.accept(busy, 1, event(1))
        await commit_began.wait()
        assert (await w.stream("free", "stream-free-1")).last == 0
        with monkeypatch.context() as patch:
            patch.setattr("appliance.pipeline.live_students.BUSY_SECONDS", 0.05)
            with pytest.raises(BackendError, match="does not keep up"):
                await w.stream("busy", "stream-busy-2")
        opening = asyncio.create_task(w.stream("busy", STREAM))
        await w.stream("free", "stream-free-2")
        assert not opening.done()
        commit_may_end.set()
        assert (await opening).student is busy.student
        await w.pipeline.settle()
        assert busy.durable_to == 1


async def test_a_change_of_state_that_is_not_possible_says_which_are(tmp_path: Path) -> None:
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


async def test_a_task_that_waits_for_a_number_goes_on_when_it_is_durable_or_gets_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault(once=True)
    async with world(tmp_path, Tally(), commit_seconds=3600) as w:
        stream = await w.stream()
        w.accept(stream, 1, event(1), event(2))
        waits = [asyncio.create_task(stream.durable(n)) for n in (1, 2, 3)]
        await asyncio.sleep(0)
        await w.pipeline.settle()
        await asyncio.gather(*waits[:2])
        assert not waits[2].done()
        await stream.durable(2)
        inject("decode", fault, monkeypatch)
        fault.active = True
        w.accept(stream, 3, event(3, mark=MARK))
        await w.pipeline.settle()
        with pytest.raises(StreamClosedError):
            await waits[2]


async def test_while_the_store_gets_its_data_back_no_stream_is_opened(tmp_path: Path) -> None:
    async with world(tmp_path, Tally(), kvs=SharedKVS()) as w:
        assert w.pipeline.shared
        w.pipeline.refilling = True
        assert w.pipeline.refilling
        with pytest.raises(BackendError, match="being refilled"):
            await w.stream()
        with pytest.raises(BackendError, match="being refilled"):
            await w.pipeline.check_whole()
        w.pipeline.refilling = False
        await w.pipeline.check_whole()
        assert (await w.stream()).last == 0


async def test_a_stream_that_the_store_has_lost_is_opened_once_gaps_are_accepted(tmp_path: Path) -> None:
    kvs = SharedKVS()
    async with world(tmp_path, Tally(), kvs=kvs, commit_seconds=3600) as w:
        lost: list[bool] = []
        w.pipeline.on_lost.add(lambda: lost.append(True))
        stream, other = await w.stream(), await w.stream(stream="another-stream")
        w.accept(stream, 1, event(1), event(2))
        w.accept(other, 1, event(1))
        await w.pipeline.settle()
        await kvs.remove([student_key("s-1")])
        w.accept(other, 2, event(2))
        with pytest.raises(BackendError, match="being refilled"):
            await w.stream()
        assert lost == [True]
        w.pipeline.accept_gaps = True
        assert w.pipeline.accept_gaps
        assert (await w.stream()).last == 0
        assert other.last == 2, "its events are queued, and the page does not send them again"
        await w.pipeline.settle()
        assert other.durable_to == 2


async def test_rows_are_read_again_after_the_store_has_lost_its_versions(tmp_path: Path) -> None:
    kvs = SharedKVS()
    async with world(tmp_path, Tally(), kvs=kvs, commit_seconds=3600) as w:
        stream = await w.stream()
        w.accept(stream, 1, event(1))
        await w.pipeline.settle()
        w.pipeline.forget_versions()
        w.accept(stream, 2, event(2))
        await w.pipeline.settle()
        assert w.counters["commit_conflicts"] == 1
        assert (await w.summary("tally"))["seen"] == 2


async def test_a_row_that_was_read_during_a_commit_of_this_node_is_read_again(tmp_path: Path) -> None:
    class Gated(SharedKVS):
        gate: asyncio.Event | None = None
        reads = 0

        async def read(self, keys: Any, prefix: str = "") -> Any:
            rows = await super().read(keys, prefix)
            self.reads += 1
            if self.gate:
                await self.gate.wait()
            return rows

    kvs = Gated()
    async with world(tmp_path, Tally(), kvs=kvs, commit_seconds=3600) as w:
        stream = await w.stream()
        kvs.gate, kvs.reads = asyncio.Event(), 0
        opening = asyncio.create_task(w.stream(stream="another-stream"))
        await until(lambda: kvs.reads, "the row is read")
        w.accept(stream, 1, event(1))
        await w.pipeline.settle()
        kvs.gate.set()
        await opening
        assert (kvs.reads, stream.applied, stream.student.version) == (2, 1, 1)


async def test_a_stream_is_closed_once_and_accepts_nothing_until_it_is_opened_again(tmp_path: Path) -> None:
    async with world(tmp_path, Tally(), buffer_bytes=1000, commit_seconds=3600) as w:
        stream = await w.stream()
        assert (w.pipeline.has_room(), w.pipeline.buffer_bytes) == (True, 1000)
        w.accept(stream, 1, event(1, text="x" * 1000))
        assert not w.pipeline.has_room()
        w.pipeline.close_stream(stream)
        w.pipeline.close_stream(stream)
        with pytest.raises(StreamClosedError, match="closed"):
            w.accept(stream, 2, event(2))
        await w.pipeline.settle()
        assert (stream.durable_to, w.pipeline.has_room()) == (1, True)
