"""A fault that concerns one student: whatever step of the commit fails, all others are served."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.archive import Record
from appliance.errors import ArchiveError
from appliance.health import worst
from appliance.kvs.memory import MemoryKVS
from appliance.pipeline import StreamClosedError
from appliance.recovery.start import Recovery
from appliance.states import Stream, StreamState, student_key
from tests.pipeline.faults import FUNCTIONS, MARK, STEPS, Brittle, Fault, inject, replayed
from tests.pipeline.world import SharedKVS, Tally, World, event, until, world


@pytest.mark.parametrize("shared", [False, True], ids=["memory", "shared"])
@pytest.mark.parametrize("once", [True, False], ids=["once", "for ever"])
@pytest.mark.parametrize("step", [*STEPS, *FUNCTIONS])
async def test_a_step_that_fails_for_one_student_delays_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, once: bool, shared: bool
) -> None:
    fault = Fault(once)
    Brittle.fault, Brittle.function = fault, ""
    kvs = SharedKVS() if shared else MemoryKVS()
    async with world(tmp_path, Brittle(), Tally(), kvs=kvs, commit_seconds=0.001) as w:
        bad, good = await w.stream("bad", "stream-of-bad"), await w.stream("good", "stream-of-good")
        w.accept(bad, 1, event(1))
        w.accept(good, 1, event(1))
        await w.pipeline.settle()

        quarantined: list[str] = []
        w.pipeline.on_quarantined.add(lambda stream, reason: quarantined.append(stream.id))
        with monkeypatch.context() as patch:
            inject(step.removesuffix("_state"), fault, patch)
            fault.active = True
            await _others_go_on(w, bad, good)
            await _read_all(w, load=step == "decode_state")
            assert quarantined in ([], ["stream-of-bad"])
            await _fault_is_reported(w, step, once)
            fault.active = False
        Brittle.function = ""

        if quarantined:
            bad = await _reopened(w, bad)
        w.accept(bad, bad.last + 1, event(4))
        await w.pipeline.settle()
        assert bad.durable_to == bad.last == 4
        assert good.durable_to == 4
        rejected = [("stream-of-bad", 2), ("stream-of-bad", 3)] if quarantined else []
        _archive_is_whole(w, rejected)
        await _replay_is_equal(w)
        assert (await w.summary("tally", "good"))["seen"] == 4
        assert (await w.summary("brittle", "good"))["seen"] == 4
        assert (await w.summary("tally", "bad"))["seen"] == 4 - len(rejected)


async def _others_go_on(w: World, bad: Stream, good: Stream) -> None:
    w.accept(bad, 2, event(2, mark=MARK), event(3))
    w.accept(good, 2, event(2), event(3))
    await until(lambda: good.durable_to == 3, "the others are acknowledged")
    w.accept(good, 4, event(4))
    await until(lambda: good.durable_to == 4, "the others are acknowledged while the fault goes on")


async def _read_all(w: World, *, load: bool) -> None:
    """Read all rows as a dashboard, another node or a snapshot does: some values are made when they are read."""
    for student in ("bad", "good"):
        [row] = await w.kvs.read([student_key(student)])
        if load and student == "bad":
            w.pipeline.students()["bad"].load(row)


async def _fault_is_reported(w: World, step: str, once: bool) -> None:
    if step == "reduce_all" or (once and step in ("reduce", "publish")):
        # The reducer gets the same events once more, one by one; a message on the pubsub is only a hint.
        return
    if step == "publish":
        await until(lambda: w.counters["publish_failures"], "it is counted")
        return
    await until(w.health.findings, "the fault is a finding")
    assert worst(w.health.findings()) == "error"
    assert MARK not in "".join(found.text for found in w.health.findings())


async def _reopened(w: World, stream: Stream) -> Stream:
    assert stream.state is StreamState.QUARANTINED
    with pytest.raises(StreamClosedError):
        w.accept(stream, stream.last + 1, event(4))
    assert w.pipeline.paused_to(stream) == 3, "the page must send its full text again"
    return await w.stream(stream.student.id, stream.id)


def _archive_is_whole(w: World, rejected: list[tuple[str, int]]) -> None:
    lines = [line for line in w.lines() if isinstance(line, Record)]
    for stream in ("stream-of-bad", "stream-of-good"):
        numbers = [line.seq for line in lines if line.stream == stream]
        assert numbers == [1, 2, 3, 4], "each acknowledged number is archived, and once"
    assert [(line.stream, line.seq) for line in lines if line.rejected] == rejected
    for line in lines:
        if line.rejected:
            assert json.loads(line.text or "")["event"] == "e"


async def _replay_is_equal(w: World) -> None:
    """Live states are equal to replayed ones, except those of a reducer that failed."""
    again = replayed(w)
    for student in ("bad", "good"):
        tally = (await w.summary("tally", student))["seen"]
        assert json.loads(again[student].row().fields["summary/tally"])["seen"] == tally


async def test_the_events_of_a_postponed_student_are_committed_once_the_fault_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault(once=False)
    Brittle.fault, Brittle.function = fault, ""
    async with world(tmp_path, Tally(), commit_seconds=0.001) as w:
        bad, good = await w.stream("bad", "stream-of-bad"), await w.stream("good", "stream-of-good")
        inject("store", fault, monkeypatch)
        fault.active = True
        for n in range(1, 6):
            w.accept(bad, n, event(n))
            w.accept(good, n, event(n))
            await until(lambda n=n: good.durable_to == n, "the others are acknowledged")  # type: ignore[misc]
        assert bad.durable_to == 0
        assert w.codes() == ["commit.error", "student.waiting"]
        assert "bad" not in "".join(found.text for found in w.health.findings())
        fault.active = False
        await w.pipeline.settle()
        assert bad.durable_to == 5
        assert w.codes() == ["commit.error"]
        assert (await w.summary("tally", "bad"))["seen"] == 5


async def test_where_nobody_is_committed_that_is_a_finding_of_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, Tally(), commit_seconds=0.001) as w:
        one, two = await w.stream("one", "stream-one"), await w.stream("two", "stream-two")

        async def broken(self: object, changes: object) -> list[str]:
            raise RuntimeError("an unexpected error")

        monkeypatch.setattr(MemoryKVS, "commit", broken)
        w.accept(one, 1, event(1))
        w.accept(two, 1, event(1))
        await until(lambda: "commit.failing" in w.codes(), "it is a finding")
        monkeypatch.undo()
        await w.pipeline.settle()
        assert (one.durable_to, two.durable_to) == (1, 1)
        assert w.codes() == ["commit.error"]


async def test_a_gap_in_memory_is_its_own_finding_and_closes_one_stream(tmp_path: Path) -> None:
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


async def test_a_student_who_sends_much_delays_nobody_else(tmp_path: Path) -> None:
    async with world(tmp_path, Tally(), commit_seconds=3600, commit_events=100) as w:
        busy = [await w.stream("busy", f"stream-of-busy-{n}") for n in range(10)]
        quiet = [await w.stream(f"quiet-{n}", f"stream-quiet-{n}") for n in range(5)]
        for stream in busy:
            for n in range(1, 201):
                w.accept(stream, n, event(n, text="x" * 2000))
        for stream in quiet:
            w.accept(stream, 1, event(1))
        order: list[str] = []
        w.pipeline.on_durable.add(lambda streams: order.extend(stream.student.id for stream in streams))
        commits: list[int] = []
        w.pipeline.on_durable.add(lambda streams: commits.append(len(streams)))
        await w.pipeline.settle()
        assert all(stream.durable_to == 200 for stream in busy)
        first = order.index("quiet-4")
        assert order[:first].count("busy") <= 10, "everybody had a turn before the busy one had two"
        assert w.pipeline.waiting_bytes == 0


async def test_no_snapshot_is_written_while_a_student_is_postponed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault(once=False)
    kvs = MemoryKVS()
    async with world(tmp_path, Tally(), kvs=kvs, commit_seconds=0.001) as w:
        recovery = Recovery(tmp_path, kvs, w.pipeline, w.archive, w.counters)
        bad = await w.stream("bad", "stream-of-bad")
        inject("store", fault, monkeypatch)
        fault.active = True
        w.accept(bad, 1, event(1))
        await until(w.pipeline.has_unstored, "the student is postponed")
        with pytest.raises(ArchiveError):
            await recovery.save()
        fault.active = False
        await w.pipeline.settle()
        assert await recovery.save()
