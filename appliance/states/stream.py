"""A stream: the events of one browser tab of one student; their numbers, and those that are queued."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from appliance.archive import Record, StreamLines
from appliance.errors import ObserverError
from appliance.events import Clock
from appliance.states.row import StreamPosition

if TYPE_CHECKING:
    from appliance.states.cells import EventRoute, StateCell
    from appliance.states.student_states import StudentStates

UNUSABLE = "unusable"
"""The code of all rejected events of a batch that could not be used, also of those that are valid themselves."""


class StreamState(Enum):
    """What a stream is doing."""

    OPENING = "opening"
    """Its row is being read."""
    OPEN = "open"
    """Events are accepted and reduced."""
    PAUSED = "paused"
    """Events are accepted and archived, and not reduced: the class is paused."""
    QUARANTINED = "quarantined"
    """A batch of it could not be used; nothing is accepted until it is opened again."""
    CLOSED = "closed"
    """Nobody is connected; nothing is accepted until it is opened again."""


_NEXT = {
    StreamState.OPENING: {StreamState.OPEN, StreamState.PAUSED, StreamState.CLOSED, StreamState.QUARANTINED},
    StreamState.OPEN: {StreamState.PAUSED, StreamState.QUARANTINED, StreamState.CLOSED, StreamState.OPENING},
    StreamState.PAUSED: {StreamState.OPEN, StreamState.QUARANTINED, StreamState.CLOSED, StreamState.OPENING},
    StreamState.QUARANTINED: {StreamState.OPENING, StreamState.CLOSED},
    # Events that were accepted before it was closed may turn out to be unusable afterwards.
    StreamState.CLOSED: {StreamState.OPENING, StreamState.QUARANTINED},
}
ACCEPTING = frozenset({StreamState.OPEN, StreamState.PAUSED})
"""The states in which events are accepted."""


class StreamStateError(ObserverError):
    """A change to a state that does not follow the stream's own."""


class StreamClosedError(ObserverError):
    """The stream accepts no events: it was closed, or quarantined. The text says why."""


class QueuedFrame(msgspec.Struct, gc=False):
    """Events of a stream that arrived in one frame, or a part of a frame, and are not reduced yet.

    Attributes:
        first: number of its first event.
        received: when it arrived, in milliseconds since the epoch.
        paused: whether the class was paused then.
        texts: the JSON text of each event.
        size: bytes of the texts.
    """

    first: int
    received: int
    paused: bool
    texts: Sequence[bytes]
    size: int = 0

    @property
    def last(self) -> int:
        """Number of its last event."""
        return self.first + len(self.texts) - 1

    def after(self, number: int) -> QueuedFrame:
        """The same without the events up to a number."""
        texts = self.texts[max(0, number + 1 - self.first) :]
        return QueuedFrame(max(self.first, number + 1), self.received, self.paused, texts, sum(map(len, texts)))


class Stream:
    """The numbers of one stream.

    Attributes:
        state: changed by `become` alone.
        reason: why it was quarantined last, a sentence; "" where it was not.
        last: number of the last event accepted.
        applied: number of the last event that was reduced, rejected, or left out because the class was paused.
        durable_to: number of the last event whose commit is done; all up to it may be acknowledged.
        paused_to: number of the last one up to `applied` that no reducer got; see `StreamPosition`. 0 for none.
        queued: the frames after `applied` that no commit has taken yet.
        queued_cost: of all of them; see `appliance.pipeline.scheduler`.
        clock: gives events their times.
        cells: the cells that events change, by route and the event's values of the route's fields; kept because a
            student works on one thing for long.
    """

    __slots__ = (
        "_awaited",
        "applied",
        "cells",
        "clock",
        "durable_to",
        "id",
        "last",
        "lines",
        "paused_to",
        "queued",
        "queued_cost",
        "reason",
        "routes",
        "source",
        "state",
        "student",
    )

    def __init__(self, student: StudentStates, id: str, source: str) -> None:
        self.student = student
        self.id = id
        self.state = StreamState.CLOSED
        self.reason = ""
        self.last = self.applied = self.durable_to = self.paused_to = 0
        self.queued: list[QueuedFrame] = []
        self.queued_cost = 0
        self.cells: dict[tuple[EventRoute, object], tuple[StateCell, ...]] = {}
        self.clock = Clock(0)
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []
        self.set_source(source)

    def become(self, state: StreamState) -> None:
        """Change the state.

        Raises:
            StreamStateError: that state does not follow this one.
        """
        if state is self.state:
            return
        if state not in _NEXT[self.state]:
            expected = " or ".join(sorted(one.value for one in _NEXT[self.state]))
            raise StreamStateError(f"A stream that is {self.state.value} cannot become {state.value}, only {expected}.")
        self.state = state

    async def durable(self, number: int) -> None:
        """Return once the event with this number, and all before it, may be acknowledged.

        Raises:
            StreamClosedError: it never will be: its batch could not be used and was archived as rejected.
        """
        if number <= self.durable_to:
            return
        future = asyncio.get_running_loop().create_future()
        self._awaited.append((number, future))
        await future

    def settle(self, number: int) -> None:
        """Note that all events up to a number are durable, and wake the tasks that wait for it."""
        if number > self.durable_to:
            self.durable_to = number
        if self._awaited:
            self._resolve(None)

    def fail(self, reason: str) -> None:
        """Note that events that are not durable now never will be; the tasks that wait for one get an error."""
        if self._awaited:
            self._resolve(reason)

    def _resolve(self, reason: str | None) -> None:
        left = []
        for number, future in self._awaited:
            if future.done():
                continue
            if reason is not None:
                future.set_exception(StreamClosedError(reason))
            elif number <= self.durable_to:
                future.set_result(None)
            else:
                left.append((number, future))
        self._awaited = left

    @property
    def position(self) -> StreamPosition:
        """The position that the store must hold."""
        return StreamPosition(self.applied, self.clock.last, self.paused_to)

    def move_to(self, position: StreamPosition) -> None:
        """Take over the position that the store holds.

        Events that were accepted beyond it stay accepted. The time does not go back, since lines with it may be in the
        archive.
        """
        self.applied = position.applied
        self.paused_to = position.paused_to
        self.durable_to = max(self.durable_to, position.applied)
        self.last = max(self.last, position.applied)
        self.clock.last = max(self.clock.last, position.at)
        self.cells = {}

    def advance_to(self, record: Record) -> None:
        """Take over the number and the time of an archived event, which counts as applied."""
        self.last = self.applied = self.durable_to = record.seq
        self.clock.last = max(self.clock.last, round(record.at * 1000))
        if record.paused or (record.rejected is not None and record.rejected.code == UNUSABLE):
            self.paused_to = record.seq

    def set_source(self, source: str) -> None:
        """Set the source of the events that follow."""
        self.source = source
        self.routes = self.student.fold.routes(source)
        self.cells = {}
        self.lines = StreamLines(self.student.id, self.student.class_id, source, self.id)
