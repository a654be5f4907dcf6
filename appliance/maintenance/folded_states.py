"""Folded states: what the archive and stored rows together give, to be compared field by field."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Set

import msgspec
from msgspec.structs import replace

from appliance.archive import Damage, Position, Reader, Record
from appliance.config import Settings
from appliance.counters import Counters
from appliance.kvs import Row
from appliance.plugins import Catalog
from appliance.states import (
    PART,
    STATE,
    STREAM,
    SUMMARY,
    VERSION,
    Fold,
    StateLimits,
    Stream,
    StudentStates,
    decode_stream_position,
    student_key,
    whole_row,
)
from appliance.states.replay import replay_records

Field = tuple[str, str, bytes]
"""Key of a row, name of a field, and its value."""

_PROGRESS_LINES = 20_000


class FoldedStates:
    """States computed from archive lines, on top of rows that were stored.

    Attributes:
        rows: the stored rows, by key; given before the first line is folded.
        events: number of lines that counted.
    """

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        limits = settings.limits
        self.fold = Fold(
            [loaded.reducer for loaded in catalog.reducers],
            Counters(),
            limits=StateLimits.of(limits),
        )
        self.rows: dict[str, Row] = {}
        self.events = 0
        self._students: dict[str, StudentStates] = {}

    def fold_in(self, reader: Reader, end: Position, progress: Callable[[float], None]) -> list[Damage]:
        total = max(1, reader.remaining_bytes())
        damaged: list[Damage] = []
        for number, record in enumerate(reader.records(end)):
            if number % _PROGRESS_LINES == 0:
                progress(1 - reader.remaining_bytes() / total)
            unreadable = self.fold_one(record)
            if unreadable and (line := reader.line):
                damaged += [Damage(line.file, line.number, line.byte, found.reason) for found in unreadable]
        return damaged

    def fold_one(self, record: Record | Damage) -> list[Damage]:
        """Fold a line; returns damage that was found in it."""
        restored = replay_records((record,), self.fold, self._student, _note)
        self.events += restored.events
        return restored.damaged

    def fields(self) -> list[Field]:
        """Every field of every student, in order. To be called once, when all is folded."""
        fields = []
        keys = {student_key(student_id): student for student_id, student in self._students.items()}
        for key in sorted(self.rows.keys() | keys.keys()):
            if not key.startswith(student_key("")):
                continue
            row = whole_row(self.fold, self.rows[key]).fields if key in self.rows else {}
            if key in keys:
                row = {**row, **keys[key].row().fields}
            fields += [(key, field, value) for field, value in sorted(row.items())]
        return fields

    def _student(self, student_id: str, class_id: str) -> StudentStates:
        student = self._students.get(student_id)
        if student is None:
            student = self._students[student_id] = StudentStates(self.fold, student_id, class_id)
            if row := self.rows.get(student_key(student_id)):
                student.load(row)
        return student


def _hashes(fields: Iterable[Field], unpaused: Set[tuple[str, str]] = frozenset()) -> dict[str, str]:
    """SHA-256 in hexadecimal digits by reducer; under "" that of streams' numbers and times.

    Args:
        fields: of all students.
        unpaused: streams whose pauses are left out, by key and field.
    """
    named: dict[str, list[Field]] = {}
    for key, field, value in fields:
        if field.startswith((STATE, PART)):
            named.setdefault(field.split("/")[1], []).append((key, field, value))
        elif not field.startswith((SUMMARY, VERSION)):
            if (key, field) in unpaused:
                value = replace(decode_stream_position(value), paused_to=0).encode()
            named.setdefault("", []).append((key, field, value))
    return {name: hashlib.sha256(msgspec.msgpack.encode(all)).hexdigest() for name, all in named.items()}


def checksums(archived: FoldedStates, stored: FoldedStates) -> tuple[dict[str, str], dict[str, str]]:
    """Checksums by reducer of what the archive gives and of what is stored; under "" those of streams' numbers.

    Pauses are compared where the store knows of one: earlier versions did not note them.
    """
    fields = stored.fields()
    unpaused = {(key, field) for key, field, value in fields if field.startswith(STREAM) and _has_no_pause(value)}
    return _hashes(archived.fields(), unpaused), _hashes(fields)


def _has_no_pause(numbers: bytes) -> bool:
    try:
        return not decode_stream_position(numbers).paused_to
    except msgspec.DecodeError:
        return False


def _note(stream: Stream, at: float, late: int, received: float) -> None:
    stream.student.note_applied(stream, at, late, received)
