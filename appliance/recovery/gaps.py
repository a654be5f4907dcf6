"""What a start and a rebuild report about gaps of the archive (`appliance.archive.gaps`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.archive.accepted_gaps import ACCEPTED_GAPS, AcceptedGaps
from appliance.archive.gaps import GAPS_SHOWN, Gap, by_student, reason_of
from appliance.counters import Counters
from appliance.health import Finding, finding

if TYPE_CHECKING:
    from appliance.recovery.rebuild import Rebuild


def start_findings(gaps: Iterable[Gap], accepted: AcceptedGaps, folder: Path, counters: Counters) -> list[Finding]:
    """The findings of a start; counts missing events, and saves what was accepted.

    Args:
        gaps: found in the archive; explained ones are left out, since their damage is reported.
        accepted: the gaps that were accepted.
        folder: the archive folder.
        counters: counts.
    """
    found = _counted(gaps, counters)
    return [*gap_findings(found, folder, "archive.gap"), *_save(accepted)]


def rebuild_findings(rebuild: Rebuild, folder: Path, counters: Counters) -> list[Finding]:
    """The findings of a rebuild that is done, likewise."""
    held = set(rebuild.held)
    found = [gap for gap in _counted(rebuild.gaps, counters) if gap.student_id in held]
    return [
        *gap_findings(found, folder, "reducer.gap", reducers=", ".join(rebuild.names)),
        *_save(rebuild.accepted),
    ]


def gap_findings(gaps: Iterable[Gap], folder: Path, code: str, reducers: str = "") -> Iterator[Finding]:
    """A finding for each student with gaps that block, of the first few students, and one for all others.

    Args:
        gaps: of any students.
        folder: the archive folder, which may show the reason.
        code: of the findings; with ``_more`` of the one for all others.
        reducers: names of the reducers that are concerned, for the sentence.
    """
    students = by_student(gap for gap in gaps if gap.blocks)
    for student_id, found in islice(students.items(), GAPS_SHOWN):
        reason = reason_of(found.first, folder)
        yield finding(code, student_id, count=found.events, where=found.text, reason=reason, reducers=reducers)
    if len(students) > GAPS_SHOWN:
        others = list(students.values())[GAPS_SHOWN:]
        yield finding(f"{code}_more", students=len(others), count=sum(one.events for one in others), reducers=reducers)


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
