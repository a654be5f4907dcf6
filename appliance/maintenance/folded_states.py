"""Folded states: what the archive and stored rows together give, to be compared field by field."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Set

import msgspec
from msgspec.structs import replace

from appliance.archive import BEGINNING, Damage, Position, Reader, Record
from appliance.archive.accepted_gaps import AcceptedGaps
from appliance.archive.gaps import Gap
from appliance.config import Settings
from appliance.counters import Counters
from appliance.kvs import Row
from appliance.plugins import Catalog
from appliance.states import (
    BROKEN,
    GAP,
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
from appliance.states.replay import Gaps, replay_records

Fields = dict[str, dict[str, bytes]]
"""The rows of students: key of the row, name of the field, and its value."""

_PROGRESS_LINES = 20_000


class FoldedStates:
    """States computed from archive lines, on top of rows that were stored.

    Attributes:
        rows: the stored rows, by key; given before the first line is folded.
        events: number of lines that counted.
        gaps: the numbers that are missing between lines.
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
        self.gaps: list[Gap] = []
        self._students: dict[str, StudentStates] = {}

    def fold_in(
        self,
        reader: Reader,
        end: Position,
        progress: Callable[[float], None],
        accepted: AcceptedGaps | None = None,
    ) -> list[Damage]:
        """Fold the lines up to a position; returns damage.

        Args:
            reader: reads them.
            end: the position.
            progress: called now and then with the share that was read, from 0 to 1.
            accepted: the gaps that were accepted; states of students with others are held, as a start does. None where
                missing lines may be in another node's archive.
        """
        total = max(1, reader.remaining_bytes())
        watched = Gaps(reader, accepted, counts_lines=reader.position == BEGINNING)
        damaged: list[Damage] = []
        for number, record in enumerate(reader.records(end)):
            if number % _PROGRESS_LINES == 0:
                progress(1 - reader.remaining_bytes() / total)
            unreadable = self.fold_one(record, watched if accepted is not None else None)
            if unreadable and (line := reader.line):
                damaged += [replace(found, file=line.file, line=line.number, byte=line.byte) for found in unreadable]
        self.gaps += watched.watch.gaps
        return damaged

    def fold_one(self, record: Record | Damage, gaps: Gaps | None = None) -> list[Damage]:
        """Fold a line; returns damage that was found in it."""
        restored = replay_records((record,), self.fold, self._student, _note, gaps)
        self.events += restored.events
        return restored.damaged

    def last(self, student_id: str, stream_id: str) -> int:
        """The number of a stream's last line; 0 for none."""
        student = self._students.get(student_id)
        stream = student.streams.get(stream_id) if student else None
        return stream.last if stream else 0

    def rows_now(self) -> Fields:
        """Every field of every student. To be called once, when all is folded."""
        keys = {student_key(student_id): student for student_id, student in self._students.items()}
        found = {
            key: dict(whole_row(self.fold, row).fields)
            for key, row in self.rows.items()
            if key.startswith(student_key(""))
        }
        for key, student in keys.items():
            found.setdefault(key, {}).update(student.row().fields)
        return found

    def _student(self, student_id: str, class_id: str) -> StudentStates:
        student = self._students.get(student_id)
        if student is None:
            student = self._students[student_id] = StudentStates(self.fold, student_id, class_id)
            if row := self.rows.get(student_key(student_id)):
                student.load(row)
        return student


def lacking(stored: Iterable[Row], archived: FoldedStates, gaps: Iterable[Gap]) -> tuple[list[Gap], list[Gap]]:
    """What the archive lacks: events that stored rows have, and others.

    Args:
        stored: rows of students and others.
        archived: what the archive gives.
        gaps: the gaps between its lines.
    """
    applied = {}
    for row in stored:
        for field, encoded in row.fields.items():
            if field.startswith(STREAM) and row.key.startswith(student_key("")):
                stream = row.key.removeprefix(student_key("")), field.removeprefix(STREAM)
                applied[stream] = decode_stream_position(encoded).applied
    both: tuple[list[Gap], list[Gap]] = ([], [])
    for gap in gaps:
        both[gap.first > applied.get((gap.student_id, gap.stream), 0)].append(gap)
    for (student_id, stream_id), number in applied.items():
        last = archived.last(student_id, stream_id)
        if number > last:
            both[0].append(Gap(student_id, stream_id, last + 1, number))
    return both


def held_students(rows: Fields) -> set[str]:
    """The ids of students with states that are held, because the archive lacked events."""
    prefix = student_key("")
    return {
        key.removeprefix(prefix)
        for key, fields in rows.items()
        if any(field.startswith(BROKEN) and value == GAP for field, value in fields.items())
    }


def differing(ours: Fields, theirs: Fields, stale: Set[str]) -> set[str]:
    """The ids of students whose states differ, apart from those of some reducers."""

    def states(fields: Mapping[str, bytes]) -> dict[str, bytes]:
        return {
            field: value
            for field, value in fields.items()
            if field.startswith((STATE, PART)) and field.split("/")[1] not in stale
        }

    prefix = student_key("")
    return {
        key.removeprefix(prefix)
        for key in ours.keys() | theirs.keys()
        if states(ours.get(key, {})) != states(theirs.get(key, {}))
    }


def checksums(ours: Fields, theirs: Fields, left_out: Set[str]) -> tuple[dict[str, str], dict[str, str]]:
    """SHA-256 in hexadecimal digits by reducer of both; under "" those of streams' numbers and times.

    Pauses are compared where the store knows of one: earlier versions did not note them.

    Args:
        ours: what the archive gives.
        theirs: what is stored.
        left_out: ids of students who are not compared.
    """
    keys = {student_key(student_id) for student_id in left_out}
    unpaused = {
        (key, field)
        for key, fields in theirs.items()
        for field, value in fields.items()
        if field.startswith(STREAM) and _has_no_pause(value)
    }
    return _hashes(ours, keys, unpaused), _hashes(theirs, keys, frozenset())


def _hashes(rows: Fields, left_out: Set[str], unpaused: Set[tuple[str, str]]) -> dict[str, str]:
    """Checksums of rows.

    Args:
        rows: of all students.
        left_out: keys that are not compared.
        unpaused: streams whose pauses are left out, by key and field.
    """
    named: dict[str, list[tuple[str, str, bytes]]] = {}
    for key in sorted(rows.keys() - left_out):
        for field, value in sorted(rows[key].items()):
            if field.startswith((STATE, PART)):
                named.setdefault(field.split("/")[1], []).append((key, field, value))
            elif not field.startswith((SUMMARY, VERSION)):
                if (key, field) in unpaused:
                    value = replace(decode_stream_position(value), paused_to=0).encode()
                named.setdefault("", []).append((key, field, value))
    return {name: hashlib.sha256(msgspec.msgpack.encode(all)).hexdigest() for name, all in named.items()}


def _has_no_pause(numbers: bytes) -> bool:
    try:
        return not decode_stream_position(numbers).paused_to
    except msgspec.DecodeError:
        return False


def _note(stream: Stream, at: float, late: int, received: float) -> None:
    stream.student.note_applied(stream, at, late, received)
