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
from appliance.shared import SharedRecords
from appliance.tasks import cancelled

log = logging.getLogger(__name__)

_READ_AGAIN_SECONDS = 1.0

State = Literal["open", "paused"]


class Opened(msgspec.Struct):
    """That a stream was opened.

    Attributes:
        student_id: whose it is.
        stream: the stream.
        opening: a name of this opening, so that a node knows its own.
    """

    student_id: str
    stream: str
    opening: str


class Control(msgspec.Struct, omit_defaults=True):
    """What nodes tell each other about a class; exactly one field is set."""

    state: State | None = None
    message: str | None = None
    removed: str | None = None
    opened: Opened | None = None


def control_topic(class_id: str) -> str:
    """The topic of a class's control messages, each a `Control` as JSON. Students never read it."""
    return f"control/{class_id}"


class ClassStates:
    """The states of all classes, as this node knows them.

    Attributes:
        paused: ids of the paused classes; the pipeline looks at this very set.
        on_control: called with a class's id and each control message, from whichever node.
        on_missed: called with a class's id where messages may have been missed.
        on_stored: awaited when a class's state has changed in the store, before anybody is told.
    """

    def __init__(self, kvs: KVS, pubsub: PubSub, paused: set[str], records: SharedRecords | None = None) -> None:
        """Args:
        kvs: holds the states.
        pubsub: carries control messages.
        paused: where the ids of paused classes go.
        records: where the states stand if nodes share the store, so that they outlive it.
        """
        self.paused = paused
        self.on_missed: Callable[[str], None] = lambda class_id: None
        self._records = records
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
            try:
                await following
            except BackendError:
                del self._tasks[class_id]
                raise

    def follows(self, class_id: str) -> bool:
        """Whether this node follows a class."""
        return class_id in self._tasks

    async def close(self) -> None:
        """Stop following."""
        await cancelled(*self._tasks.values())

    def state(self, class_id: str) -> State:
        """The state of a class."""
        return "paused" if class_id in self.paused else "open"

    async def set_state(self, class_id: str, state: State) -> None:
        """Pause a class or let it go on, everywhere; it is so on this node when this returns.

        Raises:
            BackendError: the store or the pubsub cannot be reached.
        """
        await self._store(f"class/{class_id}", state)
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

    async def opened(self, class_id: str, opened: Opened) -> None:
        """Tell every node that a stream was opened here; the last one told of is the one that stays.

        Raises:
            BackendError: the pubsub cannot be reached.
        """
        await self._tell(class_id, Control(opened=opened))

    async def changed(self, class_id: str, *student_ids: str) -> None:
        """Tell dashboards that students joined or were removed, or, with none named, that the class itself changed.

        The empty id among the others says that the roster changed, and must be read again.
        """
        ids = ("", *student_ids) if student_ids else ()
        await self._pubsub.publish(class_topic(class_id), msgspec.json.encode(ids))

    async def _store(self, key: str, state: State) -> None:
        if self._records is not None:
            await self._records.update(key, lambda rows: {"state": state})
            return
        while True:
            [row] = await self._kvs.read([key])
            if not await self._kvs.commit([Change(key, row.version, {"state": Encoded(state.encode())})]):
                return

    async def _tell(self, class_id: str, control: Control) -> None:
        await self._pubsub.publish(control_topic(class_id), msgspec.json.encode(control))

    async def _follow(self, class_id: str, following: asyncio.Future[None]) -> None:
        try:
            async with self._pubsub.subscribe(control_topic(class_id)) as subscription:
                await self._read(class_id)
                following.set_result(None)
                async for message in subscription:
                    if message is RESYNC:
                        self.on_missed(class_id)
                        await self._read_again(class_id)
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

    async def _read_again(self, class_id: str) -> None:
        """Read a class's state until the store gives it: the pubsub may be back before the store."""
        while True:
            try:
                await self._read(class_id)
            except BackendError:
                await asyncio.sleep(_READ_AGAIN_SECONDS)
            else:
                return

    async def _read(self, class_id: str) -> None:
        key = f"class/{class_id}"
        if self._records is not None:
            [records] = await self._records.read(key)
            paused = bytes(records.get("state", b"")) == b'"paused"'
        else:
            [row] = await self._kvs.read([key])
            paused = row.fields.get("state") == b"paused"
        self._apply(class_id, Control(state="paused" if paused else "open"))

    def _apply(self, class_id: str, control: Control) -> None:
        if control.state is not None:
            if control.state == self.state(class_id):
                return
            (self.paused.add if control.state == "paused" else self.paused.discard)(class_id)
        self.on_control(class_id, control)


async def _nothing() -> None:
    pass
