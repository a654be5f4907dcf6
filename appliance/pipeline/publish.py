"""Tells consumers which students changed: one message for each class, merged while the last ones are on their way.

A pubsub that is slow or away holds up no commit and no acknowledgement. It costs freshness: what could not be published
is counted, and who listens reads the store again when the pubsub is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import msgspec

from appliance.counters import Counters
from appliance.errors import BackendError, place_of
from appliance.pubsub import PubSub
from appliance.states import Student
from appliance.tasks import Supervised

log = logging.getLogger(__name__)

PUBLISH_SECONDS = 10.0
"""A message that is not handed over within so long counts as lost."""
_LAST_SECONDS = 1.0


def class_topic(class_id: str) -> str:
    """The topic that says which students of a class changed; a message is a JSON array of their ids."""
    return f"class/{class_id}"


class Publisher:
    """Publishes changes in the order in which they were committed."""

    def __init__(self, pubsub: PubSub, counters: Counters) -> None:
        """Args:
        pubsub: where to.
        counters: counts messages that could not be handed over.
        """
        self._pubsub = pubsub
        self._counters = counters
        self._changed: dict[str, dict[str, None]] = {}
        self._wake = asyncio.Event()

    def changed(self, students: Iterable[Student]) -> None:
        """Note that students changed; it is published soon."""
        for student in students:
            self._changed.setdefault(student.class_id, {})[student.id] = None
        if self._changed:
            self._wake.set()

    async def run(self, task: Supervised) -> None:
        """Publish what changed, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._publish_all()

    async def close(self) -> None:
        """Publish what is left, if that is quickly done."""
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await self._publish_all()
        except TimeoutError:
            pass

    async def _publish_all(self) -> None:
        changed, self._changed = self._changed, {}
        for class_id, ids in changed.items():
            try:
                async with asyncio.timeout(PUBLISH_SECONDS):
                    await self._pubsub.publish(class_topic(class_id), msgspec.json.encode(list(ids)))
            except Exception as error:
                if self._counters.add("publish_failures") == 1:
                    log.error("%s", error if isinstance(error, BackendError) else place_of(error))
