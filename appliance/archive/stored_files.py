"""The archive's files, as backup, verify and erase ask for them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from appliance.archive.accepted_gaps import ACCEPTED_GAPS, read_accepted, without_student
from appliance.archive.compression import PackedWriter, save_index
from appliance.archive.index_files import INDEX_NAMES, proven_index, remove_indexes_with, verify_indexes
from appliance.archive.markers import MARKERS, missing_findings, read_markers
from appliance.archive.records import Damage, parse_line
from appliance.archive.segments import SEGMENT_NAME, compressed, misplaced_folders, open_segment, segments
from appliance.archive.torn_lines import TORN
from appliance.datafolder.files import PART, remove, written_whole
from appliance.datafolder.stored_files import EraseError, Opened, StoredFiles, StudentTraces
from appliance.datafolder.traces import json_forms
from appliance.health import Finding, finding

ARCHIVE = "archive"
_STUDENT = b'"student_id":"'


class _UnchangedError(Exception):
    """A segment holds nothing of the student."""


class ArchiveFiles(StoredFiles):
    """Segments, their indexes, the markers, the accepted gaps, and the files of torn lines."""

    def __init__(self, root: Path) -> None:
        names = ("events-*.jsonl", "events-*.jsonl.gz", INDEX_NAMES, MARKERS, ACCEPTED_GAPS, f"{TORN}/*")
        super().__init__(root, *(f"{ARCHIVE}/{name}" for name in names))
        self.folder = root / ARCHIVE

    def files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        # An index is not copied: it follows from its segment.
        others = [path for path in super().files() if path.suffix != ".index" and not SEGMENT_NAME.fullmatch(path.name)]
        # A segment that exists plain and compressed, as after a power cut, counts once.
        return segments(self.folder) + others

    def open(self, path: Path) -> Opened | None:
        return super().open(path) or super().open(compressed(path))

    def verify(self) -> Iterator[Finding]:
        if not self.folder.is_dir():
            return
        for path in misplaced_folders(self.folder):
            yield finding("archive.folder", path.name)
        yield from read_markers(self.folder)[1]
        yield from read_accepted(self.folder)[1]
        yield from missing_findings(self.folder)
        yield from verify_indexes(self.folder)

    def find_student(self, student_id: str) -> StudentTraces:
        """Read the whole archive, or the indexes of segments without damage that are as they were when indexed."""
        count = 0
        streams: set[str] = set()
        for path in segments(self.folder) if self.folder.is_dir() else ():
            index = proven_index(path)
            if index and not index.damaged:
                if known := index.students.get(student_id):
                    count += known.lines
                    streams |= known.streams.keys()
                continue
            try:
                with open_segment(path) as file:
                    for raw in file:
                        record = parse_line(raw, path.name, 0, 0)
                        if not isinstance(record, Damage) and record.student_id == student_id:
                            count += 1
                            streams.add(record.stream)
            except (EOFError, OSError, zlib.error) as error:
                raise EraseError(
                    f"The archive file {path.name} is damaged: {type(error).__name__}. What it holds cannot be "
                    "searched, so nothing was erased. Restore it from a backup, or move it out of the archive."
                ) from None
        return StudentTraces(student_id, bool(count), count, tuple(sorted(streams)))

    def remove_student(self, student: StudentTraces) -> None:
        """Rewrite each segment without the student's lines, and without damaged lines that may be the student's."""
        if not self.folder.is_dir():
            return
        self._remove_doubles()
        remove_indexes_with(self.folder, student.student_id, *student.streams)
        without_student(self.folder, student.student_id)
        for path in segments(self.folder):
            _rewrite(path, student)
        torn = self.folder / TORN
        for path in torn.iterdir() if torn.is_dir() else ():
            if path.is_file() and _may_be_of(path.read_bytes(), student):
                remove(path)

    def _remove_doubles(self) -> None:
        """Of segments that exist plain and compressed, as after a power cut, remove the compressed ones."""
        chosen = set(segments(self.folder))
        for path in self.folder.iterdir():
            if SEGMENT_NAME.fullmatch(path.name) and path not in chosen and not path.is_dir():
                remove(path)


def _rewrite(path: Path, student: StudentTraces) -> None:
    """Write a segment without the student's lines; the new file takes the old one's place at once."""
    erased = False
    try:
        with open_segment(path) as old, written_whole(path, path.with_name(path.name + PART)) as file:
            new = PackedWriter(file) if path.suffix == ".gz" else file
            for raw in old:
                record = parse_line(raw, path.name, 0, 0)
                if isinstance(record, Damage):
                    theirs = _may_be_of(raw, student)
                else:
                    theirs = record.student_id == student.student_id
                erased = erased or theirs
                if not theirs:
                    new.write(raw)
            if isinstance(new, PackedWriter):
                new.close()
            if not erased:
                raise _UnchangedError
    except _UnchangedError:
        return
    if isinstance(new, PackedWriter):
        save_index(path, new.index)


def _may_be_of(raw: bytes, student: StudentTraces) -> bool:
    """Whether a damaged line may be the student's: it has the id, or a stream's, or is cut off within the id."""
    if any(form in raw for text in (student.student_id, *student.streams) for form in json_forms(text)):
        return True
    _, begins, rest = raw.rpartition(_STUDENT)
    cut_off = bool(begins) and b'"' not in rest
    return cut_off and any(form.startswith(rest.strip()) for form in json_forms(student.student_id))
