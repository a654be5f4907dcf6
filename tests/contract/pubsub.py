"""The contract of a pubsub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from appliance.errors import BackendError
from appliance.pubsub import RESYNC, Message, PubSub, Subscription

QUEUE = 50
"""How many messages may wait for one subscriber in the fixture's pubsub."""


async def take(subscription: Subscription, number: int) -> list[Message]:
    """The next `number` messages."""
    taken: list[Message] = []
    async with asyncio.timeout(10):
        async for message in subscription:
            taken.append(message)
            if len(taken) == number:
                break
    return taken


class PubSubContract:
    """Subclass it with a fixture ``pubsub`` whose subscribers may have `QUEUE` messages waiting."""

    @pytest.fixture
    async def pubsub(self) -> AsyncIterator[PubSub]:
        raise NotImplementedError
        yield

    async def test_messages_arrive_whole_and_in_order(self, pubsub: PubSub) -> None:
        messages = [b"%d" % number for number in range(QUEUE - 1)] + [b'\0\xff"\xf0\x9f\x98\x80<&>']
        async with pubsub.subscribe("class/1") as subscription:
            for message in messages:
                await pubsub.publish("class/1", message)
            assert await take(subscription, len(messages)) == messages

    async def test_every_subscriber_of_a_topic_gets_them(self, pubsub: PubSub) -> None:
        async with pubsub.subscribe("a") as one, pubsub.subscribe("a") as two:
            await pubsub.publish("a", b"x")
            assert await take(one, 1) == [b"x"]
            assert await take(two, 1) == [b"x"]

    async def test_other_topics_are_not_received(self, pubsub: PubSub) -> None:
        async with pubsub.subscribe("class/1") as one, pubsub.subscribe("class/11") as eleven:
            await pubsub.publish("class/11", b"eleven")
            await pubsub.publish("class/1", b"one")
            assert await take(one, 1) == [b"one"]
            assert await take(eleven, 1) == [b"eleven"]

    async def test_what_was_published_before_is_not_received(self, pubsub: PubSub) -> None:
        await pubsub.publish("a", b"before")
        async with pubsub.subscribe("a") as subscription:
            await pubsub.publish("a", b"after")
            assert await take(subscription, 1) == [b"after"]

    async def test_a_topic_without_subscribers_takes_messages(self, pubsub: PubSub) -> None:
        await pubsub.publish("nobody", b"x")

    async def test_who_left_gets_nothing_and_who_comes_again_gets_messages_again(self, pubsub: PubSub) -> None:
        async with pubsub.subscribe("a") as stays:
            async with pubsub.subscribe("a"):
                pass
            await pubsub.publish("a", b"1")
            # Once it is received here, it is not still on its way to anybody.
            assert await take(stays, 1) == [b"1"]
            async with pubsub.subscribe("a") as again:
                await pubsub.publish("a", b"2")
                assert await take(again, 1) == [b"2"]
            assert await take(stays, 1) == [b"2"]

    async def test_messages_that_are_published_at_once_keep_their_order(self, pubsub: PubSub) -> None:
        messages = [b"%d" % number for number in range(QUEUE)]
        async with pubsub.subscribe("a") as subscription:
            await asyncio.gather(*(pubsub.publish("a", message) for message in messages))
            assert await take(subscription, QUEUE) == messages

    async def test_topics_may_have_any_characters(self, pubsub: PubSub) -> None:
        topics = ["class/é€😀", "class/*", "class/a b", "class/[x]?", "class/A", "class/a", "class/%41"]
        for subscribed in topics:
            async with pubsub.subscribe(subscribed) as subscription:
                for topic in topics:
                    await pubsub.publish(topic, topic.encode())
                assert await take(subscription, 1) == [subscribed.encode()]
                await pubsub.publish(subscribed, b"last")
                assert await take(subscription, 1) == [b"last"]

    async def test_a_waiting_subscriber_can_be_cancelled(self, pubsub: PubSub) -> None:
        waiting = asyncio.Event()

        async def listen() -> None:
            async with pubsub.subscribe("a") as subscription:
                waiting.set()
                async for _ in subscription:
                    pass

        task = asyncio.create_task(listen())
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await pubsub.publish("a", b"x")

    async def test_a_slow_subscriber_gets_resync_and_then_further_messages(self, pubsub: PubSub) -> None:
        async with pubsub.subscribe("a") as slow:
            for number in range(QUEUE * 4):
                await pubsub.publish("a", b"%d" % number)
            await self.settled(pubsub)
            async with asyncio.timeout(10):
                async for message in slow:
                    if message is RESYNC:
                        break
            await pubsub.publish("a", b"last")
            messages: list[Message] = []
            while b"last" not in messages:
                messages += await take(slow, 1)
            assert messages[-1] == b"last"

    async def test_a_slow_subscriber_slows_no_other(self, pubsub: PubSub) -> None:
        async with pubsub.subscribe("a"), pubsub.subscribe("a") as quick:
            for number in range(QUEUE * 2):
                await pubsub.publish("a", b"%d" % number)
                assert await take(quick, 1) == [b"%d" % number]

    async def test_closing_ends_subscriptions(self, pubsub: PubSub) -> None:
        ended = []

        async def listen(ready: asyncio.Event) -> None:
            async with pubsub.subscribe("a") as subscription:
                ready.set()
                async for _ in subscription:
                    pass
            ended.append(True)

        ready = asyncio.Event()
        task = asyncio.create_task(listen(ready))
        await ready.wait()
        await pubsub.close()
        async with asyncio.timeout(10):
            await task
        assert ended == [True]
        with pytest.raises(BackendError):
            await pubsub.publish("a", b"x")

    async def settled(self, pubsub: PubSub) -> None:
        """Wait until all that was published has reached its subscribers' queues; override it if that takes time."""
