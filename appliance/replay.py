"""Replay: archive lines through the reducers, by the same fold that live events take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from appliance.archive import Damage, Record, read
from appliance.counters import Counters
from appliance.events import Event, EventLimits, RejectedError, decode_event
from appliance.plugins import Catalog
from appliance.states import Fold, Stream, Student

# What was taken once is taken again, whatever today's limits are.
_NO_LIMITS = EventLimits(bytes=1 << 62, depth=1 << 62, name_characters=1 << 62)


class Restored(msgspec.Struct):
    """What a replay did: events applied, and what could not be read."""

    events: int = 0
    damaged: list[Damage] = []


def replay_records(
    records: Iterable[Record | Damage],
    fold: Fold,
    student_of: Callable[[str, str], Student],
    applied: Callable[[Stream, float], None],
) -> Restored:
    """Fold archive lines into the states of students.

    A line whose number its stream has passed is skipped, so reading a segment twice does no harm.

    Args:
        records: the lines, in the order in which they were written.
        fold: the reducers.
        student_of: the student with an id, in a class with an id, made where there is none yet.
        applied: told of each line that counted: its stream, and the event's time.
    """
    result = Restored()
    for record in records:
        if isinstance(record, Damage):
            result.damaged.append(record)
            continue
        body: dict[str, Any] | None = None
        text = bytes(record.event)
        if text:
            try:
                body = decode_event(text, _NO_LIMITS)
            except RejectedError as error:
                result.damaged.append(Damage("", 0, 0, f"event {record.seq} of a stream: {error.message}"))
                continue
        stream = student_of(record.student_id, record.class_id).stream(record.stream, record.source)
        if record.seq <= stream.last:
            continue
        stream.last = stream.applied = stream.durable = record.seq
        stream.clock.last = max(stream.clock.last, round(record.at * 1000))
        applied(stream, record.at)
        if body is not None and not record.paused:
            fold.reduce(stream, (Event(body["event"], record.at, record.source, body),))
        result.events += 1
    return result


class Replayed(msgspec.Struct):
    """What `replay` gives: states worked out from nothing.

    Attributes:
        students: by student id, ``summaries`` by reducer and ``documents`` (``items``, ...) by value and reducer.
        events: lines that counted.
        damaged: lines that could not be read.
    """

    students: dict[str, dict[str, Any]]
    events: int
    damaged: list[Damage]

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)


def replay(paths: Sequence[Path], catalog: Catalog, *, values: int, characters: int) -> Replayed:
    """Reduce archive files (or folders of them) from nothing.

    Args:
        paths: what to read, in order.
        catalog: the reducers.
        values: states one reducer may keep for one student in one scope; with the limits under which the events
            were taken the states are those that were lived through.
        characters: length of a scope's value.

    Raises:
        ArchiveError: a file cannot be opened.
    """
    fold = Fold([loaded.reducer for loaded in catalog.reducers], Counters(), values=values, characters=characters)
    students: dict[str, Student] = {}

    def note(stream: Stream, at: float) -> None:
        stream.student.note(stream, at)

    def student_of(student_id: str, class_id: str) -> Student:
        student = students.get(student_id)
        if student is None:
            student = students[student_id] = Student(fold, student_id, class_id)
        return student

    restored = replay_records(read(paths), fold, student_of, note)
    described = {}
    for student in sorted(students.values(), key=lambda student: student.id):
        summaries, scopes = fold.details(student.row())
        described[student.id] = {"summaries": summaries, **scopes}
    return Replayed(described, restored.events, restored.damaged)
