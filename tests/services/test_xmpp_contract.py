"""The contract of a pubsub, on real XMPP servers: one appliance, and two that send to each other."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from appliance.counters import Counters
from appliance.pubsub import PubSub, Subscription
from appliance.pubsub.xmpp.backend import XmppPubSub
from tests.contract.pubsub import QUEUE, PubSubContract
from tests.services.ejabberd import Ejabberd
from tests.services.prosody import Prosody
from tests.services.xmpp import NODES, url

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def prosody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prosody]:
    with Prosody(tmp_path_factory.mktemp("prosody")) as server:
        yield server


@pytest.fixture(scope="module")
def ejabberd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ejabberd]:
    with Ejabberd(tmp_path_factory.mktemp("ejabberd")) as server:
        yield server


class Two(PubSub):
    """Publishes as one node and listens as another; it waits for each publication."""

    def __init__(self, publisher: XmppPubSub, listener: XmppPubSub) -> None:
        self.publisher = publisher
        self.listener = listener

    async def publish(self, topic: str, message: bytes) -> None:
        await self.publisher.publish(topic, message)
        await self.publisher.settle()

    def subscribe(self, topic: str) -> AbstractAsyncContextManager[Subscription]:
        return self.listener.subscribe(topic)

    async def close(self) -> None:
        await self.publisher.close()
        await self.listener.close()


class OnXmpp(PubSubContract):
    """The contract; a subclass brings the fixture ``server``."""

    @pytest.fixture(params=["one node", "two nodes"])
    async def pubsub(self, server: Prosody | Ejabberd, request: pytest.FixtureRequest) -> AsyncIterator[PubSub]:
        # A separate prefix for each test.
        options = f"nodes={NODES}&prefix={uuid.uuid4().hex[:8]}"
        one, two = (
            XmppPubSub(url(server.port, server.ca, user, options), Counters(), QUEUE, 1000)
            for user in ("node1", "node2")
        )
        pubsub = one if request.param == "one node" else Two(one, two)
        yield pubsub
        await pubsub.close()
        await two.close()

    async def settled(self, pubsub: PubSub) -> None:
        if isinstance(pubsub, XmppPubSub):
            await pubsub.settle()


class TestProsody(OnXmpp):
    @pytest.fixture
    def server(self, prosody: Prosody) -> Prosody:
        return prosody


class TestEjabberd(OnXmpp):
    @pytest.fixture
    def server(self, ejabberd: Ejabberd) -> Ejabberd:
        return ejabberd
