"""Shared records: what the store has is in a journal too, also after a change that failed half-way."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from appliance.errors import BackendError
from appliance.kvs import Change
from appliance.kvs.memory import MemoryKVS
from appliance.kvs.records import SharedRecords

ROW = "row"


class Unsure(MemoryKVS):
    """A store whose answers to commits are lost for a while.

    Attributes:
        answers: whether they arrive.
        takes: whether commits are made all the same.
    """

    answers = True
    takes = True

    async def commit(self, changes: Iterable[Change]) -> list[str]:
        conflicts = await super().commit(changes) if self.answers or self.takes else []
        if not self.answers:
            raise BackendError("The key-value store did not answer.")
        return conflicts


class World:
    """A node's records, with a journal that can be broken."""

    def __init__(self, folder: Path) -> None:
        self.kvs = Unsure()
        self.folder = folder
        self.records = SharedRecords(self.kvs, folder / "shared.jsonl")

    async def add(self, field: str) -> None:
        """Add a record where there is none, as a class list does."""
        await self.records.update(ROW, lambda row: {} if field in row else {field: "there"}, first_wins=True)

    async def remove(self, field: str) -> None:
        await self.records.update(ROW, lambda row: {field: None} if field in row else {})

    def break_journal(self) -> None:
        (self.folder / "shared.jsonl").mkdir()

    def mend_journal(self) -> None:
        (self.folder / "shared.jsonl").rmdir()

    async def after_loss(self) -> set[str]:
        """The fields that a store gets back from the journal alone, by a node that starts again."""
        empty = MemoryKVS()
        await self.records.close()
        records = SharedRecords(empty, self.folder / "shared.jsonl")
        await records.put_back()
        [row] = await records.read(ROW)
        return set(row)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_what_the_journal_refused_is_written_when_it_is_found_in_the_store(world: World) -> None:
    world.break_journal()
    for _ in range(2):
        with pytest.raises(BackendError, match="cannot be written"):
            await world.add("one")
    world.mend_journal()
    await world.add("one")
    assert await world.after_loss() == {"one"}


@pytest.mark.parametrize("later", ["another change", "a regular attempt", "the end"])
async def test_what_the_journal_refused_is_written_later(world: World, later: str) -> None:
    world.break_journal()
    with pytest.raises(BackendError, match="cannot be written"):
        await world.add("one")
    await world.records.write_waiting()
    world.mend_journal()
    if later == "another change":
        await world.add("two")
    elif later == "a regular attempt":
        await world.records.write_waiting()
        assert (world.folder / "shared.jsonl").is_file()
    assert await world.after_loss() == ({"one", "two"} if later == "another change" else {"one"})


async def test_what_the_journal_refused_is_put_back_from_memory(world: World) -> None:
    world.break_journal()
    with pytest.raises(BackendError, match="cannot be written"):
        await world.add("one")
    await world.kvs.remove(await world.kvs.keys())
    assert await world.records.put_back() == 1
    assert await world.records.put_back() == 0


async def test_a_removal_that_the_journal_refused_is_no_addition_after_a_loss(world: World) -> None:
    await world.add("one")
    content = (world.folder / "shared.jsonl").read_bytes()
    (world.folder / "shared.jsonl").unlink()
    world.break_journal()
    with pytest.raises(BackendError, match="cannot be written"):
        await world.remove("one")
    world.mend_journal()
    (world.folder / "shared.jsonl").write_bytes(content)
    await world.remove("one")
    assert await world.after_loss() == set()


async def test_a_later_change_of_the_same_record_counts(world: World) -> None:
    world.break_journal()
    with pytest.raises(BackendError, match="cannot be written"):
        await world.add("one")
    world.mend_journal()
    await world.remove("one")
    await world.records.write_waiting()
    assert await world.after_loss() == set()


@pytest.mark.parametrize("takes", [False, True])
@pytest.mark.parametrize("again", [False, True])
async def test_a_commit_whose_outcome_is_unknown_is_in_the_journal_if_it_was_made(
    world: World, takes: bool, again: bool
) -> None:
    await world.add("before")
    world.kvs.answers, world.kvs.takes = False, takes
    with pytest.raises(BackendError, match="did not answer"):
        await world.add("one")
    world.kvs.answers = True
    if again:
        await world.add("one")
    else:
        await world.records.write_waiting()
    assert await world.after_loss() == ({"before", "one"} if takes or again else {"before"})


async def test_a_commit_that_another_one_overtook_is_forgotten(world: World) -> None:
    world.kvs.answers, world.kvs.takes = False, False
    with pytest.raises(BackendError, match="did not answer"):
        await world.add("one")
    world.kvs.answers = True
    other = SharedRecords(world.kvs, world.folder / "other.jsonl")
    await other.update(ROW, lambda row: {"two": "there"})
    await world.records.write_waiting()
    await world.add("three")
    assert await world.after_loss() == {"three"}
