"""Data that a Redis loses: epochs, rows that expire, servers that are killed, nodes that stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.kvs import Change, Encoded, open_kvs
from appliance.kvs.redis import RedisKVS
from tests.services.servers import RedisCluster, RedisServer, until

pytestmark = pytest.mark.services


class TestMemory:
    async def test_an_emptied_a_restarted_and_another_server_have_another_epoch(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path, append_only=False) as server:
            kvs = open_kvs(server.url(), Counters())
            epochs = [await kvs.epoch()]
            await kvs.commit([Change("a", 0, {"x": Encoded(b"1")})])
            assert await kvs.epoch() == epochs[0]
            with server.client() as client:
                client.flushall()
            epochs.append(await kvs.epoch())
            await asyncio.to_thread(server.restart)
            epochs.append(await kvs.epoch())
            other = open_kvs(server.url("prefix=other"), Counters())
            epochs.append(await other.epoch())
            assert len(set(epochs)) == 4
            await kvs.close()
            await other.close()

    async def test_one_node_of_a_cluster_that_forgot_changes_the_epoch(self, redis_cluster: RedisCluster) -> None:
        kvs = open_kvs(redis_cluster.url(), Counters())
        epoch = await kvs.epoch()
        assert await kvs.epoch() == epoch
        for node in redis_cluster.nodes:
            with node.client() as client:
                client.flushall()
            changed = await kvs.epoch()
            assert changed != epoch
            epoch = changed
        await kvs.close()

    async def test_a_row_with_a_ttl_is_forgotten_and_one_that_is_written_again_is_not(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path) as server:
            kvs = open_kvs(server.url("ttl=1"), Counters())
            epoch = await kvs.epoch()
            await kvs.commit([Change("a", 0, {}), Change("b", 0, {})])
            version = 1
            async with asyncio.timeout(10):
                while (await kvs.read(["a"]))[0].version:
                    assert await kvs.commit([Change("b", version, {})]) == []
                    version += 1
                    await asyncio.sleep(0.05)
            assert (await kvs.read(["b"]))[0].version == version
            assert await kvs.keys() == ["b"]
            assert await kvs.epoch() == epoch
            await kvs.close()

    async def test_a_server_that_is_killed_in_mid_stream_loses_no_update(self, tmp_path: Path) -> None:
        """Three writers add to rows; each repeats failed writes, and reads again what is in conflict or unknown."""
        with RedisServer(tmp_path) as server:
            keys = [f"student/{number}" for number in range(20)]
            rounds = 60

            async def write(writer: int) -> None:
                kvs = open_kvs(server.url("timeout=2"), Counters())
                name = f"writer-{writer}"
                for number in range(1, rounds + 1):
                    left = keys
                    async with asyncio.timeout(30):
                        while left:
                            try:
                                rows = await kvs.read(left)
                                # As with the numbers of a stream: a change that the row has already is not made again.
                                rows = [row for row in rows if int(row.fields.get(name, b"0")) < number]
                                changes = [
                                    Change(
                                        row.key,
                                        row.version,
                                        {
                                            name: Encoded(b"%d" % number),
                                            "sum": Encoded(b"%d" % (int(row.fields.get("sum", b"0")) + 1)),
                                        },
                                    )
                                    for row in rows
                                ]
                                left = await kvs.commit(changes)
                            except BackendError:
                                await asyncio.sleep(0.02)
                await kvs.close()

            tasks = [asyncio.create_task(write(writer)) for writer in range(3)]
            for _ in range(3):
                await asyncio.sleep(0.15)
                server.kill()
                server.start()
            await asyncio.gather(*tasks)
            kvs = open_kvs(server.url(), Counters())
            for row in await kvs.read(keys):
                assert row.fields["sum"] == b"%d" % (3 * rounds)
                assert row.version == 3 * rounds
            await kvs.close()

    async def test_while_a_node_of_a_cluster_is_away_the_students_of_the_others_go_on(
        self, redis_cluster: RedisCluster
    ) -> None:
        kvs = open_kvs(redis_cluster.url("prefix=away&timeout=2"), Counters())
        assert isinstance(kvs, RedisKVS)
        keys = [f"student/{number}" for number in range(60)]
        await kvs.remove(await kvs.keys())
        assert await kvs.commit([Change(key, 0, {}) for key in keys]) == []
        # Not the first one, which the URL names.
        gone = redis_cluster.nodes[2]
        with gone.client() as client:
            there = {key.decode().partition("{")[2][:-1] for key in client.scan_iter("away:*")}
        others = [key for key in keys if key not in there]
        assert there
        assert others
        gone.kill()
        with pytest.raises(BackendError, match=r"nothing listens there|closed the connection|does not serve all slots"):
            await kvs.commit([Change(key, 1, {}) for key in sorted(there)])
        assert await kvs.commit([Change(key, 1, {}) for key in others]) == []
        gone.start()
        until(redis_cluster.is_well, "the cluster is well")
        # It had no file, so its students start from nothing, and all others are unchanged.
        async with asyncio.timeout(10):
            while True:
                try:
                    rows = await kvs.read(keys)
                    break
                except BackendError:
                    await asyncio.sleep(0.05)
        assert {row.key for row in rows if row.version == 0} == there
        assert {row.key for row in rows if row.version == 2} == set(others)
        assert await kvs.commit([Change(key, 0, {}) for key in sorted(there)]) == []
        await kvs.close()
