"""Control of classes: whether a class is open or paused, and messages to all its students, on every node.

The state is in the key-value store (row ``class/ID``). A control message on the pubsub makes every node apply it at
once; a node that missed messages reads the store again.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Literal

import msgspec

from appliance.errors import BackendError
from appliance.kvs import KVS, Change, Encoded
from appliance.kvs.records import SharedRecords
from appliance.listeners import AsyncListeners, Listeners
from appliance.pipeline import class_topic
from appliance.pubsub.hints import Hints, Listening, decoded

_FIRST_SECONDS = 1.0
"""How long `ClassControl.follow` waits until control messages arrive; the state itself is read from the store."""

ClassState = Literal["open", "paused"]


class Opened(msgspec.Struct):
    """A stream was opened.

    Attributes:
        student_id: of the student.
        stream: id of the stream.
        opening: unique name of this opening, by which a node knows its own.
    """

    student_id: str
    stream: str
    opening: str


class Control(msgspec.Struct, omit_defaults=True):
    """A control message about a class from one node to all; exactly one field is set.

    Attributes:
        state: the class's new state.
        message: the educator's message to the students.
        removed: id of a student who was removed from the class.
        merged: id of a student who was merged into another one.
        opened: a stream that was opened.
    """

    state: ClassState | None = None
    message: str | None = None
    removed: str | None = None
    merged: str | None = None
    opened: Opened | None = None


def control_topic(class_id: str) -> str:
    """The topic of a class's control messages, each a `Control` as JSON. No student reads it."""
    return f"control/{class_id}"


class ClassControl:
    """The states of all classes, as this node knows them.

    Attributes:
        paused: ids of the paused classes; the pipeline reads the same set.
        on_control: called with a class's id and each control message, from any node.
        on_missed: called with a class's id if messages may have been missed.
        on_stored: awaited when a class's state has changed in the store, before it is announced.
        on_changed: called with a class's id and the ids given to `changed`, so that this node's dashboards show the
            change even if the hint is lost; without ids also when the state that this node knows has changed.
    """

    def __init__(self, kvs: KVS, hints: Hints, paused: set[str], records: SharedRecords | None = None) -> None:
        """Args:
        kvs: holds the states.
        hints: carries control messages.
        paused: gets the ids of paused classes.
        records: hold the states instead if nodes share the store, so that a loss of its memory does not lose them.
        """
        self.paused = paused
        self.on_control: Listeners[[str, Control]] = Listeners("control messages")
        self.on_missed: Listeners[[str]] = Listeners("missed control messages")
        self.on_stored: AsyncListeners[[]] = AsyncListeners()
        self.on_changed: Listeners[[str, tuple[str, ...]]] = Listeners("changes of a class")
        self._records = records
        self._kvs = kvs
        self._hints = hints
        self._listening: dict[str, Listening] = {}
        self._writes = 0
        self._closed = False

    async def follow(self, class_id: str) -> None:
        """Read a class's state, and follow its changes from now on; while the pubsub is away, changes come late.

        Raises:
            BackendError: the store cannot be reached. The class is followed as soon as it can.
        """
        if self._closed:
            # A request that had waited for the store while the node closed: nobody would end what it begins here.
            return
        listening = self._listening.get(class_id)
        if listening is None:
            listening = self._listening[class_id] = self._hints.listen(
                "control",
                control_topic(class_id),
                owner="classes",
                class_id=class_id,
                on_message=partial(self._on_message, class_id),
                reread=partial(self._reread, class_id),
            )
            await listening.first(_FIRST_SECONDS)
        if not listening.live or self._hints.away:
            await self._read(class_id)

    async def reread(self) -> None:
        """Read the states of all classes that are followed again.

        A store that lost its memory has got some back, or another node ended before it could announce a change.

        Raises:
            BackendError: the store cannot be reached.
        """
        if self._listening:
            await self._read(*self._listening)

    def follows(self, class_id: str) -> bool:
        """Whether this node follows a class."""
        return class_id in self._listening

    async def close(self) -> None:
        """Stop following."""
        self._closed = True
        listening, self._listening = self._listening, {}
        await asyncio.gather(*(one.close() for one in listening.values()))

    def state(self, class_id: str) -> ClassState:
        """The state of a class."""
        return "paused" if class_id in self.paused else "open"

    async def set_state(self, class_id: str, state: ClassState) -> None:
        """Pause or resume a class; when this returns, the store and this node have the new state.

        Other nodes get a message, at once or when the pubsub is back.

        Raises:
            BackendError: the store cannot be reached.
        """
        await self._store(f"class/{class_id}", state)
        self._writes += 1
        await self.on_stored()
        self._apply(class_id, Control(state=state))
        await self._hints.send_surely(control_topic(class_id), msgspec.json.encode(Control(state=state)))
        await self.changed(class_id)

    async def message(self, class_id: str, text: str) -> None:
        """Send a message to every student of a class who is connected to any node.

        Raises:
            BackendError: the pubsub cannot be reached, or this node is not subscribed. Messages are not stored, so
                some students would never see it.
        """
        listening = self._listening.get(class_id)
        if listening is not None and not listening.live:
            raise BackendError("The pubsub is away, so the message was not sent.")
        if not await self._send(class_id, Control(message=text)):
            raise BackendError("The pubsub is away. Not every student may get the message.")

    async def removed(self, class_id: str, student_id: str) -> None:
        """Disconnect a student who was removed from the class, at every node; at this one at once."""
        control = Control(removed=student_id)
        if not await self._send(class_id, control):
            self._apply(class_id, control)

    async def merged(self, class_id: str, student_id: str) -> None:
        """Let a student who was merged connect again, as the other student, at every node; at this one at once."""
        control = Control(merged=student_id)
        self._apply(class_id, control)
        await self._send(class_id, control)

    async def opened(self, class_id: str, opened: Opened) -> None:
        """Announce to every node that a stream was opened here; the opening that was announced last stays."""
        await self._send(class_id, Control(opened=opened))

    async def changed(self, class_id: str, *student_ids: str) -> None:
        """Announce to dashboards that students joined or were removed, or, without ids, that the class changed.

        An empty id is added to the others; it means that the roster must be read again.
        """
        ids = ("", *student_ids) if student_ids else ()
        self.on_changed(class_id, ids)
        await self._hints.send_surely(class_topic(class_id), msgspec.json.encode(ids))

    async def _store(self, key: str, state: ClassState) -> None:
        if self._records is not None:
            await self._records.update(key, lambda rows: {"state": state})
            return
        while True:
            [row] = await self._kvs.read([key])
            if not await self._kvs.commit([Change(key, row.version, {"state": Encoded(state.encode())})]):
                return

    async def _send(self, class_id: str, control: Control) -> bool:
        return await self._hints.send(control_topic(class_id), msgspec.json.encode(control))

    async def _on_message(self, class_id: str, message: bytes) -> None:
        control = decoded(message, Control)
        if control.state is not None:
            # After an outage of the pubsub an old message may come late; the store has the current state.
            await self._read(class_id)
        else:
            self._apply(class_id, control)

    async def _reread(self, class_id: str, missed: bool) -> None:
        if missed:
            self.on_missed(class_id)
        await self._read(class_id)

    async def _read(self, *class_ids: str) -> None:
        while True:
            writes = self._writes
            paused = await self._stored_paused([f"class/{class_id}" for class_id in class_ids])
            if writes == self._writes:
                break
            # The states that were read may be older than one that this node wrote in the meantime.
        for class_id, is_paused in zip(class_ids, paused, strict=True):
            self._apply(class_id, Control(state="paused" if is_paused else "open"))

    async def _stored_paused(self, keys: list[str]) -> list[bool]:
        if self._records is not None:
            return [bytes(row.get("state", b"")) == b'"paused"' for row in await self._records.read(*keys)]
        return [row.fields.get("state") == b"paused" for row in await self._kvs.read(keys)]

    def _apply(self, class_id: str, control: Control) -> None:
        if control.state is not None:
            if control.state == self.state(class_id):
                return
            (self.paused.add if control.state == "paused" else self.paused.discard)(class_id)
            # The hint for dashboards may have come before this one.
            self.on_changed(class_id, ())
        self.on_control(class_id, control)
