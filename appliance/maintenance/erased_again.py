"""Erased students whose lines came back: files of the archive that were elsewhere while a student was erased.

``erased.jsonl`` names nobody. So a student of such a file counts as erased where the stored states lack a stream that
the file has: a start writes the numbers of all streams, and only erasing removes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from appliance.archive.index import DamagedIndexError
from appliance.archive.indexing import build_index, stored_index
from appliance.archive.markers import read_markers
from appliance.archive.segments import numbered_segments
from appliance.archive.stored_files import ARCHIVE
from appliance.health import Finding, finding
from appliance.maintenance.moving import erasings
from appliance.states import STREAM, student_key

_SHOWN = 20


def erased_again(data: Path, stored: Mapping[str, Mapping[str, bytes]]) -> dict[str, int]:
    """The ids of erased students who have lines in files that were put back, each with the number of lines.

    Args:
        data: the data folder.
        stored: the fields of the stored rows, by key.
    """
    found: dict[str, int] = {}
    for path in _returned(data):
        # Other checks of verify report a file that cannot be read.
        with suppress(DamagedIndexError, OSError):
            index = stored_index(path) or build_index(path)
            for student_id in index.students if index else ():
                fields = stored.get(student_key(student_id), {})
                student = index.student(student_id) if index else None
                if student and any(STREAM + stream not in fields for stream in student.streams):
                    found[student_id] = found.get(student_id, 0) + student.lines
    return found


def erased_findings(students: Mapping[str, int]) -> Iterator[Finding]:
    """A finding for each of the first few students of `erased_again`, and one for all others."""
    for number, (student_id, lines) in enumerate(sorted(students.items())):
        if number == _SHOWN:
            yield finding("archive.erased_again_more", students=len(students) - _SHOWN)
            return
        yield finding("archive.erased_again", student_id, count=lines)


def unknown_findings(data: Path) -> Iterator[Finding]:
    """A finding where no stored states show whether files that were put back have lines of an erased student."""
    if files := _returned(data):
        yield finding("archive.erased_unknown", ", ".join(path.name for path in files))


def _returned(data: Path) -> Sequence[Path]:
    """The files that were put back after a student had been erased meanwhile, and were not rewritten since."""
    folder = data / ARCHIVE
    try:
        times = erasings(data)
    except OSError:
        # The check of that file reports it.
        return []
    gone: dict[int, float] = {}
    returned: set[int] = set()
    for marker in read_markers(folder)[0] if times else ():
        for segment in marker.segments:
            if marker.kind == "moved":
                gone.setdefault(segment.number, marker.when)
            elif marker.kind == "returned":
                began = gone.pop(segment.number, marker.when)
                if any(began <= when <= marker.when for when in times):
                    returned.add(segment.number)
    return [path for number, path in numbered_segments(folder) if number in returned] if returned else []
