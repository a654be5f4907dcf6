"""Merged students: those whose archived events belong to another student, since an educator merged the two.

The roster decides it; the archive itself stays as it was written. ``archive/merged-students.jsonl`` has a sealed line
(`appliance.datafolder.sealed`) for each of them. It is beside the segments, so that everything that reads these gives
the states of the live class, without a roster. A start writes it again from the roster.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from appliance.archive.records import Damage, Record
from appliance.datafolder import sealed
from appliance.datafolder.files import write_private
from appliance.health import Finding, finding

MERGED_STUDENTS = "merged-students.jsonl"


class MergedStudent(msgspec.Struct, frozen=True):
    """A line of the file: the student who was merged, and the one who stays."""

    student_id: str
    merged_into: str


def read_merged(folder: Path) -> tuple[dict[str, str], list[Finding]]:
    """By the id of each merged student the id of the one who stays, and a finding for each line that is damaged."""
    path = folder / MERGED_STUDENTS
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        return {}, [finding("file.unreadable", path.name, detail=error.strerror or type(error).__name__)]
    merged, findings = {}, []
    for line in sealed.lines(content):
        one = None
        if line.text is not None:
            try:
                one = msgspec.json.decode(line.text, type=MergedStudent)
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass
        if one is not None:
            merged[one.student_id] = one.merged_into
        if one is None or not line.whole:
            findings.append(finding("file.damaged", path.name, line=line.number))
    return merged, findings


def write_merged(folder: Path, merged: Mapping[str, str]) -> None:
    """Write the file, durably, if it has not that content; without merged students there is no file.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / MERGED_STUDENTS
    content = b"".join(sealed.encode(MergedStudent(*pair)) for pair in sorted(merged.items()))
    if content != (path.read_bytes() if path.exists() else b""):
        write_private(path, content)


def without_student(folder: Path, student_id: str) -> None:
    """Remove the lines that name a student.

    Raises:
        OSError: the file cannot be written.
    """
    merged, _ = read_merged(folder)
    if merged:
        write_merged(folder, {one: into for one, into in merged.items() if student_id not in (one, into)})


class Owners:
    """Whose the lines of an archive folder are now.

    Attributes:
        merged: by the id of each merged student, the id of the one who stays.
    """

    def __init__(self, folder: Path) -> None:
        self.merged = read_merged(folder)[0]

    def ids_of(self, student_id: str) -> frozenset[str]:
        """The ids under which there are lines of a student."""
        return frozenset((student_id, *(one for one, into in self.merged.items() if into == student_id)))

    def of(self, record: Record | Damage) -> Record | Damage:
        """A line, with the id of the student to whom it belongs now."""
        if self.merged and type(record) is Record and record.student_id in self.merged:
            return replace(record, student_id=self.merged[record.student_id])
        return record
