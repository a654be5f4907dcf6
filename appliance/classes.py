"""Class state: whether a class is open or paused, and words that go to all its students, on every node.

The state stands in the key-value store (row ``class/ID``); a control message on the pubsub makes every node act on
it at once, and a node that missed messages reads the store again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from appliance.errors import BackendError
from appliance.kvs import KVS, Change, Encoded
from appliance.pipeline import class_topic
from appliance.pubsub import RESYNC, PubSub

log = logging.getLogger(__name__)

State = Literal["open", "paused"]


class Control(msgspec.Struct, omit_defaults=True):
    """What nodes tell each other about a class; exactly one field is set."""

    state: State | None = None
    message: str | None = None
    removed: str | None = None


def control_topic(class_id: str) -> str:
    """The topic of a class's control messages, each a `Control` as JSON. Students never read it."""
    return f"control/{class_id}"


class ClassStates:
    """The states of all classes, as this node knows them.

    Attributes:
        paused: ids of the paused classes; the pipeline looks at this very set.
        on_control: called with a class's id and each control message, from whichever node.
        on_stored: awaited when a class's state has changed in the store, before anybody is told.
    """

    def __init__(self, kvs: KVS, pubsub: PubSub, paused: set[str]) -> None:
        self.paused = paused
        self.on_control: Callable[[str, Control], None] = lambda class_id, control: None
        self.on_stored: Callable[[], Awaitable[None]] = _nothing
        self._kvs = kvs
        self._pubsub = pubsub
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def follow(self, class_id: str) -> None:
        """Read a class's state and keep to it from now on.

        Raises:
            BackendError: the store or the pubsub cannot be reached.
        """
        if class_id not in self._tasks:
            following = asyncio.get_running_loop().create_future()
            self._tasks[class_id] = asyncio.create_task(self._follow(class_id, following), name=f"control {class_id}")
            await following

    async def close(self) -> None:
        """Stop following."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def state(self, class_id: str) -> State:
        """The state of a class."""
        return "paused" if class_id in self.paused else "open"

    async def set_state(self, class_id: str, state: State) -> None:
        """Pause a class or let it go on, everywhere; it is so on this node when this returns.

        Raises:
            BackendError: the store or the pubsub cannot be reached.
        """
        key = f"class/{class_id}"
        while True:
            [row] = await self._kvs.read([key])
            if not await self._kvs.commit([Change(key, row.version, {"state": Encoded(state.encode())})]):
                break
        await self.on_stored()
        self._apply(class_id, Control(state=state))
        await self._tell(class_id, Control(state=state))
        await self._pubsub.publish(class_topic(class_id), b"[]")

    async def message(self, class_id: str, text: str) -> None:
        """Send words to every student of a class who is connected, to whichever node.

        Raises:
            BackendError: the pubsub cannot be reached.
        """
        await self._tell(class_id, Control(message=text))

    async def removed(self, class_id: str, student_id: str) -> None:
        """Make every node let go of a student who was taken out of the class."""
        await self._tell(class_id, Control(removed=student_id))

    async def changed(self, class_id: str, *student_ids: str) -> None:
        """Tell dashboards that students came or went, or, with none named, that the class itself changed."""
        await self._pubsub.publish(class_topic(class_id), msgspec.json.encode(student_ids))

    async def _tell(self, class_id: str, control: Control) -> None:
        await self._pubsub.publish(control_topic(class_id), msgspec.json.encode(control))

    async def _follow(self, class_id: str, following: asyncio.Future[None]) -> None:
        try:
            async with self._pubsub.subscribe(control_topic(class_id)) as subscription:
                await self._read(class_id)
                following.set_result(None)
                async for message in subscription:
                    if message is RESYNC:
                        await self._read(class_id)
                    else:
                        await self._hear(class_id, message)
        except BackendError as error:
            if following.done():
                log.error("Control messages of a class no longer arrive: %s", error)
            else:
                following.set_exception(error)

    async def _hear(self, class_id: str, message: bytes) -> None:
        try:
            control = msgspec.json.decode(message, type=Control)
        except msgspec.DecodeError:
            log.warning("A control message that this version does not understand was left aside.")
            return
        if control.state is not None:
            # After an outage of the pubsub an old message may come late; the store knows how it is.
            await self._read(class_id)
        else:
            self._apply(class_id, control)

    async def _read(self, class_id: str) -> None:
        [row] = await self._kvs.read([f"class/{class_id}"])
        state: State = "paused" if row.fields.get("state") == b"paused" else "open"
        self._apply(class_id, Control(state=state))

    def _apply(self, class_id: str, control: Control) -> None:
        if control.state is not None:
            if control.state == self.state(class_id):
                return
            (self.paused.add if control.state == "paused" else self.paused.discard)(class_id)
        self.on_control(class_id, control)


async def _nothing() -> None:
    pass
