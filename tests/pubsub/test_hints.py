"""Hints that must arrive: one that could not be sent is sent later."""

from __future__ import annotations

import asyncio

import pytest

from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.health import Health
from appliance.pubsub import hints as module
from appliance.pubsub.hints import Hints
from appliance.pubsub.memory import MemoryPubSub
from appliance.tasks import Tasks

PATIENCE = 60.0


class _Away(MemoryPubSub):
    """Refuses the first messages."""

    refuses = 3

    async def publish(self, topic: str, message: bytes) -> None:
        if self.refuses:
            self.refuses -= 1
            raise BackendError("The pubsub is away.")
        await super().publish(topic, message)


async def test_a_hint_that_could_not_be_sent_is_sent_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN_SECONDS", 0.001)
    counters = Counters()
    health = Health(counters)
    tasks = Tasks(health, counters)
    pubsub = _Away(counters, 10)
    hints = Hints(pubsub, tasks, health, counters)
    async with pubsub.subscribe("topic") as subscription, asyncio.timeout(PATIENCE):
        assert not await hints.send_surely("topic", b"one")
        assert not await hints.send_surely("topic", b"two")
        messages = aiter(subscription)
        assert [await anext(messages), await anext(messages)] == [b"one", b"two"]
        assert await hints.send_surely("topic", b"three")
        assert await anext(messages) == b"three"
    await tasks.close()
