"""Redis as the store: the same contract, persistent, ephemeral, on a cluster, and where scripts are forbidden."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from appliance.counters import Counters
from appliance.kvs import KVS, Change, open_kvs
from appliance.kvs.redis import RedisKVS
from tests.contract.kvs import KVSContract
from tests.services.servers import RedisCluster, RedisServer

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server with a user who may run no scripts."""
    users = ["user noscript on >word ~* &* +@all -@scripting"]
    with RedisServer(tmp_path_factory.mktemp("redis"), users=users) as server:
        yield server


async def emptied(kvs: KVS) -> KVS:
    """The store without the rows of the test before."""
    await kvs.remove(await kvs.keys())
    return kvs


class TestPersistent(KVSContract):
    @pytest.fixture
    async def kvs(self, server: RedisServer) -> AsyncIterator[KVS]:
        kvs = open_kvs(server.url(), Counters())
        yield await emptied(kvs)
        await kvs.close()


class TestEphemeral(KVSContract):
    @pytest.fixture
    async def kvs(self, server: RedisServer) -> AsyncIterator[KVS]:
        kvs = open_kvs(server.url("ttl=600&prefix=ephemeral"), Counters())
        yield await emptied(kvs)
        await kvs.close()


class TestWithoutScripts(KVSContract):
    @pytest.fixture
    async def kvs(self, server: RedisServer) -> AsyncIterator[KVS]:
        kvs = open_kvs(server.url("ttl=600&prefix=noscript", user="noscript", password="word"), Counters())
        yield await emptied(kvs)
        await kvs.close()

    async def test_the_contract_was_kept_without_scripts(self, kvs: KVS) -> None:
        assert isinstance(kvs, RedisKVS)
        assert kvs.scripting
        assert await kvs.commit([Change("a", 0, {})]) == []
        assert not kvs.scripting


class TestCluster(KVSContract):
    @pytest.fixture
    async def kvs(self, redis_cluster: RedisCluster) -> AsyncIterator[KVS]:
        kvs = open_kvs(redis_cluster.url(), Counters())
        yield await emptied(kvs)
        await kvs.close()


class TestClusterWithoutScripts(KVSContract):
    @pytest.fixture
    async def kvs(self, redis_cluster: RedisCluster) -> AsyncIterator[KVS]:
        kvs = open_kvs(redis_cluster.url("prefix=noscript"), Counters())
        assert isinstance(kvs, RedisKVS)
        kvs.scripting = False
        yield await emptied(kvs)
        await kvs.close()
