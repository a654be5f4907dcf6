"""States in parts in a shared store: nodes that take turns, stores that fail, stores that lose their data."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from appliance.archive import BEGINNING
from appliance.cluster.archive_upload import ArchiveUpload
from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.kvs import Change
from appliance.reducer import Reducer
from appliance.states import Fold, StateLimits, student_key, whole_row
from reducers.writing import WritingReducer
from tests.in_parts import Log, Words
from tests.pipeline.faults import replayed
from tests.pipeline.world import SharedKVS, Tally, World, world

NOW = 1_700_000_000_000


def reducers() -> list[Reducer[Any]]:
    return [Tally(), Log(), Words(), WritingReducer()]


class Hand:
    """A student's page, which sends edits of one document and notes, and knows the text."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.text = ""
        self.time = NOW

    def events(self) -> list[dict[str, Any]]:
        """An edit and a note."""
        chance = self.chance
        offset = chance.choice([len(self.text), chance.randrange(len(self.text) + 1)])
        remove = chance.choice([0, 0, 3, 2_000])
        insert = chance.choice(["x", "some words ", "a line of a paste. " * 150])
        self.text = self.text[:offset] + insert + self.text[offset + remove :]
        self.time += 1000
        both = {"t": self.time, "document": "essay"}
        return [
            {"event": "edit", "offset": offset, "remove": remove, "insert": insert, **both},
            {"event": "note", "text": f"note {chance.randrange(30)}", **both},
        ]


async def check(w: World, kvs: SharedKVS, text: str) -> dict[str, bytes]:
    """The row has the text, and parts; returns it with whole states."""
    [row] = await kvs.read([student_key("s-1")])
    fields = whole_row(w.fold, row).fields
    assert not [name for name in fields if name.startswith(("part/", "broken/"))]
    state = WritingReducer().decode(fields["state/writing/document/essay"])
    assert WritingReducer().detail(state)["text"] == text
    assert [name for name in row.fields if name.startswith("part/writing")] or len(text) <= 1024
    return fields


async def test_two_nodes_that_write_in_turn(tmp_path: Path) -> None:
    kvs = SharedKVS()
    hand = Hand(1)
    async with (
        world(tmp_path / "one", *reducers(), kvs=kvs, commit_seconds=3600) as one,
        world(tmp_path / "two", *reducers(), kvs=kvs, commit_seconds=3600) as two,
    ):
        nodes = [(one, await one.stream(stream="stream-one")), (two, await two.stream(stream="stream-two"))]
        sent = [0, 0]
        for number in range(60):
            node = number % 2 if number < 40 else hand.chance.randrange(2)
            w, stream = nodes[node]
            w.accept(stream, sent[node] + 1, *hand.events(), received=hand.time)
            sent[node] += 2
            await w.pipeline.settle()
            fields = await check(w, kvs, hand.text)
        assert one.counters["commit_conflicts"] + two.counters["commit_conflicts"] > 40
        assert Log().decode(fields["state/log/document/essay"]).entries == 60


class _UnreliableKVS(SharedKVS):
    """Fails now and then, before or after it has made the changes."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self.chance = random.Random(5)
        self.error = error
        self.failures = 0

    async def commit(self, changes: Iterable[Change]) -> list[str]:
        way = self.chance.randrange(4)
        if way == 0:
            self.failures += 1
            raise self.error("It failed before.")
        conflicts = await super().commit(changes)
        if way == 1:
            self.failures += 1
            raise self.error("It failed after.")
        return conflicts


@pytest.mark.parametrize("error", [BackendError, RuntimeError])
async def test_a_store_whose_commits_fail_before_or_after_their_effect(
    tmp_path: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.tasks.random.uniform", lambda low, high: 0.001)
    kvs = _UnreliableKVS(error)
    hand = Hand(2)
    async with world(tmp_path, *reducers(), kvs=kvs, commit_seconds=3600) as w:
        stream = await w.stream()
        for number in range(40):
            w.accept(stream, 2 * number + 1, *hand.events(), received=hand.time)
            while stream.durable_to < 2 * number + 2:
                await w.pipeline.settle()
            fields = await check(w, kvs, hand.text)
        assert kvs.failures > 10
        lived = {name: value for name, value in fields.items() if name.startswith("state/")}
        again = replayed(w)["s-1"].row().fields
        assert lived == {name: value for name, value in again.items() if name.startswith("state/")}


async def test_a_store_that_lost_its_data_gets_parts_from_the_archive(tmp_path: Path) -> None:
    kvs = SharedKVS()
    hand = Hand(3)
    async with world(tmp_path, *reducers(), kvs=kvs, commit_seconds=3600) as w:
        stream = await w.stream()
        for number in range(30):
            w.accept(stream, 2 * number + 1, *hand.events(), received=hand.time)
            await w.pipeline.settle()
        lived = await check(w, kvs, hand.text)
        await kvs.remove(await kvs.keys())
        w.pipeline.forget_versions()

        def fold() -> Fold:
            return Fold(reducers(), Counters(), StateLimits(50, 100))

        await ArchiveUpload(w.archive, BEGINNING, kvs, w.pubsub, fold, w.counters, {}).run(0.0)
        assert await check(w, kvs, hand.text) == lived
        # The live node reads the row, whose parts are cut in other places, and goes on.
        for number in range(30, 40):
            w.accept(stream, 2 * number + 1, *hand.events(), received=hand.time)
            await w.pipeline.settle()
            await check(w, kvs, hand.text)


async def test_after_a_restart_an_edit_writes_few_parts(tmp_path: Path) -> None:
    kvs = SharedKVS()
    hand = Hand(4)
    for start in range(4):
        async with world(tmp_path, *reducers(), kvs=kvs, commit_seconds=3600) as w:
            stream = await w.stream()
            if not start:
                hand.text = "words " * 8_000
                w.accept(stream, 1, {"event": "document", "document": "essay", "text": hand.text}, received=NOW)
                await w.pipeline.settle()
            at = len(hand.text) // (start + 2)
            hand.text = hand.text[:at] + "x" + hand.text[at:]
            edit = {"event": "edit", "document": "essay", "offset": at, "insert": "x"}
            w.accept(stream, stream.last + 1, edit, received=NOW)
            [before] = await kvs.read([student_key("s-1")])
            await w.pipeline.settle()
            [after] = await kvs.read([student_key("s-1")])
            changed = {name for name, value in after.fields.items() if before.fields.get(name) != value}
            assert len([name for name in changed if name.startswith("part/writing")]) == 1
            assert len(after.fields) > 40
            await check(w, kvs, hand.text)
