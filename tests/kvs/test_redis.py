"""Redis as the store: the same contract, persistent, ephemeral and on a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from appliance.counters import Counters
from appliance.kvs import KVS, open_kvs
from tests.contract.kvs import KVSContract
from tests.services.servers import RedisCluster, RedisServer

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
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


class TestCluster(KVSContract):
    @pytest.fixture
    async def kvs(self, redis_cluster: RedisCluster) -> AsyncIterator[KVS]:
        kvs = open_kvs(redis_cluster.url(), Counters())
        yield await emptied(kvs)
        await kvs.close()
