"""Subscribers of one process: bounded queues, and RESYNC in place of missed messages."""

from __future__ import annotations

from appliance.counters import Counters
from appliance.pubsub import RESYNC
from appliance.pubsub.subscribers import Subscribers
from tests.contract.pubsub import take


async def test_a_resync_takes_the_place_of_all_that_waits() -> None:
    subscribers = Subscribers(Counters(), 10)
    with subscribers.subscribed("a") as a, subscribers.subscribed("b") as b:
        subscribers.deliver("a", b"1")
        subscribers.deliver("b", b"1")
        subscribers.resync("a")
        subscribers.deliver("a", b"2")
        assert await take(a, 1) == [RESYNC]
        assert await take(b, 1) == [b"1"]
        subscribers.resync()
        assert await take(a, 1) == [RESYNC]
        assert await take(b, 1) == [RESYNC]
        subscribers.deliver("a", b"3")
        assert await take(a, 1) == [b"3"]


async def test_a_message_too_many_is_counted_once_until_it_was_read() -> None:
    counters = Counters()
    subscribers = Subscribers(counters, 2)
    with subscribers.subscribed("a") as subscription:
        for _ in range(9):
            subscribers.deliver("a", b"x")
        assert counters["limit_pubsub_queue"] == 1
        assert await take(subscription, 1) == [RESYNC]


async def test_topics_are_those_with_a_subscriber() -> None:
    subscribers = Subscribers(Counters(), 2)
    assert "a" not in subscribers
    with subscribers.subscribed("a"), subscribers.subscribed("a"):
        assert "a" in subscribers
        assert subscribers.topics() == ["a"]
    assert subscribers.topics() == []


async def test_the_end_comes_after_what_waits() -> None:
    subscribers = Subscribers(Counters(), 2)
    with subscribers.subscribed("a") as subscription:
        subscribers.deliver("a", b"x")
        subscribers.end()
        assert [message async for message in subscription] == [b"x"]
