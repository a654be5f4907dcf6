"""Versions of reducers: the newest counts, states of older ones are cleared, and the generation rises then."""

from __future__ import annotations

import pytest

from appliance.cluster.reducer_versions import REDUCERS, ReducerVersions
from appliance.kvs import KVS, Change, Encoded
from appliance.kvs.memory import MemoryKVS
from appliance.states import student_key


@pytest.fixture
async def kvs() -> KVS:
    kvs = MemoryKVS()
    assert await kvs.commit([Change(student_key("s-1"), 0, {"a": Encoded(b"1")})]) == []
    return kvs


async def test_the_first_versions_change_no_states(kvs: KVS) -> None:
    versions = ReducerVersions(kvs, {"writing": 1})
    before = await versions.generation()
    await versions.agree()
    await versions.agree()
    assert versions.outdated == []
    assert await versions.generation() == before
    assert await kvs.keys(student_key("")) == [student_key("s-1")]


async def test_a_newer_version_clears_the_states_and_raises_the_generation_once(kvs: KVS) -> None:
    await ReducerVersions(kvs, {"writing": 1, "activity": 1}).agree()
    newer = ReducerVersions(kvs, {"writing": 2, "activity": 1})
    before = await newer.generation()
    await newer.agree()
    after = await newer.generation()
    assert after != before
    assert await kvs.keys(student_key("")) == []
    await newer.agree()
    await ReducerVersions(kvs, {"writing": 2, "activity": 1}).agree()
    assert await newer.generation() == after


async def test_an_older_version_is_outdated_and_changes_nothing(kvs: KVS) -> None:
    await ReducerVersions(kvs, {"writing": 2}).agree()
    older = ReducerVersions(kvs, {"writing": 1, "activity": 7})
    [before] = await kvs.read([REDUCERS])
    await older.agree()
    assert older.outdated == ["writing"]
    assert await kvs.read([REDUCERS]) == [before]


async def test_a_node_completes_what_another_one_began_to_clear(kvs: KVS) -> None:
    await ReducerVersions(kvs, {"writing": 1}).agree()
    [row] = await kvs.read([REDUCERS])
    # Another node has written its version and ended before it cleared the states.
    fields = {"version/writing": Encoded(b"2"), "clearing": Encoded(b"1")}
    assert await kvs.commit([Change(REDUCERS, row.version, fields)]) == []
    versions = ReducerVersions(kvs, {"writing": 2})
    before = await versions.generation()
    await versions.agree()
    assert await versions.generation() != before
    assert await kvs.keys(student_key("")) == []
    [row] = await kvs.read([REDUCERS])
    assert "clearing" not in row.fields
