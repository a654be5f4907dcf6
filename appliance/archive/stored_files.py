"""The archive's files, as backup, verify and erase ask for them."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from appliance.archive.accepted_gaps import ACCEPTED_GAPS, read_accepted, without_student
from appliance.archive.compression import PackedWriter, save_index
from appliance.archive.ends import complete_bytes
from appliance.archive.file_checks import doubles, file_findings, is_copy
from appliance.archive.index import DamagedIndexError
from appliance.archive.index_files import INDEX_NAMES, proven_index, remove_indexes_with, verify_indexes
from appliance.archive.markers import (
    MARKERS,
    MarkedSegment,
    Marker,
    add_marker,
    missing_findings,
    read_markers,
)
from appliance.archive.merged_students import MERGED_STUDENTS, read_merged
from appliance.archive.merged_students import without_student as without_merged
from appliance.archive.records import Damage, parse_line
from appliance.archive.rewriting import Rewriting
from appliance.archive.segments import SEGMENT_NAME, compressed, open_segment, segments
from appliance.archive.torn_lines import TORN
from appliance.datafolder.files import PART, remove, written_whole
from appliance.datafolder.stored_files import EraseError, Opened, Place, StoredFiles, StudentTraces, check_seal
from appliance.datafolder.traces import json_forms
from appliance.health import Finding

ARCHIVE = "archive"
_STUDENT = b'"student_id":"'


class _UnchangedError(Exception):
    """A segment holds nothing of the student."""


class ArchiveFiles(StoredFiles):
    """Segments, their indexes, the markers, the accepted gaps, the merged students, and the files of torn lines."""

    edits_copies = True

    def __init__(self, root: Path) -> None:
        names = (
            "events-*.jsonl",
            "events-*.jsonl.gz",
            INDEX_NAMES,
            MARKERS,
            ACCEPTED_GAPS,
            MERGED_STUDENTS,
            f"{TORN}/*",
        )
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
        """Open a segment; of the last one, up to its last finished group."""
        opened = super().open(path) or super().open(compressed(path))
        if opened is None or not SEGMENT_NAME.fullmatch(path.name) or opened.path.suffix == ".gz":
            return opened
        if path != segments(self.folder)[-1]:
            return opened
        size = min(opened.size, complete_bytes(path))
        if size:
            return opened._replace(size=size)
        # A start would report an empty segment.
        opened.content.close()
        return None

    def verify(self) -> Iterator[Finding]:
        if not self.folder.is_dir():
            return
        yield from file_findings(self.folder)
        yield from read_markers(self.folder)[1]
        yield from read_accepted(self.folder)[1]
        yield from read_merged(self.folder)[1]
        yield from missing_findings(self.folder)
        yield from verify_indexes(self.folder)
        for path in _files_in(self.folder / TORN):
            yield from check_seal(path)

    def find_student(self, student_id: str) -> StudentTraces:
        """Read the whole archive, or the indexes of segments without damage that are as they were when indexed."""
        count = 0
        streams: set[str] = set()
        for path in self._edited():
            index = proven_index(path)
            try:
                if index and not index.damaged:
                    if known := index.student(student_id):
                        count += known.lines
                        streams |= known.streams.keys()
                    continue
            except DamagedIndexError:
                pass
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

    def count(self, student: StudentTraces) -> Iterator[Place]:
        for path in self._edited():
            with open_segment(path) as file:
                number = sum(_is_of(raw, path.name, student) for raw in file)
            if number:
                yield Place(self.name_of(path), number, "lines")
        torn = self.folder / TORN
        number = sum(_may_be_of(path.read_bytes(), student) for path in _files_in(torn))
        if number:
            yield Place(f"{ARCHIVE}/{TORN}", number, "files")

    def remove_student(self, student: StudentTraces) -> None:
        """Rewrite each segment without the student's lines, and without damaged lines that may be the student's."""
        if not self.folder.is_dir():
            return
        self._remove_doubles()
        remove_indexes_with(self.folder, student.student_id, *student.streams)
        without_student(self.folder, student.student_id)
        without_merged(self.folder, student.student_id)
        for path in self._edited():
            _rewrite(path, student)
        for path in _files_in(self.folder / TORN):
            if _may_be_of(path.read_bytes(), student):
                remove(path)

    def _edited(self) -> list[Path]:
        """The segments, those that are not read, and conflict copies, which hold the same students' lines."""
        if not self.folder.is_dir():
            return []
        others = [path for path, chosen in doubles(self.folder) if not is_copy(path, chosen)]
        return [*segments(self.folder), *others, *self.copies()]

    def _remove_doubles(self) -> None:
        """Of segments that exist plain and compressed, as after a power cut, remove those that are not read."""
        for path, chosen in doubles(self.folder):
            if is_copy(path, chosen):
                remove(path)


def _rewrite(path: Path, student: StudentTraces) -> None:
    """Write a segment without the student's lines; the new file takes the old one's place at once."""
    try:
        with open_segment(path) as old, written_whole(path, path.with_name(path.name + PART)) as file:
            new = PackedWriter(file) if path.suffix == ".gz" else file
            rewriting = Rewriting(old, lambda raw: _is_of(raw, path.name, student))
            for piece in filter(None, rewriting.pieces()):
                new.write(piece)
            if isinstance(new, PackedWriter):
                new.close()
            if not rewriting.removed:
                raise _UnchangedError
            # Before the new file takes the old one's place, whose last checksum the next segment names.
            _mark(path, rewriting)
    except _UnchangedError:
        return
    if isinstance(new, PackedWriter):
        save_index(path, new.index)


def _mark(path: Path, done: Rewriting) -> None:
    """Note that a segment was rewritten; nothing of the student."""
    match = SEGMENT_NAME.fullmatch(path.name)
    if match is None:
        return
    marked = MarkedSegment(
        path.name,
        int(match[2]),
        done.lines,
        done.size,
        before=done.before,
        head=done.head,
        new_before=done.before if done.new_head else "",
        new_head=done.new_head,
    )
    # An erasing that was cut short is done again.
    if all(marker.segments != [marked] for marker in read_markers(path.parent)[0]):
        add_marker(path.parent, Marker("erased", round(time.time(), 3), [marked]))


def _files_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _is_of(raw: bytes, name: str, student: StudentTraces) -> bool:
    """Whether a line is the student's, or damaged and may be."""
    record = parse_line(raw, name, 0, 0)
    return _may_be_of(raw, student) if isinstance(record, Damage) else record.student_id == student.student_id


def _may_be_of(raw: bytes, student: StudentTraces) -> bool:
    """Whether a damaged line may be the student's: it has the id, or a stream's, or is cut off within the id."""
    if any(form in raw for text in (student.student_id, *student.streams) for form in json_forms(text)):
        return True
    _, begins, rest = raw.rpartition(_STUDENT)
    cut_off = bool(begins) and b'"' not in rest
    return cut_off and any(form.startswith(rest.strip()) for form in json_forms(student.student_id))
