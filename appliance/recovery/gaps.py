"""What a start and a rebuild report about gaps of the archive (`appliance.archive.gaps`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from appliance.archive import Damage, Reader
from appliance.archive.accepted_gaps import ACCEPTED_GAPS, AcceptedGaps, read_accepted
from appliance.archive.gaps import Gap, MissingFiles, by_student, gap_findings
from appliance.counters import Counters
from appliance.health import Finding, finding
from appliance.kvs import Row
from appliance.states import STREAM, Fold, StateLimits, Stream, StudentStates, decode_stream_position, student_key
from appliance.states.replay import Gaps, replay_records

if TYPE_CHECKING:
    from appliance.recovery.rebuild import Rebuild

_LINES_AT_ONCE = 1000


async def accept_earlier(folder: Path, accepted: AcceptedGaps, rows: Iterable[Row], only: Set[str] | None) -> None:
    """Accept the gaps that the rebuild after a start will meet in the archive before the snapshot.

    The rebuild runs in the background, and the program may end before it has met them; what was accepted would then be
    forgotten. Lets the event loop run now and then.

    Args:
        folder: the archive folder; nothing is written to it meanwhile.
        accepted: accepts them.
        rows: of the snapshot.
        only: ids of the students whose states are rebuilt; None for all.

    Raises:
        ArchiveError: a segment cannot be read.
    """
    # Without reducers only the numbers of the streams are followed.
    fold = Fold([], Counters(), StateLimits(0, 0))
    students: dict[str, StudentStates] = {}

    def student_of(student_id: str, class_id: str) -> StudentStates:
        if student_id not in students:
            students[student_id] = StudentStates(fold, student_id, class_id)
        return students[student_id]

    reader = Reader(folder)
    gaps = Gaps(reader, accepted)
    for number, record in enumerate(reader.records()):
        if only is None or isinstance(record, Damage) or record.student_id in only:
            replay_records((record,), fold, student_of, _note_nothing, gaps)
        if not number % _LINES_AT_ONCE:
            await asyncio.sleep(0)
    for student_id, stream_id, applied in _applied(rows):
        if only is None or student_id in only:
            gaps.missing_at_end(student_of(student_id, "").stream(stream_id, ""), student_id, stream_id, applied)


def _applied(rows: Iterable[Row]) -> Iterator[tuple[str, str, int]]:
    """Student, stream, and the number of the last event that was applied, of all streams in rows."""
    prefix = student_key("")
    for row in rows:
        for field, encoded in row.fields.items() if row.key.startswith(prefix) else ():
            if field.startswith(STREAM):
                with contextlib.suppress(msgspec.DecodeError):
                    applied = decode_stream_position(encoded).applied
                    yield row.key.removeprefix(prefix), field.removeprefix(STREAM), applied


def _note_nothing(stream: Stream, at: float, late: int, received: float) -> None:
    """Ignore what a line changes."""


def start_findings(gaps: Iterable[Gap], accepted: AcceptedGaps, folder: Path, counters: Counters) -> list[Finding]:
    """The findings of a start; counts missing events, and saves what was accepted.

    Args:
        gaps: found in the archive; explained ones are left out, since their damage is reported.
        accepted: the gaps that were accepted.
        folder: the archive folder.
        counters: counts.
    """
    found = _counted(gaps, counters)
    findings = [*gap_findings(found, folder, "archive.gap"), *_save(accepted)]
    # What is before the snapshot is not read, so nothing else would show that a file is missing there.
    if findings or accepted.accept or read_accepted(folder)[0]:
        return findings
    numbers = MissingFiles(folder).absent()
    return [finding("archive.missing", numbers=numbers)] if numbers else []


def rebuild_findings(rebuild: Rebuild, folder: Path, counters: Counters) -> list[Finding]:
    """The findings of a rebuild that is done, likewise."""
    held = set(rebuild.held)
    found = [gap for gap in _counted(rebuild.gaps, counters) if gap.student_id in held]
    return [
        *gap_findings(found, folder, "reducer.gap", reducers=", ".join(rebuild.names)),
        *_save(rebuild.accepted),
    ]


def _counted(gaps: Iterable[Gap], counters: Counters) -> list[Gap]:
    found = [gap for gap in gaps if not gap.explained]
    counters.add("archive_events_missing", sum(gap.events for gap in found))
    return found


def _save(accepted: AcceptedGaps) -> Iterator[Finding]:
    """Save what was accepted since the last time."""
    new = list(accepted.new)
    if not new:
        return
    events, students = sum(gap.events for gap in new), len(by_student(new))
    yield finding("archive.gaps_accepted", count=events, students=students)
    try:
        accepted.save()
    except OSError as error:
        yield finding("archive.gaps_unsaved", ACCEPTED_GAPS, detail=error.strerror or type(error).__name__)
