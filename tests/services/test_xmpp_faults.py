"""The XMPP pubsub while servers end, crash and hang and links break: gaps are noticed, nothing is lost."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from appliance.counters import Counters
from appliance.pubsub import RESYNC, Message, Subscription
from appliance.pubsub.xmpp.backend import XmppPubSub
from appliance.pubsub.xmpp.connection import Pace
from tests.contract.pubsub import take
from tests.services.ejabberd import Ejabberd
from tests.services.prosody import Prosody
from tests.services.xmpp import NODES, Link, url

pytestmark = pytest.mark.services

Server = Prosody | Ejabberd
QUICK = Pace(connect=4.0, answer=1.0, ping=0.5, first_pause=0.05, longest_pause=0.3, final_pause=0.5)
TOPIC = "class/1"


@pytest.fixture(scope="module")
def prosody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prosody]:
    with Prosody(tmp_path_factory.mktemp("prosody")) as server:
        yield server


@pytest.fixture(scope="module")
def ejabberd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ejabberd]:
    with Ejabberd(tmp_path_factory.mktemp("ejabberd")) as server:
        yield server


@pytest.fixture(params=["prosody", "ejabberd"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def prefix() -> str:
    return uuid.uuid4().hex[:8]


@asynccontextmanager
async def linked(server: Server, prefix: str, user: str) -> AsyncIterator[tuple[XmppPubSub, Link, Counters]]:
    """An appliance's pubsub whose connection to the server can be cut."""
    counters = Counters()
    async with Link(server.port) as link:
        pubsub = XmppPubSub(
            url(link.port, server.ca, user, f"nodes={NODES}&prefix={prefix}"), counters, 100_000, 5000, QUICK
        )
        try:
            yield pubsub, link, counters
        finally:
            await pubsub.close()


async def until(condition: Callable[[], object], what: str, patience: float = 30.0) -> None:
    """Wait for a condition without blocking the event loop."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"Waited in vain: {what}."
        await asyncio.sleep(0.01)


class Store:
    """A substitute for the key-value store: the number of its changes."""

    def __init__(self) -> None:
        self.changes = 0


class Listener:
    """A consumer that reads the store again at each `RESYNC`.

    Attributes:
        received: the received numbers, in order.
        known: every number that was received or read.
        resyncs: how often that happened.
    """

    def __init__(self, store: Store, subscription: Subscription) -> None:
        self.received: list[int] = []
        self.known: set[int] = set()
        self.resyncs = 0
        self._store = store
        self._task = asyncio.create_task(self._listen(subscription))

    async def _listen(self, subscription: Subscription) -> None:
        async for message in subscription:
            if message is RESYNC:
                self.resyncs += 1
                self.known |= set(range(self._store.changes))
            else:
                self.received.append(int(message.split(b" ")[0]))
                self.known.add(self.received[-1])


async def publish(pubsub: XmppPubSub, store: Store, number: int, size: int = 300) -> None:
    """Change the store, then publish, in the order of the pipeline."""
    for _ in range(number):
        change = store.changes
        store.changes += 1
        await pubsub.publish(TOPIC, (b"%d " % change).ljust(size, b"x"))


async def test_of_twenty_thousand_notifications_none_is_lost_or_comes_twice_while_connected(
    prosody: Prosody, prefix: str
) -> None:
    total = 20_000
    store = Store()
    async with (
        linked(prosody, prefix, "node1") as (one, _, counters),
        linked(prosody, prefix, "node2") as (two, _, _),
        linked(prosody, prefix, "node3") as (three, _, _),
        one.subscribe(TOPIC) as at_one,
        two.subscribe(TOPIC) as at_two,
        three.subscribe(TOPIC) as at_three,
    ):
        listeners = [Listener(store, subscription) for subscription in (at_one, at_two, at_three)]
        while store.changes < total:
            await publish(one, store, 250)
            await one.settle()
        for listener in listeners:
            await until(lambda listener=listener: len(listener.received) == total, "all of them")
            assert listener.received == list(range(total))
            assert listener.resyncs == 0
    assert counters.snapshot() == {}


async def test_nothing_is_missed_while_servers_end_crash_and_hang_and_links_break(server: Server, prefix: str) -> None:
    store = Store()
    done = False

    async def restarted(end: Callable[[], None]) -> None:
        await asyncio.to_thread(end)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.start)

    async def frozen(seconds: float) -> None:
        server.freeze()
        await asyncio.sleep(seconds)
        server.thaw()

    async with (
        linked(server, prefix, "node1") as (one, first, counted_one),
        linked(server, prefix, "node2") as (two, second, counted_two),
        one.subscribe(TOPIC) as at_one,
        two.subscribe(TOPIC) as at_two,
    ):
        listeners = [Listener(store, at_one), Listener(store, at_two)]

        async def stream() -> None:
            while not done:
                await publish(one, store, 5)
                await asyncio.sleep(0.005)

        streaming = asyncio.create_task(stream())
        faults: list[Callable[[], Awaitable[None]]] = [
            lambda: restarted(server.kill),
            lambda: asyncio.sleep(0, second.cut()),
            lambda: asyncio.sleep(0, first.cut()),
            lambda: frozen(0.3),
            lambda: frozen(2.5),
        ]
        if isinstance(server, Prosody):
            faults.append(lambda: restarted(server.stop))
        for fault in faults:
            before = store.changes
            await until(lambda before=before: store.changes > before + 100, "the stream goes on")
            await fault()
            after = store.changes
            for pubsub in (one, two):
                await until(lambda pubsub=pubsub: pubsub.connection.is_ready, "a session")
            for listener in listeners:
                await until(
                    lambda listener=listener, after=after: max(listener.known) > after, "it receives messages again"
                )
        done = True
        await streaming
        await one.settle()
        for listener in listeners:
            await until(lambda listener=listener: listener.known == set(range(store.changes)), "nothing is missing")
            assert listener.received == sorted(set(listener.received)), "in order, and none twice"
            # Once in each new session; a resumed session missed nothing.
        sessions = [pubsub.connection.sessions for pubsub in (one, two)]
        assert min(sessions) >= 2, "it was restarted"
        for listener, new, counted in zip(listeners, sessions, (counted_one, counted_two), strict=True):
            # A server that starts may refuse a subscription at first.
            assert 1 <= listener.resyncs <= new - 1 + counted["pubsub_gaps"] + counted["pubsub_refusals"]
            assert counted["pubsub_reconnections"] == new - 1
        assert counted_one["limit_pubsub_outgoing"] == 0


async def test_a_session_whose_link_was_cut_is_taken_up_again_and_misses_nothing(server: Server, prefix: str) -> None:
    async with (
        linked(server, prefix, "node1") as (one, _, _),
        linked(server, prefix, "node2") as (two, link, counters),
        two.subscribe(TOPIC) as subscription,
    ):
        link.cut()
        numbers: list[Message] = [b"%d" % number for number in range(50)]
        for number in numbers:
            await one.publish(TOPIC, bytes(number))  # type: ignore[arg-type]
            await one.settle()
        assert await take(subscription, 50) == numbers
        assert link.connections == 2
        assert counters["pubsub_reconnections"] == 0


async def test_a_lost_connection_counts_as_lost_at_once(prosody: Prosody, prefix: str) -> None:
    # A sender that still considers it ready would try again without pause, and nothing else would run.
    async with linked(prosody, prefix, "node1") as (one, link, _), one.subscribe(TOPIC):
        found: list[bool] = []
        one.connection.client.add_event_handler("disconnected", lambda _: found.append(one.connection.is_ready))
        link.cut()
        await until(lambda: found, "the loss is noticed")
        assert found == [False]


async def test_a_silent_link_is_given_up_in_bounded_time(prosody: Prosody, prefix: str) -> None:
    async with (
        linked(prosody, prefix, "node1") as (one, _, _),
        linked(prosody, prefix, "node2") as (two, link, _),
        two.subscribe(TOPIC) as subscription,
    ):
        link.fall_silent()
        fallen = time.monotonic()
        await until(lambda: not two.connection.is_ready, "the link counts as dead")
        assert time.monotonic() - fallen < QUICK.ping + QUICK.answer + 1.0
        await one.publish(TOPIC, b"x")
        async with asyncio.timeout(15):
            async for message in subscription:
                if message in (b"x", RESYNC):
                    break


async def test_while_the_server_is_away_this_process_receives_its_messages_and_others_later(
    server: Server, prefix: str
) -> None:
    async with (
        linked(server, prefix, "node1") as (one, _, _),
        linked(server, prefix, "node2") as (two, _, _),
        one.subscribe(TOPIC) as here,
        two.subscribe(TOPIC) as there,
    ):
        server.kill()
        await until(lambda: one.findings() and two.findings(), "both notice")
        assert "It is tried again." in one.findings()[0].text
        await one.publish(TOPIC, b"x")
        assert await take(here, 1) == [b"x"]
        await asyncio.to_thread(server.start)
        await until(lambda: not one.findings() and not two.findings(), "both are back")
        # ejabberd refuses at first, while it still reads its tables.
        await until(lambda: TOPIC in one.subscriptions and TOPIC in two.subscriptions, "both are subscribed again")
        await one.settle()
        assert await take(here, 1) == [RESYNC]
        received = await take(there, 1)
        while received[-1] is not RESYNC:
            received += await take(there, 1)
        await one.publish(TOPIC, b"y")
        assert await take(here, 1) == [b"y"], "and not x once more"
        while received[-1] != b"y":
            received += await take(there, 1)


async def test_who_subscribes_while_the_server_is_away_gets_messages_when_it_is_back(
    prosody: Prosody, prefix: str
) -> None:
    async with linked(prosody, prefix, "node1") as (one, _, _), linked(prosody, prefix, "node2") as (two, _, _):
        async with one.subscribe("other"):
            prosody.kill()
            await until(lambda: one.findings(), "it notices")
            async with one.subscribe(TOPIC) as subscription:
                await asyncio.to_thread(prosody.start)
                assert await take(subscription, 1) == [RESYNC]
                await two.publish(TOPIC, b"x")
                assert await take(subscription, 1) == [b"x"]
