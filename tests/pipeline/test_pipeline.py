"""What the pipeline promises: durable before acknowledged, each number once, failing reducers harm nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.archive import BEGINNING, Damage, Record, read
from appliance.cluster.archive_upload import ArchiveUpload
from appliance.counters import Counters
from appliance.errors import ArchiveError, BackendError
from appliance.events import EventLimits
from appliance.kvs import Change, Encoded
from appliance.kvs.memory import MemoryKVS
from appliance.pipeline import GapError, TooManyStreamsError, class_topic
from appliance.pipeline.turns import QUANTUM
from appliance.pubsub.memory import MemoryPubSub
from appliance.reducer import Event, Reducer
from appliance.states import Fold, StateLimits, Stream, standing_of, student_key
from tests.pipeline.world import CLASS, STREAM, Fragile, Tally, TallyState, World, world

A = {"event": "a", "document": "d1"}


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


async def test_of_very_much_a_commit_takes_a_part_and_the_next_goes_on_at_once(tmp_path: Path) -> None:
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


async def test_settling_waits_for_all_that_was_taken(tmp_path: Path) -> None:
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


async def test_a_gap_takes_nothing_and_tells_what_is_missing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        stream = await w.stream()
        w.accept(stream, 1, A)
        with pytest.raises(GapError) as gap:
            w.accept(stream, 3, A)
        assert gap.value.expected == 2
        await w.pipeline.settle()
        assert stream.durable_to == 1


async def test_the_archive_keeps_the_text_as_it_came_in_one_line(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        stream = await w.stream()
        w.accept(stream, 1, b'{ "event":"a",\n "n": 1.50, "s":"\\n" }', received=1_700_000_000_123)
        await w.pipeline.settle()
        [line] = w.lines()
        assert bytes(line.event) == b'{ "event":"a",  "n": 1.50, "s":"\\n" }'
        assert (line.received, line.student_id, line.class_id, line.stream) == (1700000000.123, "s-1", CLASS, stream.id)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"3", "not_an_object"),
        (b"[]", "not_an_object"),
        (b"{}", "no_event_name"),
        (b'{"event":3}', "no_event_name"),
        (b'{"event":""}', "no_event_name"),
        (b'{"event":"%s"}' % (b"n" * 201), "no_event_name"),
        (b'{"event":"a","x":%s}' % (b'"' + b"x" * 2000 + b'"'), "too_large"),
        (b'{"event":"a","x":' + b"[" * 70 + b"]" * 70 + b"}", "too_deep"),
        (b'{"event":"a","x":' + b"[" * 900 + b"]" * 900 + b"}", "too_deep"),
        (b'{"event":"a","x":' + b"[" * 30000 + b"]" * 30000 + b"}", "too_deep"),
        (b'{"event":"a","x":1e400}', "bad_number"),
        (b'{"event":"a","x":-1e400}', "bad_number"),
        (b'{"event":"a","x":%s}' % (b"9" * 5000), "bad_number"),
    ],
)
async def test_a_bad_event_is_archived_as_rejected_and_its_neighbours_count(
    tmp_path: Path, text: bytes, code: str
) -> None:
    size = 1000 if code == "too_large" else 1 << 20
    async with world(tmp_path, limits=EventLimits(bytes=size)) as w:
        stream = await w.stream()
        rejected: list[Any] = []
        w.pipeline.on_rejected.add(lambda stream, some: rejected.extend(some))
        w.accept(stream, 1, A, text, A)
        await w.pipeline.settle()
        assert [(seq, why.code) for seq, why in rejected] == [(2, code)]
        await w.pipeline.settle()
        assert stream.durable_to == 3
        assert (await w.summary("tally"))["seen"] == 2
        line = w.lines()[1]
        assert (line.seq, bytes(line.event), line.rejected.code, line.text) == (2, b"", code, text.decode())


async def test_a_large_frame_is_taken_in_parts_and_its_work_is_reported(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        worked: list[tuple[str, float]] = []
        w.pipeline.on_worked.add(lambda student_id, seconds: worked.append((student_id, seconds)))
        stream = await w.stream()
        texts = [b'{"event":"a","x":"%b"}' % (b"x" * size) for size in [1] * 900 + [QUANTUM, 2 * QUANTUM, 1, QUANTUM]]
        w.accept(stream, 1, *texts)
        assert len(stream.waiting) > 4
        assert all(part.size <= QUANTUM or len(part.texts) == 1 for part in stream.waiting)
        assert [text for part in stream.waiting for text in part.texts] == texts
        assert stream.last == stream.waiting[-1].last == len(texts)
        await w.pipeline.settle()
        assert [line.seq for line in w.lines()] == list(range(1, len(texts) + 1))
        assert [bytes(line.event) for line in w.lines()] == texts
        assert stream.durable_to == len(texts)
        assert worked
        assert all(student_id == stream.student.id and seconds > 0 for student_id, seconds in worked)


async def test_an_event_that_is_not_utf8_is_rejected_and_the_archive_stays_utf8(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.accept(await w.stream(), 1, A, b'{"event":"a","x":"\xff"}', A)
        await w.pipeline.settle()
        assert (await w.summary("tally"))["seen"] == 2
        line = w.lines()[1]
        assert (line.rejected.code, line.text) == ("not_json", '{"event":"a","x":"\ufffd"}')


@pytest.mark.parametrize(
    "text",
    [
        rb'{"event":"a","x":"\ud83d"}',
        rb'{"event":"a","x":"\u0000"}',
        b'{"event":"a","x":12345678901234567890123456789012345678901234567890}',
        b'{"event":"b","event":"a"}',
        '{"event":"a","x":"\u202e\U0001f600\u0301"}'.encode(),
        b'{"event":"a","x":' + b"[" * 60 + b"]" * 60 + b"}",
    ],
)
async def test_what_is_odd_but_json_is_taken_and_replays_alike(tmp_path: Path, text: bytes) -> None:
    async with world(tmp_path) as w:
        w.pipeline.on_rejected.add(lambda stream, some: pytest.fail(f"{some}"))
        w.accept(await w.stream(), 1, text)
        await w.pipeline.settle()
        lived = await w.summary("tally")
        assert lived["last"] == "a"
    async with world(tmp_path) as w:
        restored = w.pipeline.restore(read([w.folder]), w.kvs.row)
        await w.pipeline.settle()
        assert (restored.events, restored.damaged) == (1, [])
        assert await w.summary("tally") == lived


async def test_half_a_surrogate_pair_in_a_documents_name_becomes_a_replacement_character(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        stream = await w.stream()
        half = [{"event": f"edit{end}", "document": f"Story {end}"} for end in ("\ud83d", "\ude00", "\ufffd", "\ud83d")]
        w.accept(stream, 1, *half)
        w.accept(stream, 5, {"event": "edit", "doc_id": "Story \ud83d"})
        await w.pipeline.settle()
        [row] = await w.kvs.read([student_key("s-1")])
        found = [field for field in row.fields if field.startswith("state/tally/document/")]
        assert found == ["state/tally/document/Story \ufffd"]
        assert (await w.summary("tally"))["seen"] == 5
        assert all(field.encode() for field in row.fields)
        assert [json.loads(bytes(line.event)) for line in w.lines()][:4] == half


async def test_a_failing_reducer_keeps_its_state_and_the_others_go_on(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.accept(await w.stream(), 1, A, {"event": "boom"}, {"event": "odd"}, {"event": "wrong"}, A)
        await w.pipeline.settle()
        assert (await w.summary("fragile"))["seen"] == 2
        assert (await w.summary("tally"))["seen"] == 5
        assert w.counters["reducer_failures{fragile}"] == 2
        assert w.counters["unusable_events{fragile}"] == 1


async def test_what_is_told_of_a_failure_holds_nothing_of_the_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path) as w:
        w.accept(await w.stream(), 1, {"event": "boom", "essay": "private words"})
        await w.pipeline.settle()
        told = w.fold.failures["fragile"] + caplog.text
        assert "ValueError" in told
        assert "private" not in told
        assert "secret" not in told


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
    assert standing_of(row.fields["stream/" + STREAM]).paused_to == 3
    assert len(json.loads(row.fields["stream/another-stream"])) == 2, "rows are as before where there was no pause"


async def test_a_rejected_event_of_a_paused_time_is_only_rejected(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        stream = await w.stream()
        w.pipeline.paused.add(CLASS)
        w.accept(stream, 1, A, "no object")
        await w.pipeline.settle()
        assert (stream.durable_to, stream.paused_to) == (2, 1)
        assert [line.paused for line in w.lines()] == [True, False]


async def test_a_row_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    kvs = MemoryKVS()
    await kvs.commit([Change(student_key("s-1"), 0, {"stream/" + STREAM: Encoded(b"[7,1700000000000]")})])
    async with world(tmp_path, kvs=kvs) as w:
        stream = await w.stream()
        assert (stream.applied, stream.durable_to, stream.last, stream.paused_to) == (7, 7, 7, 0)
        assert stream.clock.last == 1_700_000_000_000


async def test_a_state_belongs_to_its_scope(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        events = [A, {"event": "a", "document": "d2"}, {"event": "b"}, {"event": "a", "document": 7}, A]
        w.accept(await w.stream(), 1, *events)
        await w.pipeline.settle()
        [row] = await w.kvs.read(["student/s-1"])
        details = w.fold.details(row)
        assert json.loads(bytes(details.summaries["tally"]))["seen"] == 5
        documents = details.scopes["documents"]
        assert {d: json.loads(bytes(r["tally"]))["seen"] for d, r in documents.items()} == {"d1": 2, "d2": 1}


async def test_documents_of_one_student_are_bounded_and_the_bound_is_counted(tmp_path: Path) -> None:
    async with world(tmp_path, values=3) as w:
        stream = await w.stream()
        w.accept(stream, 1, *({"event": "a", "document": f"d{n}"} for n in range(5)))
        w.accept(stream, 6, {"event": "a", "document": "d" * 101})
        await w.pipeline.settle()
        [row] = await w.kvs.read(["student/s-1"])
        assert len(w.fold.details(row).scopes["documents"]) == 3
        assert w.counters["limit_scope_values"] == 2
        assert w.counters["limit_scope_characters"] == 1
        assert (await w.summary("tally"))["seen"] == 6


async def test_offline_work_counts_at_the_time_it_was_done(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        stream = await w.stream()
        stream.clock.offset = 5_000
        received = 1_700_003_600_000
        events = [{"event": "a", "t": 1_700_000_000_000 + n * 60_000} for n in range(3)]
        w.accept(stream, 1, *events, received=received)
        await w.pipeline.settle()
        assert [line.at for line in w.lines()] == [1700000005.0, 1700000065.0, 1700000125.0]


@pytest.mark.parametrize("t", [1_800_000_000_000, 1e300, 10**40, "soon", None, True, -5, [], {}])
async def test_no_time_is_later_than_receipt_or_earlier_than_before(tmp_path: Path, t: object) -> None:
    async with world(tmp_path) as w:
        stream = await w.stream()
        w.accept(stream, 1, {"event": "a", "t": 1_700_000_000_000 - 1000}, {"event": "a", "t": t})
        await w.pipeline.settle()
        first, second = (line.at for line in w.lines())
        assert first == 1699999999.0
        assert first <= second <= 1700000000.0


async def test_consumers_hear_once_a_commit_which_students_changed(tmp_path: Path) -> None:
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


async def test_another_pipeline_on_the_same_store_goes_on_where_this_one_ended(tmp_path: Path) -> None:
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


class _SharedKVS(MemoryKVS):
    """One store for two pipelines of this process, as a server is for two nodes."""

    shared = True


class _Order(Reducer[TallyState]):
    """Remembers the names of all events in the order in which they were reduced."""

    name = "order"
    State = TallyState

    def reduce(self, state: TallyState, event: Event) -> TallyState:
        return TallyState(state.seen + 1, f"{state.last}{event.name}", event.at)

    def summarize(self, state: TallyState) -> dict[str, Any]:
        return {"seen": state.seen, "last": state.last}


async def test_two_nodes_with_a_tab_each_of_one_student_lose_nothing(tmp_path: Path) -> None:
    kvs = _SharedKVS()
    async with (
        world(tmp_path / "one", _Order(), kvs=kvs, commit_seconds=0.001) as one,
        world(tmp_path / "two", _Order(), kvs=kvs, commit_seconds=0.001) as two,
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
    kvs = _SharedKVS()
    async with (
        world(tmp_path / "one", _Order(), kvs=kvs) as one,
        world(tmp_path / "two", _Order(), kvs=kvs) as two,
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


async def test_what_two_nodes_got_of_one_stream_counts_once(tmp_path: Path) -> None:
    kvs = _SharedKVS()
    async with (
        world(tmp_path / "one", _Order(), kvs=kvs, commit_seconds=3600) as one,
        world(tmp_path / "two", _Order(), kvs=kvs, commit_seconds=3600) as two,
    ):
        here, there = await one.stream(), await two.stream()
        # A connection was lost before the first node could commit, and the browser sent all again to the second.
        one.accept(here, 1, {"event": "a"}, {"event": "b"})
        two.accept(there, 1, {"event": "a"}, {"event": "b"}, {"event": "c"})
        await two.pipeline.settle()
        one.accept(here, 3, {"event": "c"})
        await one.pipeline.settle()
        assert (here.durable_to, here.last) == (3, 3)
        assert (await one.summary("order"))["last"] == "abc"


async def test_a_conflict_leaves_how_far_a_stream_was_paused(tmp_path: Path) -> None:
    kvs = _SharedKVS()
    async with (
        world(tmp_path / "one", _Order(), kvs=kvs, commit_seconds=3600) as one,
        world(tmp_path / "two", _Order(), kvs=kvs, commit_seconds=3600) as two,
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
async def test_who_applied_an_event_first_says_whether_it_was_paused(
    tmp_path: Path, paused_here: bool, expected: int
) -> None:
    kvs = _SharedKVS()
    async with (
        world(tmp_path / "one", _Order(), kvs=kvs, commit_seconds=3600) as one,
        world(tmp_path / "two", _Order(), kvs=kvs, commit_seconds=3600) as two,
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


class _BrokenSharedKVS(_SharedKVS):
    broken = True

    async def commit(self, changes: Iterable[Change]) -> list[str]:
        if self.broken:
            raise BackendError("The store is away.")
        return await super().commit(changes)


async def test_how_far_a_stream_was_paused_is_known_while_a_commit_does_not_get_through(tmp_path: Path) -> None:
    kvs = _BrokenSharedKVS()
    w = World(tmp_path, kvs, MemoryPubSub(Counters(), 10), [_Order()])
    stream = await w.stream()
    w.pipeline.paused.add(CLASS)
    w.accept(stream, 1, {"event": "a"})
    w.pipeline.paused.clear()
    with pytest.raises(BackendError):
        await w.pipeline.close()
    assert (stream.durable_to, w.pipeline.paused_to(stream)) == (0, 1)
    # Another node changes the row, which does not know of the pause and is read anew.
    kvs.broken = False
    await kvs.commit([Change(student_key("s-1"), 0, {"stream/elsewhere": Encoded(b"[1,1]")})])
    await w.pipeline.close()
    assert (stream.durable_to, stream.paused_to, w.pipeline.paused_to(stream)) == (1, 1, 1)
    await w.archive.close()
    await w.pubsub.close()


async def test_a_store_that_lost_its_memory_gets_the_pause_from_the_archive(tmp_path: Path) -> None:
    kvs = _SharedKVS()
    async with world(tmp_path, _Order()) as w:
        stream = await w.stream()
        w.accept(stream, 1, {"event": "a"})
        w.pipeline.paused.add(CLASS)
        w.accept(stream, 2, {"event": "b"})
        w.pipeline.paused.clear()
        w.accept(stream, 3, {"event": "c"})
        await w.pipeline.settle()
        fold = lambda: Fold([_Order()], Counters(), StateLimits(50, 100))  # noqa: E731
        await ArchiveUpload(w.archive, BEGINNING, kvs, w.pubsub, fold, w.counters, {}).run(0.0)
        [lived] = await w.kvs.read([student_key("s-1")])
        [refilled] = await kvs.read([student_key("s-1")])
    assert standing_of(refilled.fields["stream/" + STREAM]).paused_to == 2
    assert refilled.fields == lived.fields


async def test_what_another_node_applied_while_it_waited_here_counts_once(tmp_path: Path) -> None:
    kvs = _SharedKVS()
    async with (
        world(tmp_path / "one", _Order(), kvs=kvs, commit_seconds=3600) as one,
        world(tmp_path / "two", _Order(), kvs=kvs, commit_seconds=3600) as two,
    ):
        here, there = await one.stream(), await two.stream()
        one.accept(here, 1, {"event": "a"}, {"event": "b"})
        two.accept(there, 1, {"event": "a"}, {"event": "b"})
        await two.pipeline.settle()
        # Another tab opens, and this node reads the student's row anew.
        await one.stream(stream="another-stream")
        told: list[Stream] = []
        one.pipeline.on_durable.add(told.extend)
        await one.pipeline.settle()
        assert (told, here.applied, here.durable_to) == ([here], 2, 2)
        one.accept(here, 3, {"event": "c"})
        await one.pipeline.settle()
        assert (await one.summary("order"))["last"] == "abc"


class _ForgetfulKVS(_SharedKVS):
    """Commits, and then loses the connection before it can say so."""

    lost = 1

    async def commit(self, changes: Iterable[Change]) -> list[str]:
        conflicts = await super().commit(changes)
        if self.lost:
            self.lost -= 1
            raise BackendError("The connection was lost.")
        return conflicts


async def test_a_commit_that_went_through_unheard_is_not_done_twice(tmp_path: Path) -> None:
    async with world(tmp_path, _Order(), kvs=_ForgetfulKVS()) as w:
        stream = await w.stream()
        w.accept(stream, 1, {"event": "a"}, {"event": "b"})
        await w.pipeline.settle()
        assert stream.durable_to == 2
        w.accept(stream, 3, {"event": "c"})
        await w.pipeline.settle()
        assert (await w.summary("order"))["last"] == "abc"


async def test_a_store_that_lost_its_memory_stops_acknowledgements(tmp_path: Path) -> None:
    kvs = _SharedKVS()
    async with world(tmp_path, _Order(), kvs=kvs) as w:
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


async def test_a_commit_that_fails_unforeseen_is_done_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, _Order(), commit_seconds=3600) as w:
        stream = await w.stream()
        w.accept(stream, 1, {"event": "a"})

        async def broken(changes: Iterable[Change]) -> list[str]:
            raise RuntimeError("nobody foresaw this")

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


async def test_states_of_another_version_of_a_reducer_are_left_alone(tmp_path: Path) -> None:
    class Later(Tally):
        version = 2

    kvs = MemoryKVS()
    async with world(tmp_path, kvs=kvs) as w:
        w.accept(await w.stream(), 1, A, A)
    async with world(tmp_path, Later(), kvs=kvs) as w:
        w.accept(await w.stream(), 3, A)
        await w.pipeline.settle()
        assert (await w.summary("tally"))["seen"] == 1


async def test_replay_gives_the_states_that_were_lived_through(tmp_path: Path) -> None:
    async with world(tmp_path, segment_bytes=300) as w:
        one, two = await w.stream("s-1"), await w.stream("s-2", "another-stream")
        for n in range(1, 9):
            w.accept(one, n, A if n % 3 else {"event": "boom"}, received=1_700_000_000_000 + n * 7_000)
            w.accept(two, n, b"[]" if n == 4 else json.dumps(A).encode(), received=1_700_000_000_000 + n * 9_000)
            await w.pipeline.settle()
        lived = [row.fields for row in await w.kvs.read(["student/s-1", "student/s-2"])]
        assert len(list(w.folder.iterdir())) > 3
    async with world(tmp_path) as w:
        restored = w.pipeline.restore(read([w.folder, w.folder]), w.kvs.row)
        await w.pipeline.settle()
        assert restored.events == 16
        assert [row.fields for row in await w.kvs.read(["student/s-1", "student/s-2"])] == lived
        assert w.accept(await w.stream(), 8, A) == 0


class _BrokenKVS(MemoryKVS):
    broken = True

    async def commit(self, changes):  # type: ignore[no-untyped-def]
        if self.broken:
            raise BackendError("The store is away.")
        return await super().commit(changes)


async def test_while_the_store_is_away_nothing_is_acknowledged_and_then_all_is(tmp_path: Path) -> None:
    kvs = _BrokenKVS()
    async with world(tmp_path, kvs=kvs) as w:
        stream = await w.stream()
        done = asyncio.Event()
        w.pipeline.on_durable.add(lambda streams: done.set())
        w.accept(stream, 1, A)
        async with asyncio.timeout(10):
            while w.failing() is None:
                await asyncio.sleep(0)
        assert w.failing() == "The store is away."
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


async def test_an_archive_that_cannot_be_written_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("in the way")
    with pytest.raises(ArchiveError, match="cannot be written"):
        async with world(tmp_path, Fragile()):
            pass


async def test_damaged_lines_are_left_out_and_told_with_their_place(tmp_path: Path) -> None:
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


async def test_frames_beyond_what_another_node_took_are_taken_whole(tmp_path: Path) -> None:
    """Of several frames that wait, those after the one that another node took in part lose nothing."""
    kvs = _SharedKVS()
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


async def test_events_keep_their_numbers_when_the_store_forgot_those_before(tmp_path: Path) -> None:
    kvs = _SharedKVS()
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
