"""Redis as the pubsub: the same contract, and what happens when the server or the link goes away."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.pubsub import RESYNC, Message, PubSub, Subscription, open_pubsub
from tests.contract.pubsub import QUEUE, PubSubContract, take
from tests.services.servers import RedisCluster, RedisServer, SentinelServer, until

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    users = ["user elsewhere on >word ~* &elsewhere:* +@all", "user mute on >word ~* &* +@all -publish"]
    with RedisServer(tmp_path_factory.mktemp("redis"), users=users) as server:
        yield server


async def settle(pubsub: PubSub) -> None:
    """Wait until this process has received all messages that it has published so far."""
    topic = f"settled/{uuid.uuid4()}"
    async with pubsub.subscribe(topic) as subscription:
        await pubsub.publish(topic, b"")
        assert await take(subscription, 1) == [b""]


class TestRedis(PubSubContract):
    @pytest.fixture
    async def pubsub(self, server: RedisServer) -> AsyncIterator[PubSub]:
        pubsub = open_pubsub(server.url(), Counters(), queue=QUEUE)
        yield pubsub
        await pubsub.close()

    async def settled(self, pubsub: PubSub) -> None:
        await settle(pubsub)


class TestCluster(PubSubContract):
    @pytest.fixture
    async def pubsub(self, redis_cluster: RedisCluster) -> AsyncIterator[PubSub]:
        pubsub = open_pubsub(redis_cluster.url(), Counters(), queue=QUEUE)
        yield pubsub
        await pubsub.close()

    async def settled(self, pubsub: PubSub) -> None:
        await settle(pubsub)


async def until_resync(subscription: Subscription, seconds: float = 15) -> list[Message]:
    """The messages before the next `RESYNC`."""
    before: list[Message] = []
    async with asyncio.timeout(seconds):
        async for message in subscription:
            if message is RESYNC:
                return before
            before.append(message)
    raise AssertionError("The subscription ended.")


async def receives(subscription: Subscription, pubsub: PubSub, topic: str) -> None:
    """Publish until a message itself is received; one that comes while a `RESYNC` waits is part of that."""
    async with asyncio.timeout(20):
        number = 0
        while True:
            number += 1
            message = b"received %d" % number
            try:
                await pubsub.publish(topic, message)
            except BackendError:
                await asyncio.sleep(0.02)
                continue
            while (taken := (await take(subscription, 1))[0]) is not RESYNC:
                if taken == message:
                    return


async def test_of_20000_messages_between_two_nodes_none_is_lost_and_all_are_in_order(server: RedisServer) -> None:
    counters = Counters()
    here = open_pubsub(server.url(), counters, queue=1000)
    there = open_pubsub(server.url(), counters, queue=30000)
    messages = [b"%d " % number + b"x" * 290 for number in range(20000)]
    async with there.subscribe("class/1") as one, there.subscribe("class/1") as two:
        for start in range(0, len(messages), 100):
            await asyncio.gather(*(here.publish("class/1", message) for message in messages[start : start + 100]))
        assert await take(one, len(messages)) == messages
        assert await take(two, len(messages)) == messages
    assert counters.snapshot() == {}
    await here.close()
    await there.close()


async def test_messages_of_another_prefix_are_not_received(server: RedisServer) -> None:
    ours = open_pubsub(server.url("prefix=school-1"), Counters(), queue=10)
    # Both sections may have the same URL: options of the store alone are ignored.
    theirs = open_pubsub(server.url("prefix=school-2&connections=1&ttl=5"), Counters(), queue=10)
    async with ours.subscribe("a") as subscription:
        await theirs.publish("a", b"theirs")
        await ours.publish("a", b"ours")
        assert await take(subscription, 1) == [b"ours"]
    await ours.close()
    await theirs.close()


async def test_a_server_that_was_killed_gives_a_resync_and_then_messages_again(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        counters = Counters()
        pubsub = open_pubsub(server.url("timeout=1"), counters, queue=1000)
        async with pubsub.subscribe("a") as a, pubsub.subscribe("b") as b:
            await pubsub.publish("a", b"before")
            assert await take(a, 1) == [b"before"]
            server.kill()
            with pytest.raises(BackendError, match="cannot be reached"):
                await pubsub.publish("a", b"lost")
            server.start()
            assert await until_resync(a) == []
            assert await until_resync(b) == []
            await receives(a, pubsub, "a")
            await receives(b, pubsub, "b")
        assert counters["pubsub_reconnects"] == 1
        await pubsub.close()


async def test_in_a_stream_of_messages_what_is_missed_lies_before_a_resync(tmp_path: Path) -> None:
    """The server is killed and comes back while messages are published; a listener that reads the store at
    each RESYNC and receives each message after it knows the last state."""
    with RedisServer(tmp_path) as server:
        publisher = open_pubsub(server.url("timeout=1"), Counters(), queue=10)
        listener = open_pubsub(server.url("timeout=1"), Counters(), queue=100_000)
        store = known = 0
        resyncs = 0

        async def listen(ready: asyncio.Event) -> None:
            nonlocal known, resyncs
            async with listener.subscribe("a") as subscription:
                ready.set()
                async for message in subscription:
                    if message is RESYNC:
                        resyncs += 1
                        known = store
                    else:
                        known = max(known, int(message))

        ready = asyncio.Event()
        task = asyncio.create_task(listen(ready))
        await ready.wait()
        for number in range(1, 3001):
            store = number
            if number in (1000, 2000):
                server.kill()
                server.start()
            try:
                await publisher.publish("a", b"%d" % number)
            except BackendError:
                pass
            if number % 50 == 0:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            while known != store:
                await asyncio.sleep(0.01)
        assert resyncs >= 1
        await publisher.close()
        await listener.close()
        await task


async def test_a_link_that_hangs_is_found_and_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.pubsub.redis.PING_SECONDS", 0.3)
    with RedisServer(tmp_path) as server:
        pubsub = open_pubsub(server.url("timeout=1"), Counters(), queue=10)
        async with pubsub.subscribe("a") as subscription:
            server.freeze()
            began = asyncio.get_running_loop().time()
            with pytest.raises(BackendError, match="did not answer within 1 second"):
                await pubsub.publish("a", b"x")
            # Publishing does not wait again while the server is known to be unreachable.
            with pytest.raises(BackendError, match="did not answer within 1 second"):
                await asyncio.wait_for(pubsub.publish("a", b"y"), 0.1)
            assert asyncio.get_running_loop().time() - began < 4
            server.thaw()
            await until_resync(subscription)
            await receives(subscription, pubsub, "a")
        await pubsub.close()


async def test_a_message_that_could_not_be_published_makes_others_read_the_store_whose_link_held(
    server: RedisServer,
) -> None:
    counters = Counters()
    theirs = open_pubsub(server.url(), Counters(), queue=10)
    ours = open_pubsub(server.url(user="mute", password="word"), counters, queue=10)
    async with theirs.subscribe("a") as a, theirs.subscribe("b") as b:
        with pytest.raises(BackendError, match=r"does not let its user mute run PUBLISH; allow it .* \+publish"):
            await ours.publish("a", b"lost")
        with server.client() as client:
            client.execute_command("ACL SETUSER mute +publish")
        assert await until_resync(a) == []
        await receives(b, ours, "b")
        with server.client() as client:
            client.execute_command("ACL SETUSER mute -publish")
    assert counters["pubsub_resyncs"] >= 1
    await theirs.close()
    await ours.close()


async def test_a_topic_that_is_left_and_wanted_again_at_once_is_received(server: RedisServer) -> None:
    pubsub = open_pubsub(server.url(), Counters(), queue=10)
    for number in range(200):
        async with pubsub.subscribe("a") as subscription:
            await pubsub.publish("a", b"%d" % number)
            assert await take(subscription, 1) == [b"%d" % number]
    await pubsub.close()


async def test_subscribing_while_the_server_is_away_is_an_error(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    pubsub = open_pubsub(server.url(), Counters(), queue=10)
    with pytest.raises(BackendError, match=r"nothing listens there; check that it runs, and pubsub\.url"):
        async with pubsub.subscribe("a"):
            pass
    await pubsub.close()


async def test_forbidden_channels_are_an_error(server: RedisServer) -> None:
    pubsub = open_pubsub(server.url(user="elsewhere", password="word"), Counters(), queue=10)
    with pytest.raises(BackendError, match="does not let its user elsewhere use our channels; allow them"):
        async with pubsub.subscribe("a"):
            pass
    await pubsub.close()


async def test_after_a_failover_messages_go_through_the_new_master(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "one") as master, RedisServer(tmp_path / "two", replica_of=master) as replica:
        with SentinelServer(tmp_path / "sentinel", master) as sentinel:
            until(lambda: sentinel.replicas() == 1, "the sentinel knows the replica")
            pubsub = open_pubsub(sentinel.url("timeout=1"), Counters(), queue=10)
            async with pubsub.subscribe("a") as subscription:
                await pubsub.publish("a", b"1")
                assert await take(subscription, 1) == [b"1"]
                master.kill()
                await asyncio.to_thread(sentinel.fail_over)
                await until_resync(subscription)
                await receives(subscription, pubsub, "a")
                assert sentinel.master_port() == replica.port
            await pubsub.close()


@pytest.mark.slow
async def test_when_a_node_of_a_cluster_is_away_messages_come_again_once_it_is_back(tmp_path: Path) -> None:
    with RedisCluster(tmp_path) as cluster:
        pubsub = open_pubsub(cluster.url("timeout=1"), Counters(), queue=10)
        async with pubsub.subscribe("a") as subscription:
            for node in cluster.nodes:
                node.kill()
                node.start()
            until(cluster.is_well, "the cluster is well")
            await until_resync(subscription)
            await receives(subscription, pubsub, "a")
        await pubsub.close()


async def test_more_messages_than_may_wait_become_one_resync(server: RedisServer) -> None:
    counters = Counters()
    pubsub = open_pubsub(server.url(), counters, queue=1000, outgoing=5)
    async with pubsub.subscribe("a") as subscription:
        await asyncio.gather(*(pubsub.publish("a", b"%d" % number) for number in range(50)))
        assert counters["limit_pubsub_outgoing"] == 45
        await until_resync(subscription)
        await receives(subscription, pubsub, "a")
    await pubsub.close()
