"""The live copy of one student's row: the states of every reducer, and the numbers of every stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from appliance.kvs import Change, Encoded, Row, Value
from appliance.states.cells import ScopedReducer, ScopeStates, StateCell, StoredState
from appliance.states.fold import Fold
from appliance.states.row import STREAM, SUMMARY, StreamPosition, StudentSummary, own_of, standing_of, student_key
from appliance.states.stream import Stream

LATE_SECONDS = 30.0
"""An event that was done so long before it came was held in the student's browser meanwhile, and came late."""

TOGETHER_SECONDS = 600.0
"""What comes late within so long after other late events is counted together with them."""


MEASURED_BYTES = 64 * 1024
"""Bytes of a student's events after which the sizes of its states are measured again."""


class Mark(NamedTuple):
    """How a student's numbers were before a commit took events; see `Student.mark`."""

    last_event_at: float | None
    late: int
    late_at: float | None
    limited_at: float | None
    size: int
    changed: dict[str, Stream]
    streams: list[tuple[Stream, int, int, int]]


class Student:
    """The live copy of one student's row. Only the pipeline changes it, never across an await."""

    __slots__ = (
        "changed_streams",
        "class_id",
        "fold",
        "id",
        "last_event_at",
        "late",
        "late_at",
        "limited_at",
        "size",
        "slots",
        "streams",
        "unmeasured",
        "version",
    )

    def __init__(self, fold: Fold, id: str, class_id: str) -> None:
        self.fold = fold
        self.id = id
        self.class_id = class_id
        self.version = 0
        self.last_event_at: float | None = None
        self.late = 0
        self.late_at: float | None = None
        self.limited_at: float | None = None
        # Of all states, as far as their reducers say.
        self.size = 0
        self.unmeasured = 0
        self.slots = [ScopeStates(self) for _ in fold.places]
        self.streams: dict[str, Stream] = {}
        self.changed_streams: dict[str, Stream] = {}

    def stream(self, id: str, source: str) -> Stream:
        """The stream with this id, made where the student has none such."""
        stream = self.streams.get(id)
        if stream is None:
            stream = self.streams[id] = Stream(self, id, source)
        elif stream.source != source:
            stream.rename(source)
        return stream

    def note(self, stream: Stream, at: float, late: int = 0, received: float = 0.0) -> None:
        """Remember that events of a stream were taken.

        Args:
            stream: whose.
            at: the time of the last of them, in seconds.
            late: how many of them came late.
            received: when the last of those came, in seconds.
        """
        if late:
            if self.late_at is None or received - self.late_at > TOGETHER_SECONDS:
                self.late = 0
            self.late += late
            self.late_at = received
        if self.last_event_at is None or at > self.last_event_at:
            self.last_event_at = at
        self.changed_streams[stream.id] = stream

    def load(self, row: Row) -> None:
        """Take over what the key-value store holds of this student in place of what is here; what waits still waits.

        States of reducers that are not here now, or have another version, are left alone.

        A state that its reducer cannot read breaks the reducer's states of this student; see `ScopeStates.broken`.
        """
        self.version = row.version
        self.changed_streams = {}
        standings: dict[str, StreamPosition] = {}
        for field, encoded in row.fields.items():
            if field.startswith(STREAM):
                standings[field.removeprefix(STREAM)] = standing_of(encoded)
            elif field == SUMMARY:
                own = own_of(encoded)
                self.last_event_at, self.late, self.late_at = own.last_event_at, own.late, own.late_at
                self.limited_at = own.limited_at
        for id in self.streams.keys() | standings.keys():
            stream = self.streams.get(id)
            if stream is None:
                stream = self.streams[id] = Stream(self, id, "")
            stream.stand_at(standings.get(id, StreamPosition()))
        self.size = 0
        for place, slot in zip(self.fold.places, self.slots, strict=True):
            slot.cells = {}
            slot.changed = []
            slot.summarized = None
            slot.broken = slot.marked = place.broken_field in row.fields
            if row.fields.get(place.version_field) != place.version.data:
                continue
            for field, encoded in row.fields.items():
                if not field.startswith(place.prefix):
                    continue
                state = self.fold.decode(place, encoded)
                if state is None:
                    slot.broken = True
                    slot.cells = {}
                    break
                value = field.removeprefix(place.prefix)
                cell = slot.cells[value] = StateCell(place, slot, value, state)
                cell.stored = state
                self.fold.measure(cell)

    def change_all(self) -> None:
        """Note all there is as changed, because nobody knows what the store got."""
        self.changed_streams = dict(self.streams)
        for slot in self.slots:
            for cell in slot.cells.values():
                if not cell.changed:
                    cell.change()

    def adopt(self, rebuilt: Student) -> None:
        """Take over the states that another copy of this student has, of the reducers of that copy's fold."""
        theirs = {(place.name, place.fields): rebuilt.slots[place.index] for place in rebuilt.fold.places}
        for place, slot in zip(self.fold.places, self.slots, strict=True):
            source = theirs.get((place.name, place.fields))
            if source is None:
                continue
            self.size -= sum(cell.size for cell in slot.cells.values())
            slot.cells = {}
            slot.changed = []
            slot.latest = source.latest
            slot.broken = False
            for value, cell in source.cells.items():
                StateCell(place, slot, value, cell.state).change()
            for cell in slot.cells.values():
                self.fold.measure(cell)

    def reroute(self) -> None:
        """Ask for the routes of every stream again."""
        for stream in self.streams.values():
            stream.rename(stream.source)

    def row(self) -> Row:
        """The row that the store would hold, had all been committed to it at once; for a student made by replay."""
        change = self.change()
        fields = change.fields if change else {}
        return Row(student_key(self.id), 0, {name: value.encode() for name, value in fields.items() if value})

    def change(self, *, encoded: bool = False) -> Change | None:
        """What the key-value store must write, None for nothing; what was noted as changed is forgotten.

        Args:
            encoded: whether states are encoded now, for a store that others read. The store keeps the last good one
                of those that cannot be, with a mark that the reducer's states are broken.
        """
        if not self.changed_streams and not any(slot.changed for slot in self.slots):
            return None
        own = Encoded(b'{"last_event_at":%s}' % _number(self.last_event_at))
        if self.late or self.limited_at is not None:
            own = Encoded(
                msgspec.json.encode(StudentSummary(self.last_event_at, self.late, self.late_at, self.limited_at))
            )
        fields: dict[str, Value | None] = {SUMMARY: own}
        for id, stream in self.changed_streams.items():
            fields[STREAM + id] = Encoded(stream.standing.encode())
        self.changed_streams = {}
        for place, slot in zip(self.fold.places, self.slots, strict=True):
            if slot.changed:
                self._encode_changed(slot, place, fields, encoded=encoded)
            if slot.broken is not slot.marked:
                slot.marked = slot.broken
                fields[place.broken_field] = Encoded(b"1") if slot.broken else None
        return Change(student_key(self.id), self.version, fields)

    def _encode_changed(
        self, slot: ScopeStates, place: ScopedReducer, fields: dict[str, Value | None], *, encoded: bool
    ) -> None:
        for cell in slot.changed:
            value: Value = StoredState(self.fold, cell, cell.state)
            if encoded:
                value = Encoded(value.encode())
                slot.broken = slot.broken or cell.stored is not cell.state
            fields[cell.field] = value
            cell.changed = False
        slot.changed = []
        if place.index == self.fold.summarized[place.name] and slot.latest in slot.cells:
            fields[place.summary_field] = self.fold.summary(place, slot)
        fields[place.version_field] = place.version

    def take_in(self, size: int) -> None:
        """Note that events of so many bytes were taken, and measure the states once it is time.

        What was not measured yet is small beside what fits, whatever a reducer makes of it.
        """
        self.unmeasured += size
        if self.unmeasured >= MEASURED_BYTES:
            self.unmeasured = 0
            for slot in self.slots:
                for cell in slot.cells.values():
                    self.fold.measure(cell)

    def mark(self, streams: Iterable[Stream]) -> Mark:
        """How the numbers are now, for `undo`.

        Args:
            streams: those whose events are to be taken.
        """
        return Mark(
            self.last_event_at,
            self.late,
            self.late_at,
            self.limited_at,
            self.size,
            self.changed_streams.copy(),
            [(stream, stream.applied, stream.paused_to, stream.clock.last) for stream in streams],
        )

    def undo(self, mark: Mark) -> None:
        """Take the numbers back to how they were."""
        self.last_event_at, self.late, self.late_at, self.limited_at, self.size = mark[:5]
        self.changed_streams = mark.changed.copy()
        for stream, applied, paused_to, at in mark.streams:
            stream.applied, stream.paused_to, stream.clock.last = applied, paused_to, at
        for stream in self.streams.values():
            # Cells that are no longer there may be among them.
            stream.cells = {}


def _number(value: float | None) -> bytes:
    return b"null" if value is None else b"%.3f" % value
