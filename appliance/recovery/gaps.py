"""What a start and a rebuild report about gaps of the archive (`appliance.archive.gaps`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.archive.accepted_gaps import ACCEPTED_GAPS, AcceptedGaps, read_accepted
from appliance.archive.gaps import Gap, MissingFiles, by_student, gap_findings
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
