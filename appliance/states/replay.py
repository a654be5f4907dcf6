"""Replay: reduces archived events from nothing, by the same fold as live events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from appliance.archive import Damage, Reader, Record
from appliance.archive.accepted_gaps import AcceptedGaps
from appliance.archive.checking import BrokenLink
from appliance.archive.event_filter import EVERYTHING, EventFilter
from appliance.archive.gaps import Gap, GapWatch
from appliance.archive.merge import Merged, Source, sources
from appliance.counters import Counters
from appliance.errors import SettingsError
from appliance.events import Event, EventLimits, RejectedError, decode_event
from appliance.plugins import Catalog
from appliance.reducer import Reducer
from appliance.states import LATE_SECONDS, Fold, StateLimits, Stream, StudentStates, student_details

# An event that was accepted once is accepted again, whatever the limits are now.
_NO_LIMITS = EventLimits(bytes=1 << 62, depth=1 << 62, name_characters=1 << 62, values=1 << 62)


class Gaps:
    """Notices missing numbers in what a `Reader` reads, and holds the states of those students.

    Attributes:
        reader: is read by the caller.
        watch: has what was found.
    """

    def __init__(self, reader: Reader, acceptance: AcceptedGaps | None, *, counts_lines: bool = False) -> None:
        """Args:
        reader: see above.
        acceptance: which gaps are accepted.
        counts_lines: see `GapWatch`.
        """
        self.watch = GapWatch(acceptance, counts_lines=counts_lines)
        self.reader = reader

    def found(self, stream: Stream, record: Record, place: tuple[str, int, int]) -> None:
        """Note the numbers that are missing before a line of a stream."""
        student = stream.student
        numbers = stream.last + 1, record.seq - 1
        if self.watch.missing(stream, student.id, stream.id, numbers, place).blocks:
            student.hold(record.at)

    def missing_at_end(self, stream: Stream, student_id: str, stream_id: str, applied: int) -> bool:
        """Note the numbers of a stream that were applied once, and are after its last line.

        Args:
            stream: as the archive gives it.
            student_id: the student.
            stream_id: the stream.
            applied: number of the last event that was applied.

        Returns:
            Whether they are missing for no known reason, and not accepted.
        """
        if applied <= stream.last:
            return False
        return self.watch.missing(stream, student_id, stream_id, (stream.last + 1, applied), None).blocks


class Restored(msgspec.Struct):
    """The number of events applied, and the lines that could not be read."""

    events: int = 0
    damaged: list[Damage] = []


def replay_records(
    records: Iterable[Record | Damage],
    fold: Fold,
    student_of: Callable[[str, str], StudentStates],
    applied: Callable[[Stream, float, int, float], None],
    gaps: Gaps | None = None,
) -> Restored:
    """Fold archived events into the states of students.

    A line whose number its stream has passed is skipped, so it does no harm to read a segment twice. After a gap that
    nothing explains and nobody accepted, the states of that student stay as they were before it; the positions of its
    streams go on, since what is archived must not be sent again.

    Args:
        records: the lines, in the order in which they were written.
        fold: the reducers.
        student_of: gives the states of a student by student id and class id, and makes them where there are none yet.
        applied: called for each line that counted, with the arguments of `StudentStates.note_applied`.
        gaps: notices missing numbers; None where the caller does, or where they may be in another node's archive.
    """
    result = Restored()
    recent = gaps.watch.recent if gaps else {}
    reader = gaps.reader if gaps else None
    for record in records:
        if isinstance(record, Damage):
            result.damaged.append(record)
            if gaps and record.lines:
                gaps.watch.damaged()
            continue
        body: dict[str, Any] | None = None
        text = bytes(record.event)
        if text:
            try:
                body = decode_event(text, _NO_LIMITS)
            except RejectedError as error:
                result.damaged.append(Damage("", 0, 0, f"event {record.seq} of a stream: {error.message}"))
                if gaps:
                    gaps.watch.damaged()
                continue
        stream = student_of(record.student_id, record.class_id).stream(record.stream, record.source)
        if record.seq <= stream.last:
            continue
        if reader is not None and gaps is not None:
            place = reader.line[1:4]  # type: ignore[index]
            if record.seq != stream.last + 1:
                gaps.found(stream, record, place)
            recent[stream] = place
        stream.advance_to(record)
        # Compared in milliseconds, as on arrival.
        reduced = body is not None and not record.paused
        late = int(reduced and round((record.received - record.at) * 1000) > LATE_SECONDS * 1000)
        applied(stream, record.at, late, record.received)
        if body is not None and not record.paused:
            fold.reduce(stream, (Event(body["event"], record.at, record.source, body),))
        result.events += 1
    return result


class Replayed(msgspec.Struct):
    """The result of `replay`.

    Attributes:
        students: by student id, ``summaries`` by reducer and ``documents`` (``items``, ...) by value and reducer.
        events: lines that counted.
        damaged: lines that could not be read.
        repeated: lines that were skipped because their number had been applied.
        gaps: numbers of streams that are missing in all of the archives, each with its place.
        held: ids of the students whose states end before a gap.
        broken_links: places where the chain of an archive is broken, so that commits may be missing or changed.
    """

    students: dict[str, dict[str, Any]]
    events: int
    damaged: list[Damage]
    repeated: int
    gaps: list[Gap]
    held: list[str] = []
    broken_links: list[BrokenLink] = []

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)


class Replay:
    """Reduces archives from nothing.

    Attributes:
        fold: the reducers.
        students: by id, those who have events that counted.
        events: lines that counted.
        damaged: lines that could not be read.
        merged: the archives, which also give the number of repeated lines.
        held: ids of students whose states end before a gap that nothing explains and nobody accepted.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        reducers: Iterable[Reducer[Any]],
        event_filter: EventFilter,
        *,
        limits: StateLimits,
        accept_gaps: bool = False,
    ) -> None:
        """Args:
        sources: the archives, see `appliance.archive.merge.sources`.
        reducers: the reducers.
        event_filter: which events are reduced. Missing numbers are searched for among all students that it takes.
        limits: how much is kept of one student. With the limits under which the events were accepted the states are
            equal to the live ones.
        accept_gaps: whether states go on after every gap, and not only after those that a start accepted.
        """
        self.fold = Fold(reducers, Counters(), limits)
        self.students: dict[str, StudentStates] = {}
        self.events = 0
        self.damaged: list[Damage] = []
        self.held: set[str] = set()
        folders = dict.fromkeys(file.parent for source in sources for file in source.files)
        accepted = AcceptedGaps(folders, accept=accept_gaps)
        self.merged = Merged(sources, students=event_filter.students, classes=event_filter.classes, acceptance=accepted)
        self._filter = event_filter

    def run(self, progress: Callable[[float], None] = lambda share: None) -> Iterator[Record]:
        """Fold line after line; yields each that counted.

        Args:
            progress: called now and then with the share that was read, from 0 to 1.

        Raises:
            ArchiveError: a file cannot be read.
        """
        gaps = self.merged.gaps
        seen = 0
        for line in self.merged.lines(progress):
            record = line.record
            if isinstance(record, Record) and not self._filter.takes(record):
                seen = len(gaps)
                continue
            if len(gaps) != seen:
                seen = len(gaps)
                if gaps[-1].blocks and isinstance(record, Record):
                    self._hold(record)
            restored = replay_records((record,), self.fold, self._student, _note_applied)
            for damage in restored.damaged:
                self.damaged.append(msgspec.structs.replace(damage, file=line.file, line=line.number, byte=line.byte))
            self.events += restored.events
            if restored.events:
                yield record  # type: ignore[misc]

    @property
    def gaps(self) -> list[Gap]:
        """The missing numbers; where only some classes are reduced, those of their students."""
        if self._filter.classes is None:
            return self.merged.gaps
        return [gap for gap in self.merged.gaps if gap.student_id in self.students]

    def _hold(self, record: Record) -> None:
        """Let the states of a student end before a line: numbers before it are missing."""
        self.held.add(record.student_id)
        self._student(record.student_id, record.class_id).hold(record.at)

    def _student(self, student_id: str, class_id: str) -> StudentStates:
        student = self.students.get(student_id)
        if student is None:
            student = self.students[student_id] = StudentStates(self.fold, student_id, class_id)
        return student


def _note_applied(stream: Stream, at: float, late: int, received: float) -> None:
    stream.student.note_applied(stream, at, late, received)


def without_surrogates(text: str) -> str:
    """A text with U+FFFD in place of halves of surrogate pairs."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def chosen_reducers(catalog: Catalog, names: Sequence[str]) -> list[Reducer[Any]]:
    """The reducers with these names; all where none are named.

    Raises:
        SettingsError: there is no such reducer; the text lists those that there are.
    """
    known = {loaded.reducer.name: loaded.reducer for loaded in catalog.reducers}
    for name in names:
        if name not in known:
            raise SettingsError(f"There is no reducer {name!r}; there are {', '.join(sorted(known)) or 'none'}.")
    return [reducer for name, reducer in known.items() if not names or name in names]


def replay(
    paths: Sequence[Path],
    catalog: Catalog,
    *,
    limits: StateLimits,
    reducers: Sequence[str] = (),
    event_filter: EventFilter = EVERYTHING,
    accept_gaps: bool = False,
    progress: Callable[[float], None] = lambda share: None,
) -> Replayed:
    """Reduce archives from nothing.

    Args:
        paths: archive files and folders, of one node or several, in any order; see `appliance.archive.merge`.
        catalog: the reducers.
        limits: see `Replay`.
        reducers: names of those that are wanted; none for all.
        event_filter: which events are reduced.
        accept_gaps: see `Replay`.
        progress: called now and then with the share that was read, from 0 to 1.

    Raises:
        ArchiveError: a file cannot be opened.
        SettingsError: there is no such reducer.
    """
    run = Replay(
        sources(paths), chosen_reducers(catalog, reducers), event_filter, limits=limits, accept_gaps=accept_gaps
    )
    for _ in run.run(progress):
        pass
    students = {}
    for student in sorted(run.students.values(), key=lambda student: student.id):
        details = student_details(run.fold, student.row())
        # A scope's value may hold half of a surrogate pair, which JSON in UTF-8 cannot.
        scopes = {
            plural: {without_surrogates(value): found for value, found in values.items()}
            for plural, values in details.scopes.items()
        }
        students[student.id] = {"summaries": details.summaries, **scopes}
    merged = run.merged
    return Replayed(students, run.events, run.damaged, merged.repeated, run.gaps, sorted(run.held), merged.broken_links)
