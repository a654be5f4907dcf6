"""Publishes which students changed: one message for each class, merged while the last ones are under way.

A pubsub that is slow or unavailable delays no commit and no acknowledgement. It costs freshness: messages that could
not be published are counted, and published later: other nodes may have had their connection to the pubsub all the time,
and would not read the store again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import msgspec

from appliance.counters import Counters
from appliance.errors import BackendError, place_of
from appliance.pubsub import PubSub
from appliance.states import StudentStates
from appliance.tasks import BackOff, Supervised

log = logging.getLogger(__name__)

PUBLISH_SECONDS = 10.0
"""A message that the pubsub has not accepted within so long counts as lost."""
LAST_SECONDS = 1.0
"""How long the last messages may take when the appliance closes."""


def class_topic(class_id: str) -> str:
    """The topic of the changes of a class; a message is a JSON array of the ids of students who changed."""
    return f"class/{class_id}"


class Publisher:
    """Publishes changes in the order in which they were committed."""

    def __init__(self, pubsub: PubSub, counters: Counters) -> None:
        """Args:
        pubsub: where messages go.
        counters: counts messages that could not be published.
        """
        self._pubsub = pubsub
        self._counters = counters
        self._changed: dict[str, dict[str, None]] = {}
        self._wake = asyncio.Event()

    def changed(self, students: Iterable[StudentStates]) -> None:
        """Publish soon that students changed."""
        for student in students:
            if not student.class_id:
                # Nobody was connected since the start, and no line of the archive named the class.
                continue
            self._changed.setdefault(student.class_id, {})[student.id] = None
        if self._changed:
            self._wake.set()

    async def run(self, task: Supervised) -> None:
        """Publish changes, until cancelled."""
        back_off = BackOff(first=0.2)
        while True:
            await self._wake.wait()
            self._wake.clear()
            if await self._publish_all():
                back_off.reset()
            else:
                await asyncio.sleep(back_off.next())
                self._wake.set()

    async def close(self) -> None:
        """Publish the changes that are left, if that takes a second at most."""
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self._publish_all()
        except TimeoutError:
            pass

    async def _publish_all(self) -> bool:
        """Publish what changed; what could not be published is left. Returns whether nothing is left."""
        changed, self._changed = self._changed, {}
        failed = False
        for class_id, ids in changed.items():
            try:
                async with asyncio.timeout(PUBLISH_SECONDS):
                    await self._pubsub.publish(class_topic(class_id), msgspec.json.encode(list(ids)))
            except Exception as error:
                failed = True
                self._changed.setdefault(class_id, {}).update(ids)
                if self._counters.add("publish_failures") == 1:
                    log.error("%s", error if isinstance(error, BackendError) else place_of(error))
        return not failed
