"""The shared roster: the contract, two nodes on one store, lists of several nodes, and a store that lost its data."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from appliance.counters import Counters
from appliance.datafolder.sealed import seal
from appliance.kvs import KVS, Change, Row, open_kvs
from appliance.kvs.memory import MemoryKVS
from appliance.kvs.records import SharedRecords
from appliance.roster import Joined, JoinError, Roster, RosterLimits
from appliance.roster.shared_store import SharedStore, index_key
from appliance.roster.tables import STUDENTS
from tests.contract.roster import LIMITS, Reopen, RosterContract, always_checked
from tests.services.servers import RedisServer

__all__ = ["always_checked"]


def opened(kvs: KVS, folder: Path, node: str = "a", limits: RosterLimits = LIMITS) -> Roster:
    folder.mkdir(exist_ok=True)
    store = SharedStore(kvs, SharedRecords(kvs, folder / "shared.jsonl"))
    return Roster(store, limits, Counters(), folder, node=node, ask_removed=1000)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def kvs() -> KVS:
    return MemoryKVS()


@pytest.fixture
def nodes(kvs: KVS, tmp_path: Path) -> tuple[Roster, Roster]:
    """Two nodes with one store."""
    return opened(kvs, tmp_path / "a", "a"), opened(kvs, tmp_path / "b", "b")


async def joined(roster: Roster, name: str = "Ada") -> Joined:
    [section, *_] = await roster.classes()
    return await roster.join(section.class_id, name=name)


async def is_in_class(roster: Roster, joined: Joined) -> bool:
    """Whether a student who joined is in the class still."""
    student = await roster.student_by_token(joined.token)
    return student is not None and student.present


async def names(roster: Roster) -> dict[str, list[str]]:
    return {
        section.class_id: [student.name for student in await roster.students(section.class_id)]
        for section in await roster.classes()
    }


class TestSharedRoster(RosterContract):
    @pytest.fixture
    async def roster(self, kvs: KVS, tmp_path: Path) -> AsyncIterator[Roster]:
        roster = opened(kvs, tmp_path / "a")
        yield roster
        await roster.close()

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "a"

    @pytest.fixture
    def reopen(self, kvs: KVS, tmp_path: Path) -> Reopen:
        async def reopen(roster: Roster) -> Roster:
            await roster.close()
            return opened(kvs, tmp_path / "a")

        return reopen


@pytest.mark.services
class TestOverRedis(TestSharedRoster):
    @pytest.fixture
    async def kvs(self, redis: RedisServer) -> AsyncIterator[KVS]:
        kvs = open_kvs(redis.url(f"prefix={uuid.uuid4()}"))
        yield kvs
        await kvs.close()


class CountingKVS(MemoryKVS):
    """A store that counts the fields that it returned."""

    given = 0

    async def read(self, keys: Sequence[str], prefix: str = "") -> list[Row]:
        rows = await super().read(keys, prefix)
        self.given += sum(len(row.fields) for row in rows)
        return rows


class TestALongClass:
    async def test_a_join_does_not_read_who_is_in_the_class_already(self, tmp_path: Path) -> None:
        kvs = CountingKVS()
        roster = opened(kvs, tmp_path / "a", limits=RosterLimits())
        for n in range(200):
            await joined(roster, f"S{n}")
        kvs.given = 0
        for n in range(50):
            await joined(roster, f"T{n}")
        # The class itself, and the whole class whenever the cache is no longer fresh.
        assert kvs.given < 50 * 20
        roster.forget()
        assert len(await roster.students("class-1")) == 250

    async def test_what_another_node_changed_in_between_is_seen(self, kvs: KVS, tmp_path: Path) -> None:
        limits = RosterLimits(students=150)
        here, there = opened(kvs, tmp_path / "a", "a", limits), opened(kvs, tmp_path / "b", "b", limits)
        await here.classes()
        for n in range(148):
            await joined(here, f"S{n}")
        bob = await joined(there, "Bob")
        await joined(here, "Ada")
        with pytest.raises(JoinError):
            await joined(here, "Cy")
        await here.remove(bob.student.student_id)
        there.forget()
        await joined(there, "Cy")
        here.forget()
        assert len(await here.students("class-1")) == 150


class SlowKVS(MemoryKVS):
    """A store that answers reads of a key only when a test allows it, with the value from the time of the read."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.reading = asyncio.Event()
        self.may = asyncio.Event()
        self.may.set()

    async def read(self, keys: Sequence[str], prefix: str = "") -> list[Row]:
        rows = await super().read(keys, prefix)
        if self.key in keys:
            self.reading.set()
            await self.may.wait()
        return rows


class TestAReadThatTakesLong:
    @pytest.fixture
    def slow(self) -> SlowKVS:
        return SlowKVS(index_key(STUDENTS, "class_id", "class-1"))

    async def test_what_was_changed_meanwhile_is_read_again(self, slow: SlowKVS, tmp_path: Path) -> None:
        here, there = opened(slow, tmp_path / "a", "a"), opened(slow, tmp_path / "b", "b")
        await joined(here, "Ada")
        here.forget()
        slow.reading.clear()
        slow.may.clear()
        asked = asyncio.create_task(here.students("class-1"))
        await slow.reading.wait()
        slow.key = ""
        await joined(there, "Bob")
        # The message about it comes before the answer to the first read.
        here.forget("class-1")
        slow.may.set()
        await asked
        assert await names(here) == {"class-1": ["Ada", "Bob"]}

    async def test_many_who_ask_share_a_read(self, tmp_path: Path) -> None:
        kvs = CountingKVS()
        roster = opened(kvs, tmp_path / "a", limits=RosterLimits())
        await asyncio.gather(*(joined(roster, f"S{n}") for n in range(50)))
        roster.forget()
        kvs.given = 0
        found = await asyncio.gather(*(roster.students("class-1") for _ in range(20)))
        assert [len(students) for students in found] == [50] * 20
        # Each once in the index, and once by itself.
        assert kvs.given == 100


class TestTwoNodes:
    async def test_a_student_who_joined_at_one_is_known_at_the_other(self, nodes: tuple[Roster, Roster]) -> None:
        here, there = nodes
        assert await here.classes() == await there.classes()
        ada = await joined(here)
        assert await there.student_by_token(ada.token) == ada.student
        assert await there.student(ada.student.student_id) == ada.student
        there.forget()
        assert await names(there) == {"class-1": ["Ada"]}

    async def test_who_was_removed_at_one_is_refused_at_the_other_at_once(self, nodes: tuple[Roster, Roster]) -> None:
        here, there = nodes
        ada = await joined(here)
        assert await there.student_by_token(ada.token) == ada.student
        assert await here.remove(ada.student.student_id) is not None
        there.forget()
        assert not await is_in_class(there, ada)

    async def test_a_class_is_full_for_both_together(self, kvs: KVS, tmp_path: Path) -> None:
        limits = RosterLimits(students=40, tokens=3, name_characters=20)
        nodes = [opened(kvs, tmp_path / name, name, limits) for name in "abc"]
        for node in nodes:
            await node.classes()
        results = await asyncio.gather(*(joined(nodes[n % 3], f"S{n}") for n in range(60)), return_exceptions=True)
        refused = [result for result in results if not isinstance(result, Joined)]
        assert {type(error) for error in refused} == {JoinError}
        assert len(refused) == 20
        for node in nodes:
            node.forget()
            assert len(await node.students("class-1")) == 40

    async def test_a_thousand_join_at_once(self, kvs: KVS, tmp_path: Path) -> None:
        limits = RosterLimits(students=1000)
        nodes = [opened(kvs, tmp_path / name, name, limits) for name in "ab"]
        async with asyncio.timeout(120):
            await asyncio.gather(*(joined(nodes[n % 2], f"S{n}") for n in range(1000)))
        nodes[0].forget()
        assert len(await nodes[0].students("class-1")) == 1000

    async def test_a_list_in_one_nodes_folder_counts_at_every_node(
        self, nodes: tuple[Roster, Roster], tmp_path: Path, always_checked: None
    ) -> None:
        here, there = nodes
        (tmp_path / "a" / "students.csv").write_text("name,class,student id\nAda,5b,1\nBob,5b,2\n")
        (tmp_path / "b" / "students.csv").write_text("name,class,student id\nCy,6c,3\n")
        await there.classes()
        assert await names(here) == {"5b": ["Ada", "Bob"], "6c": ["Cy"]}
        there.forget()
        assert await names(there) == {"5b": ["Ada", "Bob"], "6c": ["Cy"]}
        ada = await there.join("5b", name="Ada")
        assert ada.student.listed
        assert await here.student_by_token(ada.token) == ada.student
        (tmp_path / "a" / "students.csv").write_text("name,class,student id\nAda Lovelace,5b,1\n")
        await here.classes()
        assert await names(here) == {"5b": ["Ada Lovelace"], "6c": ["Cy"]}
        there.forget()
        found = await there.student_by_token(ada.token)
        assert found is not None
        assert found.name == "Ada Lovelace"

    async def test_a_listed_student_who_is_removed_is_removed_everywhere(
        self, nodes: tuple[Roster, Roster], tmp_path: Path
    ) -> None:
        here, there = nodes
        (tmp_path / "a" / "students.csv").write_text("name,class,student id\nAda,5b,1\n")
        await here.classes()
        ada = await there.join("5b", name="Ada")
        assert await there.remove(ada.student.student_id) is not None
        here.forget()
        assert not await is_in_class(here, ada)


class _Losing(MemoryKVS):
    """Loses its memory after the first commit, and is refilled at once."""

    records: SharedRecords | None = None

    async def commit(self, changes: Iterable[Change]) -> list[str]:
        conflicts = await super().commit(changes)
        records, self.records = self.records, None
        if records is not None:
            await self.remove(await self.keys())
            assert await records.put_back() == 0
        return conflicts


class TestALostStore:
    async def test_nodes_put_back_what_each_of_them_learnt(self, kvs: KVS, tmp_path: Path) -> None:
        here, there = opened(kvs, tmp_path / "a"), opened(kvs, tmp_path / "b", "b")
        [section] = await here.classes()
        section = await there.change_class(section.class_id, title="5 b")
        ada, bob = await joined(here, "Ada"), await joined(there, "Bob")
        cy = await joined(here, "Cy")
        await there.remove(cy.student.student_id)
        empty = MemoryKVS()
        for name in ("b", "a"):
            records = SharedRecords(empty, tmp_path / name / "shared.jsonl")
            assert await records.put_back() > 0
            assert await records.put_back() == 0
        again = opened(empty, tmp_path / "a")
        assert await again.classes() == [section]
        assert await names(again) == {"class-1": ["Ada", "Bob"]}
        assert await again.student_by_token(ada.token) == ada.student
        assert await again.student_by_token(bob.token) == bob.student
        assert not await is_in_class(again, cy)

    async def test_a_class_that_was_made_in_the_empty_store_gives_way_for_good(self, kvs: KVS, tmp_path: Path) -> None:
        [section] = await opened(kvs, tmp_path / "a").classes()
        empty = MemoryKVS()
        there = opened(empty, tmp_path / "b", "b")
        [other] = await there.classes()
        assert other.code != section.code
        await SharedRecords(empty, tmp_path / "a" / "shared.jsonl").put_back()
        # A node that has just started applies the last commit again.
        third = opened(empty, tmp_path / "c", "c")
        await joined(third)
        for node in (there, third):
            node.forget()
            assert await node.classes() == [section]

    async def test_what_was_lost_before_it_was_in_the_journal_is_put_back_too(self, tmp_path: Path) -> None:
        kvs = _Losing()
        records = kvs.records = SharedRecords(kvs, tmp_path / "shared.jsonl")
        await records.update("row", lambda row: {"field": 1})
        assert await records.read("row") == [{"field": msgspec.Raw(b"1")}]

    async def test_what_is_newer_in_the_store_stays(self, kvs: KVS, tmp_path: Path) -> None:
        here, there = opened(kvs, tmp_path / "a"), opened(kvs, tmp_path / "b", "b")
        [section] = await here.classes()
        await here.change_class(section.class_id, title="old")
        await there.change_class(section.class_id, title="new")
        assert await SharedRecords(kvs, tmp_path / "a" / "shared.jsonl").put_back() == 0
        here.forget()
        assert [section.title for section in await here.classes()] == ["new"]

    async def test_a_torn_journal_costs_its_last_line_alone(self, kvs: KVS, tmp_path: Path) -> None:
        roster = opened(kvs, tmp_path / "a")
        ada = await joined(roster)
        journal = tmp_path / "a" / "shared.jsonl"
        journal.write_bytes(journal.read_bytes() + b'{"key":"roster/cl')
        empty = MemoryKVS()
        assert await SharedRecords(empty, journal).put_back() == 6
        again = opened(empty, tmp_path / "a")
        assert await again.student_by_token(ada.token) == ada.student
        await joined(again, "Bob")
        assert (tmp_path / "a" / "shared-damaged.jsonl").read_bytes() == seal(b'{"key":"roster/cl')
        assert b'"roster/cl\n' not in journal.read_bytes()

    async def test_a_journal_of_what_was_overwritten_is_written_again(self, kvs: KVS, tmp_path: Path) -> None:
        roster = opened(kvs, tmp_path / "a")
        [section] = await roster.classes()
        for n in range(150):
            await roster.change_class(section.class_id, title=f"T{n}")
        journal = tmp_path / "a" / "shared.jsonl"
        # The class, its code and the changes.
        assert len(journal.read_bytes().splitlines()) == 152
        await SharedRecords(kvs, journal).put_back()
        assert len(journal.read_bytes().splitlines()) == 2
        empty = MemoryKVS()
        await SharedRecords(empty, journal).put_back()
        assert [section.title for section in await opened(empty, tmp_path / "a").classes()] == ["T149"]

    async def test_a_node_that_finds_the_store_empty_does_not_make_another_first_class(self, tmp_path: Path) -> None:
        kvs = MemoryKVS()
        roster = opened(kvs, tmp_path / "a")
        [before] = await roster.classes()
        await kvs.remove(await kvs.keys())
        roster.forget()
        assert await roster.classes() == [before]
        await roster.close()

    async def test_a_first_class_made_while_the_store_was_empty_gives_way_to_the_older_one(
        self, kvs: KVS, tmp_path: Path
    ) -> None:
        [section] = await opened(kvs, tmp_path / "a").classes()
        empty = MemoryKVS()
        newer = opened(empty, tmp_path / "b", "b")
        assert await newer.classes() != [section]
        await SharedRecords(empty, tmp_path / "a" / "shared.jsonl").put_back()
        newer.forget()
        assert await newer.classes() == [section]


async def test_many_who_show_their_tokens_at_once_are_looked_up_together(tmp_path: Path) -> None:
    class Counting(MemoryKVS):
        reads = 0

        async def read(self, keys: Sequence[str], prefix: str = "") -> list[Row]:
            self.reads += 1
            return await super().read(keys, prefix)

    kvs = Counting()
    roster = opened(kvs, tmp_path / "a", limits=msgspec.structs.replace(LIMITS, students=100))
    tokens = [(await joined(roster, f"Student {number}")).token for number in range(100)]
    kvs.reads = 0
    wrong = "x" + tokens[0]
    found = await asyncio.gather(*map(roster.student_by_token, [*tokens, wrong, "x"]))
    assert [student.name if student else None for student in found] == [
        *(f"Student {number}" for number in range(100)),
        None,
        None,
    ]
    # The tokens, and their class.
    assert kvs.reads <= 4
    # An older answer does not admit a student who was removed in the meantime.
    assert found[0] is not None
    before = asyncio.create_task(roster.student_by_token(tokens[0]))
    await roster.remove(found[0].student_id)
    await before
    removed = await roster.student_by_token(tokens[0])
    assert removed is not None
    assert not removed.present
    await roster.close()
