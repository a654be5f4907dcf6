"""One student's row in memory: the states of every reducer, and the positions of every stream."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import NamedTuple

import msgspec

from appliance.kvs import Change, Encoded, Row, Value
from appliance.states.cells import ScopedReducer, ScopeStates, StateCell, StoredState
from appliance.states.fold import Fold
from appliance.states.parts import NO_PARTS, StoredParts, encoded_parts, part_field, parts_by_state
from appliance.states.row import (
    GAP,
    PART,
    STATE,
    STREAM,
    SUMMARY,
    UNSTORABLE,
    StreamPosition,
    StudentSummary,
    decode_stream_position,
    decode_student_summary,
    student_key,
)
from appliance.states.stream import Stream

LATE_SECONDS = 30.0
"""An event that arrives so long after it was done was kept in the student's browser meanwhile, and counts as late."""
LATE_GROUP_SECONDS = 600.0
"""Late events that arrive within so long after each other are counted as one group."""
MEASURED_BYTES = 64 * 1024
"""Bytes of a student's events after which the sizes of its states are measured again."""


class Savepoint(NamedTuple):
    """A student's numbers before a commit took events; see `StudentStates.savepoint`."""

    last_event_at: float | None
    late: int
    late_at: float | None
    limited_at: float | None
    size: int
    changed_streams: dict[str, Stream]
    streams: list[tuple[Stream, int, int, int]]


class StudentStates:
    """The copy of one student's row in memory. Only the pipeline changes it, never across an await.

    Attributes:
        version: of the row that it was read from or written to last; -1 where the store must be asked for it.
        last_event_at: see `StudentSummary`; `late`, `late_at`, `limited_at` and `held_at` too.
        size: of all states, as estimated by their reducers.
        unmeasured: bytes of events since sizes were measured last.
        scope_states: the states of each scoped reducer, in the order of the fold.
        streams: by id.
        changed_streams: those whose position the next commit must write.
        outdated: by reducer, the fields of states that another version of it made.
        dropped: fields that the next commit must remove, unless it writes them.
        pending_parts: cells of the last `change`, with the parts that the row has once it is stored.
    """

    __slots__ = (
        "changed_streams",
        "class_id",
        "dropped",
        "fold",
        "held_at",
        "id",
        "last_event_at",
        "late",
        "late_at",
        "limited_at",
        "outdated",
        "pending_parts",
        "scope_states",
        "size",
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
        self.held_at: float | None = None
        self.size = 0
        self.unmeasured = 0
        self.scope_states = [ScopeStates(self) for _ in fold.scoped_reducers]
        self.streams: dict[str, Stream] = {}
        self.changed_streams: dict[str, Stream] = {}
        self.outdated: dict[str, list[str]] = {}
        self.dropped: set[str] = set()
        self.pending_parts: list[tuple[StateCell, StoredParts]] = []

    def stream(self, id: str, source: str) -> Stream:
        """The stream with this id; it is made where there is none."""
        stream = self.streams.get(id)
        if stream is None:
            stream = self.streams[id] = Stream(self, id, source)
        elif stream.source != source:
            stream.set_source(source)
        return stream

    def note_applied(self, stream: Stream, at: float, late: int = 0, received: float = 0.0) -> None:
        """Note that events of a stream were applied.

        Args:
            stream: the stream.
            at: the time of the last of them, in seconds.
            late: how many of them arrived late.
            received: when the last of them arrived, in seconds.
        """
        if late:
            if self.late_at is None or received - self.late_at > LATE_GROUP_SECONDS:
                self.late = 0
            self.late += late
            self.late_at = received
        if self.last_event_at is None or at > self.last_event_at:
            self.last_event_at = at
        self.changed_streams[stream.id] = stream

    def load(self, row: Row) -> None:
        """Replace states and positions by those of a row; queued events stay queued.

        States of reducers that do not run now, or have another version, stay in the store as they are. A state that
        its reducer cannot decode breaks the reducer's states of this student; see `ScopeStates.broken`.
        """
        self.version = row.version
        self.changed_streams = {}
        positions: dict[str, StreamPosition] = {}
        for field, encoded in row.fields.items():
            if field.startswith(STREAM):
                positions[field.removeprefix(STREAM)] = decode_stream_position(encoded)
            elif field == SUMMARY:
                summary = decode_student_summary(encoded)
                self.last_event_at, self.late, self.late_at = summary.last_event_at, summary.late, summary.late_at
                self.limited_at, self.held_at = summary.limited_at, summary.held_at
        for id in self.streams.keys() | positions.keys():
            stream = self.streams.get(id)
            if stream is None:
                stream = self.streams[id] = Stream(self, id, "")
            stream.move_to(positions.get(id, StreamPosition()))
        self.size = 0
        self.outdated = {}
        self.dropped = set()
        self.pending_parts = []
        parts = parts_by_state(row.fields)
        for scoped, scope_states in zip(self.fold.scoped_reducers, self.scope_states, strict=True):
            self._load_states(scoped, scope_states, row, parts)
        self._release()

    def _load_states(
        self, scoped: ScopedReducer, scope_states: ScopeStates, row: Row, parts: Mapping[str, Mapping[int, bytes]]
    ) -> None:
        scope_states.cells = {}
        scope_states.changed = []
        scope_states.summarized = None
        scope_states.broken = scope_states.marked = row.fields.get(scoped.broken_field, b"")
        scope_states.unloaded = {
            field: encoded_parts(some) for field, some in parts.items() if field.startswith(scoped.prefix)
        }
        if row.fields.get(scoped.version_field) != scoped.version.data:
            prefixes = tuple(f"{kind}{scoped.name}/" for kind in (STATE, PART))
            self.outdated[scoped.name] = [field for field in row.fields if field.startswith(prefixes)]
            return
        for field, encoded in row.fields.items():
            if not field.startswith(scoped.prefix):
                continue
            loaded = self.fold.codec.load(scoped, encoded, parts.get(field, {}))
            if loaded is None:
                scope_states.broken = scope_states.broken or UNSTORABLE
                scope_states.cells = {}
                return
            value = field.removeprefix(scoped.prefix)
            cell = scope_states.cells[value] = StateCell(scoped, scope_states, value, loaded[0])
            cell.stored, cell.parts = loaded
            self.fold.measure(cell)
        # Encoded parts take as much memory as the states.
        loaded_fields = {cell.field for cell in scope_states.cells.values()}
        scope_states.unloaded = {f: some for f, some in scope_states.unloaded.items() if f not in loaded_fields}

    def stored(self) -> None:
        """Note that the store has made the last `change`."""
        self.version += 1
        if self.pending_parts:
            for cell, parts in self.pending_parts:
                cell.parts = parts
            self.pending_parts = []

    def mark_all_changed(self) -> None:
        """Mark everything as changed, because it is unknown what the store has written.

        If the store has made the last change, the row has another version, and is read before it is written. So the
        parts that it had before that change count.
        """
        self.pending_parts = []
        self.changed_streams = dict(self.streams)
        for scope_states in self.scope_states:
            for cell in scope_states.cells.values():
                if not cell.changed:
                    cell.mark_changed()

    def hold(self, at: float, names: Container[str] | None = None) -> None:
        """Let states stay as they are, because the archive lacks events; positions of streams go on.

        Args:
            at: since when, in seconds since the epoch.
            names: the reducers; None for all that get events now.
        """
        for scoped, scope_states in zip(self.fold.scoped_reducers, self.scope_states, strict=True):
            if scoped.name in names if names is not None else scoped.name not in self.fold.suspended:
                scope_states.broken = GAP
                if self.held_at is None:
                    self.held_at = at
        for stream in self.streams.values():
            # Cells that events found before.
            stream.cells = {}

    def absorb(self, merged: StudentStates, at: float | None) -> None:
        """Take over the streams of a student who was merged into this one.

        Args:
            merged: the other student; nothing of it is queued or unstored.
            at: since when all states are held until a rebuild, in seconds since the epoch; None for no hold.
        """
        for id, theirs in merged.streams.items():
            own = self.stream(id, theirs.source)
            if own.applied < theirs.applied:
                own.move_to(theirs.position)
            self.changed_streams[id] = own
        times = [time for time in (self.last_event_at, merged.last_event_at) if time is not None]
        self.last_event_at = max(times, default=None)
        if at is not None:
            self.hold(at, {reducer.name for reducer in self.fold.reducers})

    def adopt(self, rebuilt: StudentStates, names: Container[str] | None = None) -> None:
        """Take over the states of another copy of this student.

        Args:
            rebuilt: the other copy.
            names: the reducers; None for all that the other copy's fold has.
        """
        theirs = {
            (scoped.name, scoped.fields): rebuilt.scope_states[scoped.index]
            for scoped in rebuilt.fold.scoped_reducers
            if names is None or scoped.name in names
        }
        outdated = {name: self.outdated.pop(name) for name in {name for name, _ in theirs} & self.outdated.keys()}
        for scoped, scope_states in zip(self.fold.scoped_reducers, self.scope_states, strict=True):
            source = theirs.get((scoped.name, scoped.fields))
            if source is None:
                continue
            before = scope_states.cells
            if scoped.name in outdated:
                # Nothing of another version is a part of the new states.
                self.dropped.update(outdated[scoped.name])
                scope_states.unloaded = {}
            for value, cell in before.items():
                if value not in source.cells:
                    self.dropped.add(cell.field)
                    self.dropped.update(part_field(cell.field, number) for number in cell.parts.names())
            self.dropped |= {scoped.summary_field, scoped.version_field}
            self.size -= sum(cell.size for cell in before.values())
            scope_states.cells = {}
            scope_states.changed = []
            scope_states.latest = source.latest
            scope_states.broken = b""
            for value, cell in source.cells.items():
                adopted = StateCell(scoped, scope_states, value, cell.state)
                if value in before:
                    adopted.parts = before[value].parts
                adopted.mark_changed()
            for cell in scope_states.cells.values():
                self.fold.measure(cell)
        for stream in self.streams.values():
            # Cells of before would be changed by events, and never written.
            stream.cells = {}
        self._release()

    def _release(self) -> None:
        """Forget since when states stay as they are, once none does any more."""
        if self.held_at is not None and all(scope_states.broken != GAP for scope_states in self.scope_states):
            self.held_at = None

    def refresh_routes(self) -> None:
        """Get the routes of every stream from the fold again."""
        for stream in self.streams.values():
            stream.set_source(stream.source)

    def row(self) -> Row:
        """The row that the store would hold if everything were committed to it at once; for states made by replay."""
        change = self.change()
        fields = change.fields if change else {}
        return Row(student_key(self.id), 0, {name: value.encode() for name, value in fields.items() if value})

    def change(self, *, encoded: bool = False) -> Change | None:
        """The change that the key-value store must write, None for nothing; afterwards nothing counts as changed.

        Args:
            encoded: whether states are encoded now, for a store that other nodes read. Of a state that cannot be
                encoded the store keeps the last good one, with a mark that the reducer's states are broken.
        """
        if not (self.changed_streams or self.dropped or any(map(_has_changed, self.scope_states))):
            return None
        fields: dict[str, Value | None] = {SUMMARY: self._summary()}
        for id, stream in self.changed_streams.items():
            fields[STREAM + id] = Encoded(stream.position.encode())
        self.changed_streams = {}
        for scoped, scope_states in zip(self.fold.scoped_reducers, self.scope_states, strict=True):
            if scope_states.changed:
                self._add_changed(scoped, scope_states, fields, encoded=encoded)
            if scope_states.broken != scope_states.marked:
                scope_states.marked = scope_states.broken
                fields[scoped.broken_field] = Encoded(scope_states.broken) if scope_states.broken else None
        if self.dropped:
            fields = dict.fromkeys(self.dropped) | fields
            self.dropped = set()
        return Change(student_key(self.id), self.version, fields)

    def _summary(self) -> Encoded:
        if self.late or self.limited_at is not None or self.held_at is not None:
            summary = StudentSummary(self.last_event_at, self.late, self.late_at, self.limited_at, self.held_at)
            return Encoded(msgspec.json.encode(summary))
        return Encoded(b'{"last_event_at":%s}' % _number(self.last_event_at))

    def _add_changed(
        self, scoped: ScopedReducer, scope_states: ScopeStates, fields: dict[str, Value | None], *, encoded: bool
    ) -> None:
        codec = self.fold.codec
        for cell in scope_states.changed:
            if encoded:
                state_fields, parts = codec.fields(cell, cell.state, cell.parts)
                for field, data in state_fields.items():
                    fields[field] = None if data is None else Encoded(data)
                if not scope_states.broken and cell.stored is not cell.state:
                    scope_states.broken = UNSTORABLE
                if parts is not cell.parts:
                    self.pending_parts.append((cell, parts))
            else:
                fields[cell.field] = StoredState(codec, cell, cell.state)
                if cell.parts is not NO_PARTS:
                    fields.update(dict.fromkeys(part_field(cell.field, number) for number in cell.parts.names()))
                    self.pending_parts.append((cell, NO_PARTS))
            cell.changed = False
        scope_states.changed = []
        if scoped.index == self.fold.summarized[scoped.name] and scope_states.latest in scope_states.cells:
            fields[scoped.summary_field] = codec.summary(scoped, scope_states)
        fields[scoped.version_field] = scoped.version

    def measure_after(self, size: int) -> None:
        """Note that events of this many bytes were applied, and measure all states once it is time.

        The growth that is not measured yet is small beside the limit, whatever a reducer makes of the events.
        """
        self.unmeasured += size
        if self.unmeasured >= MEASURED_BYTES:
            self.unmeasured = 0
            for scope_states in self.scope_states:
                for cell in scope_states.cells.values():
                    self.fold.measure(cell)

    def savepoint(self, streams: Iterable[Stream]) -> Savepoint:
        """The numbers as they are now, for `roll_back`.

        Args:
            streams: those whose events are to be applied.
        """
        return Savepoint(
            self.last_event_at,
            self.late,
            self.late_at,
            self.limited_at,
            self.size,
            self.changed_streams.copy(),
            [(stream, stream.applied, stream.paused_to, stream.clock.last) for stream in streams],
        )

    def roll_back(self, savepoint: Savepoint) -> None:
        """Restore the numbers of a savepoint. The cells are restored by the undo log of the fold."""
        self.last_event_at, self.late, self.late_at, self.limited_at, self.size = savepoint[:5]
        self.changed_streams = savepoint.changed_streams.copy()
        for stream, applied, paused_to, at in savepoint.streams:
            stream.applied, stream.paused_to, stream.clock.last = applied, paused_to, at
        for stream in self.streams.values():
            # Cells that no longer exist may be among them.
            stream.cells = {}


def _has_changed(scope_states: ScopeStates) -> bool:
    return bool(scope_states.changed) or scope_states.broken != scope_states.marked


def _number(value: float | None) -> bytes:
    return b"null" if value is None else b"%.3f" % value
