"""A stream: one tab of one student, from one source; its numbers, and what waits of it."""

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
    from appliance.states.student import Student

UNUSABLE = "unusable"
"""The code of a rejected event that stood in a batch that could not be used, whether or not it was at fault itself."""


class StreamState(Enum):
    """What a stream is doing."""

    OPENING = "opening"
    """Its row is being read."""
    OPEN = "open"
    """Events are taken and reduced."""
    PAUSED = "paused"
    """Events are taken and archived, and not reduced: the class is paused."""
    QUARANTINED = "quarantined"
    """A batch of it could not be used; nothing is taken until it is opened again."""
    CLOSED = "closed"
    """Nobody is connected; nothing is taken until it is opened again."""


_NEXT = {
    StreamState.OPENING: {StreamState.OPEN, StreamState.PAUSED, StreamState.CLOSED, StreamState.QUARANTINED},
    StreamState.OPEN: {StreamState.PAUSED, StreamState.QUARANTINED, StreamState.CLOSED, StreamState.OPENING},
    StreamState.PAUSED: {StreamState.OPEN, StreamState.QUARANTINED, StreamState.CLOSED, StreamState.OPENING},
    StreamState.QUARANTINED: {StreamState.OPENING, StreamState.CLOSED},
    # What was taken before it was closed may turn out unusable after.
    StreamState.CLOSED: {StreamState.OPENING, StreamState.QUARANTINED},
}
TAKING = frozenset({StreamState.OPEN, StreamState.PAUSED})
"""The states in which events are taken."""


class StreamStateError(ObserverError):
    """A stream was to go into a state that does not follow its own."""


class StreamClosedError(ObserverError):
    """The stream takes no events: it was closed, or quarantined. The text says why."""


class Waiting(msgspec.Struct, gc=False):
    """What came of a stream in one frame and is not reduced yet.

    Attributes:
        first: number of its first event.
        received: when it came, in milliseconds since the epoch.
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

    def after(self, number: int) -> Waiting:
        """The same without events up to a number."""
        texts = self.texts[max(0, number + 1 - self.first) :]
        return Waiting(max(self.first, number + 1), self.received, self.paused, texts, sum(map(len, texts)))


class Stream:
    """The numbers of one stream.

    Attributes:
        state: what it is doing; changed by `become` alone.
        reason: why it was quarantined last, a sentence; "" where it was not.
        last: number of the last event taken.
        applied: number of the last event reduced (or rejected, or found to be of a paused time); those after it wait.
        durable_to: number of the last event whose commit is done; all up to it may be acknowledged.
        paused_to: number of the last one up to `applied` that no reducer saw; see `StreamPosition`. 0 for none.
        waiting: the events after `applied`.
        cost: of what waits; see `appliance.pipeline.turns`.
        clock: gives events their times.
        cells: the cells that events change, by route and the event's values of the route's fields: found once, since a
            student works at one thing for long.
    """

    __slots__ = (
        "_awaited",
        "applied",
        "cells",
        "clock",
        "cost",
        "durable_to",
        "id",
        "last",
        "lines",
        "paused_to",
        "reason",
        "routes",
        "source",
        "state",
        "student",
        "waiting",
    )

    def __init__(self, student: Student, id: str, source: str) -> None:
        self.student = student
        self.id = id
        self.state = StreamState.CLOSED
        self.reason = ""
        self.last = self.applied = self.durable_to = self.paused_to = 0
        self.waiting: list[Waiting] = []
        self.cost = 0
        self.cells: dict[tuple[EventRoute, object], tuple[StateCell, ...]] = {}
        self.clock = Clock(0)
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []
        self.rename(source)

    def become(self, state: StreamState) -> None:
        """Go into another state.

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
            StreamClosedError: it never will: the batch with it could not be used and was archived as rejected.
        """
        if number <= self.durable_to:
            return
        future = asyncio.get_running_loop().create_future()
        self._awaited.append((number, future))
        await future

    def settle(self, number: int) -> None:
        """All events up to a number are durable; whoever waits for that goes on."""
        if number > self.durable_to:
            self.durable_to = number
        if self._awaited:
            self._resolve(None)

    def fail(self, reason: str) -> None:
        """The events that are not durable now never will be; whoever waits for one of them gets an error."""
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
    def standing(self) -> StreamPosition:
        """What the store must know of it."""
        return StreamPosition(self.applied, self.clock.last, self.paused_to)

    def stand_at(self, standing: StreamPosition) -> None:
        """Take over what the store knows of it.

        What was taken beyond it stays taken. The time does not go back, since lines with it may be in the archive.
        """
        self.applied = standing.applied
        self.paused_to = standing.paused_to
        self.durable_to = max(self.durable_to, standing.applied)
        self.last = max(self.last, standing.applied)
        self.clock.last = max(self.clock.last, standing.at)
        self.cells = {}

    def pass_line(self, record: Record) -> None:
        """Take over the number and the time of a line of the archive, whose event is applied with it."""
        self.last = self.applied = self.durable_to = record.seq
        self.clock.last = max(self.clock.last, round(record.at * 1000))
        if record.paused or (record.rejected is not None and record.rejected.code == UNUSABLE):
            self.paused_to = record.seq

    def rename(self, source: str) -> None:
        """Say which source the stream's coming events are from."""
        self.source = source
        self.routes = self.student.fold.routes(source)
        self.cells = {}
        self.lines = StreamLines(self.student.id, self.student.class_id, source, self.id)
