"""Events: which are rejected, what is archived of them, and the time that they get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.archive import read
from appliance.events import EventLimits
from appliance.states import student_key
from tests.pipeline.world import A, Tally, world


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
async def test_unusual_json_is_accepted_and_gives_the_same_states_by_replay(tmp_path: Path, text: bytes) -> None:
    async with world(tmp_path) as w:
        w.pipeline.on_rejected.add(lambda stream, some: pytest.fail(f"{some}"))
        w.accept(await w.stream(), 1, text)
        await w.pipeline.settle()
        live = await w.summary("tally")
        assert live["last"] == "a"
    async with world(tmp_path) as w:
        restored = w.pipeline.restore(read([w.folder]), w.kvs.row)
        await w.pipeline.settle()
        assert (restored.events, restored.damaged) == (1, [])
        assert await w.summary("tally") == live


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


@pytest.mark.parametrize("hostile", ["now", "t", "offset"])
async def test_impossible_times_count_as_the_time_of_receipt(tmp_path: Path, hostile: str) -> None:
    async with world(tmp_path, Tally()) as w:
        stream = await w.stream()
        stream.clock.synchronize(1_700_000_000_000, 1.797e308 if hostile == "now" else 1_700_000_000_000.0)
        times = [-1e308, 1e308, -(10**400), 10**400, 2.0**60, True, "x", None] if hostile == "t" else [-1e308, 5]
        for n, t in enumerate(times, 1):
            text = json.dumps({"event": "a", "t": t}).encode()
            w.accept(stream, n, text)
        await w.pipeline.settle()
        assert stream.durable_to == len(times)
        assert w.codes() == []
        for line in w.lines():
            assert 0 <= line.at <= line.received
