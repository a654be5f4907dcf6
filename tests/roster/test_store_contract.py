"""The contract of a store of the roster, over every backend."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from appliance.kvs import open_kvs
from appliance.kvs.memory import MemoryKVS
from appliance.kvs.records import SharedRecords
from appliance.roster import open_store
from appliance.roster.shared_store import SharedStore
from appliance.roster.sqlite import SqliteStore
from appliance.roster.store import RosterStore, Transaction, Write
from appliance.roster.tables import (
    CLASSES,
    EDUCATORS,
    REQUESTS,
    STUDENTS,
    TABLES,
    TOKENS,
    Class,
    Educator,
    JoinRequest,
    Student,
    Token,
)
from tests.services.servers import RedisServer

Open = Callable[[], Awaitable[RosterStore]]
"""Opens a store over the same rows; the caller closes it."""


@asynccontextmanager
async def sqlite(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Open]:
    async def open_one() -> RosterStore:
        return SqliteStore(folder / "roster.sqlite")

    yield open_one


@asynccontextmanager
async def postgres(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Open]:
    url = request.getfixturevalue("postgres").new_url()

    async def open_one() -> RosterStore:
        return open_store(url)

    yield open_one


@asynccontextmanager
async def shared_memory(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Open]:
    kvs = MemoryKVS()
    numbers = itertools.count()

    async def open_one() -> RosterStore:
        return SharedStore(kvs, SharedRecords(kvs, folder / f"shared-{next(numbers)}.jsonl"))

    yield open_one


@asynccontextmanager
async def shared_redis(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Open]:
    with RedisServer(folder) as server:
        kvs = open_kvs(server.url())
        numbers = itertools.count()

        async def open_one() -> RosterStore:
            return SharedStore(kvs, SharedRecords(kvs, folder / f"shared-{next(numbers)}.jsonl"))

        yield open_one
        await kvs.close()


BACKENDS: Mapping[str, Callable[[pytest.FixtureRequest, Path], AbstractAsyncContextManager[Open]]] = {
    "sqlite": sqlite,
    "postgres": postgres,
    "shared in memory": shared_memory,
    "shared in Redis": shared_redis,
}
"""By name, a place for the rows of one test."""
WITH_A_SERVER = {"postgres", "shared in Redis"}


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.services if name in WITH_A_SERVER else ()) for name in BACKENDS]
)
async def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    async with BACKENDS[request.param](request, tmp_path) as open_one:
        yield open_one


@pytest.fixture
async def store(open_again: Open) -> AsyncIterator[RosterStore]:
    store = await open_again()
    yield store
    await store.close()


def student(number: int, name: str = "Ada", **changes: object) -> Student:
    return msgspec.structs.replace(Student(f"s-{number}", name, "class-1"), **changes)


async def put(store: RosterStore, *students: Student) -> None:
    assert await store.commit([Write(STUDENTS, row.student_id, None, row) for row in students])


async def test_a_row_that_is_not_there_is_none(store: RosterStore) -> None:
    assert await store.read(STUDENTS, ["s-1", "s-2"]) == [None, None]
    assert await store.read(STUDENTS, []) == []
    assert await store.get(STUDENTS, "s-1") is None
    assert await store.find(STUDENTS, "class_id", "class-1") == []
    assert await store.count(STUDENTS, "class_id", "class-1") == 0
    assert [row async for row in store.scan(STUDENTS)] == []


async def test_rows_of_every_table_are_read_as_they_were_written(store: RosterStore, open_again: Open) -> None:
    rows = {
        CLASSES: Class("c", "5 b", "ABC-234", open=False, approval=True, source_id="x", order=7, ended_at=1.5),
        STUDENTS: student(1, "\U0001f469\u200d\U0001f680 Zo\u00eb", removed_at=1e9 + 0.123456, listed=True),
        EDUCATORS: Educator("e", "E", "e", "", "assistant", ["c", "class;'\"--", "\u00e9"], disabled=True, created=3),
        REQUESTS: JoinRequest("r", "c", "s", "N", "again", "h", 2.0),
        TOKENS: Token("h", "s-1", 5.25),
    }
    for table, row in rows.items():
        assert await store.commit([Write(table, table.key_of(row), 0, row)])
    other = await open_again()
    for table, row in rows.items():
        [found] = await other.read(table, [table.key_of(row)])
        assert found is not None
        assert found.row == row
        assert found.version >= 1
    await other.close()
    assert set(rows) <= set(TABLES)


async def test_rows_come_in_the_order_of_the_keys_also_twice(store: RosterStore) -> None:
    await put(store, *(student(number) for number in range(4)))
    found = await store.read(STUDENTS, ["s-3", "missing", "s-0", "s-3"])
    assert [one and one.row.student_id for one in found] == ["s-3", None, "s-0", "s-3"]


async def test_a_version_grows_with_each_change_and_is_required(store: RosterStore) -> None:
    assert await store.commit([Write(STUDENTS, "s-1", 0, student(1))])
    [first] = await store.read(STUDENTS, ["s-1"])
    assert first is not None
    assert not await store.commit([Write(STUDENTS, "s-1", 0, student(1, "Bob"))])
    assert not await store.commit([Write(STUDENTS, "s-1", first.version + 1, student(1, "Bob"))])
    assert not await store.commit([Write(STUDENTS, "s-2", 3, student(2))])
    assert await store.commit([Write(STUDENTS, "s-1", first.version, student(1, "Bob"))])
    [second] = await store.read(STUDENTS, ["s-1"])
    assert second is not None
    assert second.row.name == "Bob"
    assert second.version > first.version
    assert await store.commit([Write(STUDENTS, "s-1", None, student(1, "Cy"))])
    assert await store.get(STUDENTS, "s-1") == student(1, "Cy")


async def test_all_changes_are_done_or_none(store: RosterStore) -> None:
    await put(store, student(1))
    wrong = [
        Write(STUDENTS, "s-2", 0, student(2)),
        Write(CLASSES, "c", 0, Class("c", "5 b", "ABC-234")),
        Write(STUDENTS, "s-1", 0, student(1, "Bob")),
    ]
    assert not await store.commit(wrong)
    assert await store.read(STUDENTS, ["s-2"]) == [None]
    assert await store.get(CLASSES, "c") is None
    assert await store.find(CLASSES, "code", "ABC234") == []
    assert await store.get(STUDENTS, "s-1") == student(1)


async def test_a_row_can_be_required_and_not_changed(store: RosterStore) -> None:
    await put(store, student(1))
    [row] = await store.read(STUDENTS, ["s-1"])
    assert row is not None
    checked = Write(STUDENTS, "s-1", row.version, checked=True)
    assert await store.commit([checked, Write(STUDENTS, "s-2", 0, student(2))])
    assert await store.read(STUDENTS, ["s-1"]) == [row]
    await put(store, student(1, "Bob"))
    assert not await store.commit([checked, Write(STUDENTS, "s-3", 0, student(3))])
    absent = Write(STUDENTS, "s-9", 0, checked=True)
    assert await store.commit([absent, Write(STUDENTS, "s-4", 0, student(4))])
    assert await store.read(STUDENTS, ["s-3", "s-9"]) == [None, None]


async def test_a_removed_row_is_gone_and_may_come_again(store: RosterStore) -> None:
    await put(store, student(1))
    assert await store.commit([Write(STUDENTS, "s-1", None, None)])
    assert await store.read(STUDENTS, ["s-1"]) == [None]
    assert await store.find(STUDENTS, "class_id", "class-1") == []
    assert await store.commit([Write(STUDENTS, "s-1", None, None)])
    assert await store.commit([Write(STUDENTS, "s-1", 0, student(1, "Bob"))])
    [found] = await store.find(STUDENTS, "class_id", "class-1")
    assert found.row.name == "Bob"


async def test_an_index_follows_its_rows(store: RosterStore) -> None:
    await put(store, student(1), student(2), student(3, class_id="class-2"))
    found = await store.find(STUDENTS, "class_id", "class-1")
    assert [one.row.student_id for one in found] == ["s-1", "s-2"]
    assert found == await store.read(STUDENTS, ["s-1", "s-2"])
    assert await store.count(STUDENTS, "class_id", "class-1") == 2
    await put(store, student(1, class_id="class-2"))
    assert [one.row.student_id for one in await store.find(STUDENTS, "class_id", "class-2")] == ["s-1", "s-3"]
    assert await store.count(STUDENTS, "class_id", "class-1") == 1
    assert [one.row.student_id for one in await store.find(STUDENTS, "class_id", "class-2", limit=1)] == ["s-1"]


async def test_a_row_that_an_index_leaves_out_is_not_found_by_it(store: RosterStore) -> None:
    await put(store, student(1, "Ada Lovelace"))
    await put(store, student(1, "Ada Lovelace", removed_at=1.0))
    assert await store.find(STUDENTS, "word", "ada") == []
    assert await store.find(STUDENTS, "word", "", prefix=True) == []
    assert await store.count(STUDENTS, "class_id", "class-1") == 1


async def test_the_beginning_of_a_text_finds_rows_once_each_in_the_order_of_their_texts(store: RosterStore) -> None:
    names = ["Lovelace Love", "Lovejoy", "Lo", "\u0416\u0443\u043a", "Lov", "Low", "\U0001f600 smile", "M\uffff"]
    await put(store, *(student(number, name) for number, name in enumerate(names)))

    async def found(prefix: str, limit: int | None = None) -> list[str]:
        return [one.row.name for one in await store.find(STUDENTS, "word", prefix, prefix=True, limit=limit)]

    assert await found("lov") == ["Lov", "Lovelace Love", "Lovejoy"]
    assert await found("lov", 2) == ["Lov", "Lovelace Love"]
    assert await found("lo") == ["Lo", "Lov", "Lovelace Love", "Lovejoy", "Low"]
    assert await found("\u0436") == ["\u0416\u0443\u043a"]
    assert await found("\U0001f600") == ["\U0001f600 smile"]
    assert len(await found("")) == len(names)
    assert await found("lov%") == await found("lo_") == await found("x") == await found("\U0010ffff") == []


async def test_texts_are_compared_by_code_point(store: RosterStore) -> None:
    keys = ["A", "Z", "a", "b", "\u00e9", "\u0141", "\uffff", "\U0001f600"]
    await put(store, *(Student(key, "n", "class-1") for key in keys))
    assert [row.student_id async for row in store.scan(STUDENTS)] == keys
    assert [one.row.student_id for one in await store.find(STUDENTS, "class_id", "class-1")] == keys
    assert await store.find(STUDENTS, "class_id", "CLASS-1") == []


async def test_all_rows_are_scanned(store: RosterStore) -> None:
    rows = [Student(f"s-{number:05}", "n", "class-1") for number in range(2500)]
    await put(store, *rows)
    assert [row async for row in store.scan(STUDENTS)] == rows


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud83d", "x\udfff"])
async def test_a_text_that_cannot_be_stored_finds_nothing_and_is_refused(store: RosterStore, text: str) -> None:
    await put(store, student(1))
    assert await store.read(STUDENTS, [text, "s-1"]) == [None, *await store.read(STUDENTS, ["s-1"])]
    assert await store.find(STUDENTS, "class_id", text) == []
    assert await store.find(STUDENTS, "word", text, prefix=True) == []
    assert await store.count(STUDENTS, "class_id", text) == 0
    with pytest.raises(ValueError, match="cannot be stored"):
        await store.commit([Write(STUDENTS, "s-2", 0, student(2)), Write(STUDENTS, "s-1", None, student(1, text))])
    assert await store.read(STUDENTS, ["s-2"]) == [None]
    await put(store, student(2))


async def test_hostile_texts_are_texts(store: RosterStore) -> None:
    hostile = ["'; DROP TABLE students; --", '"', "\\", "%", "_", "$1", "?1", ":name", "\r\n", "{}", "x" * 100_000]
    rows = [Student(text, text, text) for text in hostile]
    await put(store, *rows)
    for row in rows:
        assert await store.get(STUDENTS, row.student_id) == row
        assert [one.row for one in await store.find(STUDENTS, "class_id", row.class_id)] == [row]


async def test_commits_are_announced_when_they_are_done(store: RosterStore) -> None:
    heard: list[list[str]] = []
    store.on_commit.add(lambda writes: heard.append([write.key for write in writes]))
    await put(store, student(1), student(2))
    assert not await store.commit([Write(STUDENTS, "s-1", 0, student(1))])
    assert heard == [["s-1", "s-2"]]


async def test_transactions_that_come_together_lose_no_change(store: RosterStore, open_again: Open) -> None:
    other = await open_again()
    await store.commit([Write(CLASSES, "c", 0, Class("c", "", "ABC-234"))])

    async def add(store: RosterStore, letter: str) -> None:
        async def work(transaction: Transaction) -> None:
            row = await transaction.get(CLASSES, "c")
            assert row is not None
            transaction.put(CLASSES, msgspec.structs.replace(row, title=row.title + letter))

        await store.transact(work)

    await asyncio.gather(*(add(one, letter) for letter in "abcdef" for one in (store, other)))
    row = await store.get(CLASSES, "c")
    assert row is not None
    assert sorted(row.title) == sorted("abcdef" * 2)
    await other.close()


async def test_a_transaction_sees_its_own_changes(store: RosterStore) -> None:
    await put(store, student(1), student(2))

    async def work(transaction: Transaction) -> list[str]:
        transaction.put(STUDENTS, student(3))
        transaction.put(STUDENTS, student(1, class_id="class-2"))
        transaction.remove(STUDENTS, "s-2")
        assert await transaction.get(STUDENTS, "s-2") is None
        return [row.student_id for row in await transaction.find(STUDENTS, "class_id", "class-1")]

    assert await store.transact(work) == ["s-3"]
    assert await store.find(STUDENTS, "class_id", "class-1") == await store.read(STUDENTS, ["s-3"])


async def test_a_transaction_that_raises_changes_nothing(store: RosterStore) -> None:
    async def work(transaction: Transaction) -> None:
        transaction.put(STUDENTS, student(1))
        raise LookupError

    with pytest.raises(LookupError):
        await store.transact(work)
    assert await store.get(STUDENTS, "s-1") is None


async def test_a_commit_whose_caller_is_gone_is_whole(store: RosterStore, open_again: Open) -> None:
    commits = [asyncio.ensure_future(put(store, student(n), student(n + 100))) for n in range(20)]
    await asyncio.sleep(0)
    for task in commits:
        task.cancel()
    await asyncio.gather(*commits, return_exceptions=True)
    await store.close()
    store = await open_again()
    for number in range(20):
        found = await store.read(STUDENTS, [f"s-{number}", f"s-{number + 100}"])
        assert (found[0] is None) == (found[1] is None)
    await store.close()


async def test_what_was_committed_is_there_after_a_restart(store: RosterStore, open_again: Open) -> None:
    await put(store, student(1))
    await store.close()
    store = await open_again()
    assert await store.get(STUDENTS, "s-1") == student(1)
    assert store.findings() == []
    await store.close()
