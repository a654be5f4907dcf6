"""The embedded pubsub."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from appliance.counters import Counters
from appliance.errors import SettingsError
from appliance.pubsub import RESYNC, PubSub, open_pubsub
from tests.contract.pubsub import QUEUE, PubSubContract, take


class TestMemoryPubSub(PubSubContract):
    @pytest.fixture
    async def pubsub(self) -> AsyncIterator[PubSub]:
        pubsub = open_pubsub("memory://", Counters(), queue=QUEUE)
        yield pubsub
        await pubsub.close()


async def test_a_full_queue_becomes_one_resync_and_is_counted() -> None:
    counters = Counters()
    pubsub = open_pubsub("memory://", counters, queue=3)
    async with pubsub.subscribe("a") as subscription:
        for number in range(9):
            await pubsub.publish("a", b"%d" % number)
        assert await take(subscription, 1) == [RESYNC]
        await pubsub.publish("a", b"next")
        assert await take(subscription, 1) == [b"next"]
    assert counters.snapshot() == {"limit_pubsub_queue": 1}


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(SettingsError, match="'carrier-pigeon' is not a pubsub"):
        open_pubsub("carrier-pigeon://", Counters(), queue=1)
