"""The contract of a key-value store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.kvs import KVS, Change, Encoded, Row, Value

# The contract runs in one class per backend, each test with the fixture's store, which the examples share.
_SUBCLASSED = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]


class Immutable:
    """A value that is not bytes, as the pipeline's states."""

    def __init__(self, text: str) -> None:
        self.text = text

    def encode(self) -> bytes:
        return self.text.encode()


def fields(**values: bytes | None) -> dict[str, Value | None]:
    return {name: None if value is None else Encoded(value) for name, value in values.items()}


class KVSContract:
    """Subclass it with a fixture ``kvs`` that gives an empty store."""

    @pytest.fixture
    async def kvs(self) -> AsyncIterator[KVS]:
        raise NotImplementedError
        yield

    async def test_a_row_that_is_not_there_has_version_0_and_no_fields(self, kvs: KVS) -> None:
        assert await kvs.read(["student/a"]) == [Row("student/a", 0, {})]

    async def test_what_was_committed_is_read(self, kvs: KVS) -> None:
        assert await kvs.commit([Change("student/a", 0, fields(x=b"1", y=b"\0\xff{}"))]) == []
        assert await kvs.read(["student/a"]) == [Row("student/a", 1, {"x": b"1", "y": b"\0\xff{}"})]

    async def test_a_value_that_is_an_object_is_read_as_its_encoding(self, kvs: KVS) -> None:
        await kvs.commit([Change("student/a", 0, {"x": Immutable("é€😀")})])
        [row] = await kvs.read(["student/a"])
        assert row.fields == {"x": "é€😀".encode()}

    async def test_fields_that_a_change_does_not_name_stay_and_none_removes(self, kvs: KVS) -> None:
        await kvs.commit([Change("student/a", 0, fields(x=b"1", y=b"2", z=b"3"))])
        await kvs.commit([Change("student/a", 1, fields(y=b"two", z=None, never=None))])
        assert await kvs.read(["student/a"]) == [Row("student/a", 2, {"x": b"1", "y": b"two"})]

    async def test_rows_come_in_the_order_asked_for(self, kvs: KVS) -> None:
        await kvs.commit([Change(key, 0, fields(x=key.encode())) for key in ("a", "b", "c")])
        assert [row.key for row in await kvs.read(["c", "missing", "a", "c"])] == ["c", "missing", "a", "c"]
        assert await kvs.read([]) == []

    async def test_only_fields_with_the_prefix_are_read(self, kvs: KVS) -> None:
        change = {"summary/": b"0", "summary/writing": b"1", "state/writing//": b"2"}
        await kvs.commit([Change("a", 0, {name: Encoded(value) for name, value in change.items()})])
        [row] = await kvs.read(["a"], "summary/")
        assert row == Row("a", 1, {"summary/": b"0", "summary/writing": b"1"})

    async def test_parts_are_fields_like_others(self, kvs: KVS) -> None:
        change = {"state/x": b"0", "part/x/0": b"1", "part/x/1": b"2", "part": b"3", "p": b"4"}
        await kvs.commit([Change("a", 0, {name: Encoded(value) for name, value in change.items()})])
        assert await kvs.read(["a"]) == [Row("a", 1, change)]
        for prefix in ("p", "part", "part/", "part/x/1", "state/", "x"):
            expected = {name: value for name, value in change.items() if name.startswith(prefix)}
            assert await kvs.read(["a"], prefix) == [Row("a", 1, expected)]
        assert await kvs.keys() == ["a"]
        assert await kvs.commit([Change("a", 1, {"part/x/0": None, "p": None, "part/x/2": Encoded(b"5")})]) == []
        assert await kvs.read(["a"]) == [
            Row("a", 2, {"state/x": b"0", "part/x/1": b"2", "part": b"3", "part/x/2": b"5"})
        ]
        assert await kvs.commit([Change("a", 1, {"part/x/1": None})]) == ["a"]
        await kvs.remove(["a"])
        await kvs.commit([Change("a", 0, fields(x=b"1"))])
        assert await kvs.read(["a"]) == [Row("a", 1, {"x": b"1"})]

    async def test_a_whole_row_is_read_between_two_commits(self, kvs: KVS) -> None:
        """Parts and other fields are of one version, also where commits go on meanwhile."""
        done = False

        async def write() -> None:
            for version in range(60):
                number = b"%d" % version
                parts = {f"part/x/{part}": Encoded(number) for part in range(40)}
                assert await kvs.commit([Change("a", version, {"state/x": Encoded(number), **parts})]) == []

        async def read() -> None:
            while not done:
                [row] = await kvs.read(["a"])
                assert len(set(row.fields.values())) <= 1
                assert not row.version or row.fields["state/x"] == b"%d" % (row.version - 1)
                await asyncio.sleep(0)

        readers = [asyncio.create_task(read()) for _ in range(3)]
        await write()
        done = True
        await asyncio.gather(*readers)

    @pytest.mark.parametrize("version", [0, 2, 7])
    async def test_a_change_worked_out_from_another_version_changes_nothing(self, kvs: KVS, version: int) -> None:
        await kvs.commit([Change("a", 0, fields(x=b"1"))])
        assert await kvs.commit([Change("a", version, fields(x=b"lost", y=b"lost"))]) == ["a"]
        assert await kvs.read(["a"]) == [Row("a", 1, {"x": b"1"})]

    async def test_a_conflict_in_one_row_does_not_keep_the_others_back(self, kvs: KVS) -> None:
        await kvs.commit([Change("b", 0, fields(x=b"old"))])
        changes = [Change("a", 0, fields(x=b"1")), Change("b", 0, fields(x=b"lost")), Change("c", 0, fields(x=b"3"))]
        assert await kvs.commit(changes) == ["b"]
        assert [row.fields for row in await kvs.read(["a", "b", "c"])] == [{"x": b"1"}, {"x": b"old"}, {"x": b"3"}]

    async def test_an_empty_commit_does_nothing(self, kvs: KVS) -> None:
        assert await kvs.commit([]) == []

    async def test_a_change_without_fields_still_raises_the_version(self, kvs: KVS) -> None:
        await kvs.commit([Change("a", 0, {})])
        assert (await kvs.read(["a"]))[0].version == 1

    async def test_of_many_writers_each_loses_nothing(self, kvs: KVS) -> None:
        async def add(times: int) -> None:
            for _ in range(times):
                while True:
                    [row] = await kvs.read(["counter"])
                    number = int(row.fields.get("n", b"0")) + 1
                    if not await kvs.commit([Change("counter", row.version, fields(n=b"%d" % number))]):
                        break
                    await asyncio.sleep(0)

        await asyncio.gather(*(add(10) for _ in range(8)))
        assert await kvs.read(["counter"]) == [Row("counter", 80, {"n": b"80"})]

    async def test_keys_are_listed_by_prefix_and_sorted(self, kvs: KVS) -> None:
        await kvs.commit([Change(key, 0, fields(x=b"1")) for key in ("student/b", "class/1", "student/a", "stud*")])
        assert await kvs.keys("student/") == ["student/a", "student/b"]
        assert await kvs.keys("stud*") == ["stud*"]
        assert await kvs.keys() == ["class/1", "stud*", "student/a", "student/b"]

    async def test_a_removed_row_is_as_one_that_never_was(self, kvs: KVS) -> None:
        await kvs.commit([Change("a", 0, fields(x=b"1")), Change("b", 0, fields(x=b"2"))])
        await kvs.remove(["a", "missing"])
        assert await kvs.read(["a"]) == [Row("a", 0, {})]
        assert await kvs.keys() == ["b"]
        assert await kvs.commit([Change("a", 0, fields(y=b"new"))]) == []
        assert await kvs.read(["a"]) == [Row("a", 1, {"y": b"new"})]

    async def test_the_epoch_stays_while_the_store_remembers(self, kvs: KVS) -> None:
        epoch = await kvs.epoch()
        assert len(epoch) >= 16
        await kvs.commit([Change("a", 0, fields(x=b"1"))])
        await kvs.remove(["a"])
        assert await kvs.epoch() == epoch
        assert set(await asyncio.gather(*(kvs.epoch() for _ in range(20)))) == {epoch}
        assert await kvs.keys() == []

    async def test_a_value_may_be_large(self, kvs: KVS) -> None:
        value = b"x" * 5_000_000
        await kvs.commit([Change("a", 0, fields(x=value))])
        assert (await kvs.read(["a"]))[0].fields["x"] == value

    async def test_of_writers_at_the_same_version_exactly_one_wins(self, kvs: KVS) -> None:
        for version in range(10):
            results = await asyncio.gather(
                *(kvs.commit([Change("a", version, fields(who=b"%d" % who))]) for who in range(12))
            )
            winners = [who for who, conflicts in enumerate(results) if not conflicts]
            assert [conflicts for conflicts in results if conflicts] == [["a"]] * 11
            [row] = await kvs.read(["a"])
            assert row == Row("a", version + 1, {"who": b"%d" % winners[0]})

    async def test_writers_of_rows_that_overlap_lose_nothing(self, kvs: KVS) -> None:
        """As nodes do: each gathers changes to many rows, and repeats those of them that were in conflict."""

        async def add(first: int) -> None:
            keys = [f"student/{number % 30}" for number in range(first, first + 20)]
            for _ in range(5):
                left = keys
                while left:
                    rows = await kvs.read(left)
                    changes = [
                        Change(row.key, row.version, fields(n=b"%d" % (int(row.fields.get("n", b"0")) + 1)))
                        for row in rows
                    ]
                    left = await kvs.commit(changes)

        await asyncio.gather(*(add(first) for first in (0, 10, 20)))
        rows = await kvs.read([f"student/{number}" for number in range(30)])
        assert [row.fields["n"] for row in rows] == [b"10"] * 30
        assert [row.version for row in rows] == [10] * 30

    async def test_300_rows_are_committed_at_once_and_conflicts_among_them_are_named(self, kvs: KVS) -> None:
        keys = [f"student/{number:03}" for number in range(300)]
        value = b"s" * 6000
        assert await kvs.commit([Change(key, 0, fields(x=value, y=key.encode())) for key in keys]) == []
        late = keys[::7]
        assert await kvs.commit([Change(key, 1, fields(y=b"late")) for key in late]) == []
        conflicts = await kvs.commit([Change(key, 1, fields(x=None, z=b"2")) for key in keys])
        assert sorted(conflicts) == late
        rows = await kvs.read(keys)
        assert [row.version for row in rows] == [2] * 300
        for row in rows:
            if row.key in late:
                assert row.fields == {"x": value, "y": b"late"}
            else:
                assert row.fields == {"y": row.key.encode(), "z": b"2"}
        assert await kvs.keys("student/") == keys

    async def test_a_commit_whose_answer_was_lost_can_be_repeated(self, kvs: KVS) -> None:
        """The commit took effect without an answer: the repetition is a conflict, and the row shows that it is done."""
        changes = [Change("a", 0, fields(last=b"7")), Change("b", 0, fields(last=b"7"))]
        assert await kvs.commit(changes) == []
        assert await kvs.commit(changes) == ["a", "b"]
        assert await kvs.read(["a", "b"]) == [Row("a", 1, {"last": b"7"}), Row("b", 1, {"last": b"7"})]

    async def test_changes_to_one_row_in_one_commit_are_applied_in_turn(self, kvs: KVS) -> None:
        changes = [Change("a", 0, fields(x=b"1")), Change("a", 1, fields(y=b"2")), Change("a", 1, fields(y=b"lost"))]
        assert await kvs.commit(changes) == ["a"]
        assert await kvs.read(["a"]) == [Row("a", 2, {"x": b"1", "y": b"2"})]

    async def test_a_row_may_have_very_many_fields(self, kvs: KVS) -> None:
        many: dict[str, Value | None] = {f"stream/{number}": Encoded(b"[1,2]") for number in range(12_000)}
        many |= {f"part/{number}": Encoded(b"a part") for number in range(12_000)}
        await kvs.commit([Change("a", 0, many | {"summary/x": Encoded(b"{}")})])
        [row] = await kvs.read(["a"], "stream/")
        assert len(row.fields) == 12_000
        assert len((await kvs.read(["a"]))[0].fields) == 24_001
        removed: dict[str, Value | None] = dict.fromkeys(many)
        assert await kvs.commit([Change("a", 1, removed)]) == []
        assert await kvs.read(["a"]) == [Row("a", 2, {"summary/x": b"{}"})]

    @settings(max_examples=50, deadline=None, suppress_health_check=_SUBCLASSED)
    @given(
        key=st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable()),
        names=st.dictionaries(st.text(max_size=40), st.binary(max_size=200), max_size=5),
    )
    async def test_keys_and_fields_may_have_any_characters(self, kvs: KVS, key: str, names: dict[str, bytes]) -> None:
        await kvs.remove([key])
        await kvs.commit([Change(key, 0, {name: Encoded(value) for name, value in names.items()})])
        assert await kvs.read([key]) == [Row(key, 1, names)]
        assert key in await kvs.keys(key)
