"""Stored files: which part of the program stores which files in the data folder, and what maintenance asks of it.

``backup`` asks each part for its files, ``verify`` for a check of them, ``erase`` for the removal of a student. A part
that stores files has a subclass or an instance of `StoredFiles`; `appliance.maintenance.all_files` lists them all. So a
new kind of file is declared once, and a file that nobody declares is found.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from appliance.datafolder import sealed
from appliance.datafolder.damaged_lines import damaged_lines_path
from appliance.datafolder.files import last_line_end, remove, unfinished_name, write_private
from appliance.datafolder.foreign import conflict_copy_of, is_of_desktop
from appliance.datafolder.small_file import UNREADABLE, copy_path
from appliance.datafolder.traces import decoded_or_none, is_about, objects
from appliance.errors import ObserverError
from appliance.health import Finding, finding


class EraseError(ObserverError):
    """A student cannot be erased; nothing was changed, or the text says what is left to do."""


class KnownStudent(msgspec.Struct, frozen=True):
    """A student whom stored files name, now or once."""

    student_id: str
    name: str
    class_id: str


class StudentTraces(msgspec.Struct, frozen=True):
    """What is stored of a student.

    Attributes:
        student_id: the student.
        found: whether there is anything.
        archive_lines: number of lines of the archive.
        streams: ids of the student's streams; they identify damaged lines, too.
    """

    student_id: str
    found: bool = False
    archive_lines: int = 0
    streams: tuple[str, ...] = ()


class Place(msgspec.Struct, frozen=True):
    """What one place holds of a student.

    Attributes:
        where: the file, relative to the data folder, or a kind of row in a store.
        count: how many.
        what: of what, in the plural: lines, rows, entries, files.
    """

    where: str
    count: int
    what: str


class Opened(NamedTuple):
    """A file that is open for a copy.

    Attributes:
        path: the file, which may have another name than the one that was asked for.
        content: positioned at its beginning.
        size: this many bytes of it belong to the copy.
    """

    path: Path
    content: io.BufferedReader
    size: int


class StoredFiles:
    """The files of one part of the program. A subclass says what is special about them.

    Attributes:
        root: the data folder, or another folder that the part was given.
        patterns: names of the files, relative to `root`, with ``/`` between folders; ``*`` stands for any characters.
        edits_copies: whether `remove_student` edits conflict copies of the files, too. Else a copy that holds
            something of the student is removed whole.
    """

    edits_copies = False

    def __init__(self, root: Path, *patterns: str) -> None:
        self.root = root
        self.patterns = patterns

    def owns(self, path: Path) -> bool:
        """Whether a path, also of a file that is not there, is one of these files."""
        if not path.is_relative_to(self.root):
            return False
        name = path.relative_to(self.root).as_posix()
        return any(fnmatchcase(name, pattern) for pattern in self.patterns) and not self._is_foreign(path)

    def name_of(self, path: Path) -> str:
        """The name of one of these files relative to `root`, with ``/`` between folders."""
        return path.relative_to(self.root).as_posix()

    def files(self) -> list[Path]:
        """The existing files, in the order in which a backup copies them."""
        found = (path for pattern in self.patterns for path in sorted(self.root.glob(pattern)))
        return [
            path for path in found if path.is_file() and unfinished_name(path) is None and not self._is_foreign(path)
        ]

    def conflict_copy(self, path: Path) -> str | None:
        """The name of the file of this part of which a synced folder made this copy; None for any other file."""
        original = conflict_copy_of(path)
        if original is None or not path.is_relative_to(self.root):
            return None
        name = path.with_name(original).relative_to(self.root).as_posix()
        # Where any name is allowed, one that looks like a conflict copy may have been chosen.
        chosen = [pattern for pattern in self.patterns if not pattern.endswith("/*")]
        return original if any(fnmatchcase(name, pattern) for pattern in chosen) else None

    def _is_foreign(self, path: Path) -> bool:
        """Whether another program put the file there (`appliance.datafolder.foreign`)."""
        return is_of_desktop(path) or self.conflict_copy(path) is not None

    def copies(self) -> list[Path]:
        """Conflict copies of these files, which a program that synchronizes folders made; nothing reads them."""
        folders = sorted({(self.root / pattern).parent for pattern in self.patterns})
        there = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir()) if path.is_file()]
        return [path for path in there if self.conflict_copy(path) is not None]

    def unfinished(self) -> Iterator[Path]:
        """Files that were being written when the program was killed, and copies of them; nothing reads them."""
        for folder in {(self.root / pattern).parent for pattern in self.patterns}:
            for path in folder.iterdir() if folder.is_dir() else ():
                original = conflict_copy_of(path)
                if path.is_file() and (
                    self._is_unfinished(path, path.name) or (original and self._is_unfinished(path, original))
                ):
                    yield path

    def _is_unfinished(self, path: Path, name: str) -> bool:
        """Whether a name in the folder of `path` is that of one of these files while it is written."""
        whole = unfinished_name(path.with_name(name))
        return whole is not None and self.owns(path.with_name(whole))

    def open(self, path: Path) -> Opened | None:
        """Open a file for a copy; None where it is gone meanwhile.

        Raises:
            OSError: it cannot be read.
        """
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        size = file.seek(0, os.SEEK_END)
        if path.suffix == ".jsonl":
            # What follows the last line break is being written, or was torn; neither was acknowledged.
            size = last_line_end(file, size)
        file.seek(0)
        return Opened(path, file, size)

    def verify(self) -> Iterator[Finding]:
        """Check the files; yields findings, of severity ``ok`` for files without problems."""
        yield from ()

    def students(self) -> Iterator[KnownStudent]:
        """The students whom the files name, one of them perhaps with several names."""
        yield from ()

    def find_student(self, student_id: str) -> StudentTraces:
        """What the files hold of a student.

        Raises:
            EraseError: a file cannot be read, and so not be searched.
            OSError: likewise.
        """
        return StudentTraces(student_id)

    def count(self, student: StudentTraces) -> Iterator[Place]:
        """What `remove_student` would remove, by file; for a receipt.

        Args:
            student: as for `remove_student`.

        Raises:
            EraseError, OSError: as `find_student`.
        """
        yield from ()

    def remove_student(self, student: StudentTraces) -> None:
        """Remove a student. May be called again after it was cut short; changes each file whole or not at all.

        Args:
            student: with the streams that all stored files together have of the student.

        Raises:
            EraseError: a file cannot be read, and so not be searched.
            OSError: a file cannot be written.
        """


class JsonFile(StoredFiles):
    """A file that is one JSON value, or, with the suffix ``.jsonl``, one a line; and the files beside it."""

    def __init__(
        self, root: Path, name: str, kind: Any, decode: Callable[[bytes, Any], object] = sealed.decode
    ) -> None:
        """Args:
        root: see `StoredFiles`.
        name: the file's name.
        kind: the type of its value, or of each line.
        decode: see `small_file.SmallFile`.
        """
        self._paths = (root / name, copy_path(root / name))
        self._damaged = damaged_lines_path(root / name)
        super().__init__(root, *(path.name for path in (*self._paths, self._damaged)))
        self._kind = kind
        self._decode = decode

    def verify(self) -> Iterator[Finding]:
        for path in self._paths:
            yield from check_json(path, self._kind, self._decode)
        yield from check_damaged_lines(self._damaged)

    def find_student(self, student_id: str) -> StudentTraces:
        return StudentTraces(student_id, any(is_about(line, student_id) for line in _lines(self._damaged)))

    def remove_student(self, student: StudentTraces) -> None:
        _remove_lines(self._damaged, student)


class JournalFiles(StoredFiles):
    """The file of a `Journal`, and the one beside it with its damaged lines."""

    edits_copies = True

    def __init__(self, root: Path, name: str, *patterns: str) -> None:
        self._journals = (root / name, damaged_lines_path(root / name))
        super().__init__(root, *(path.name for path in self._journals), *patterns)

    def verify(self) -> Iterator[Finding]:
        journal, damaged = self._journals
        yield from check_json(journal, dict[str, Any])
        yield from check_damaged_lines(damaged)

    def students(self) -> Iterator[KnownStudent]:
        for path in self._journals:
            for line in _lines(path):
                for thing in objects(decoded_or_none(line)):
                    match thing:
                        case {"student_id": str(student_id), "name": str(name), "class_id": str(class_id)}:
                            yield KnownStudent(student_id, name, class_id)

    def find_student(self, student_id: str) -> StudentTraces:
        found = any(is_about(line, student_id) for path in self._edited() for line in _lines(path))
        return StudentTraces(student_id, found)

    def count(self, student: StudentTraces) -> Iterator[Place]:
        for path in self._edited():
            number = sum(is_about(line, student.student_id) for line in _lines(path))
            if number:
                yield Place(self.name_of(path), number, "lines")

    def remove_student(self, student: StudentTraces) -> None:
        for path in self._edited():
            _remove_lines(path, student)

    def _edited(self) -> list[Path]:
        """The journals, and their conflict copies."""
        return [*self._journals, *(path for path in self.copies() if path.suffix == ".jsonl")]


def check_json(path: Path, kind: Any, decode: Callable[[bytes, Any], object] = sealed.decode) -> Iterator[Finding]:
    """Read a file of JSON; with the suffix ``.jsonl`` a value a line. Nothing is found where it is not there."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        yield finding("file.unreadable", path.name, detail=error.strerror or type(error).__name__)
        return
    if not content and path.suffix == ".jsonl":
        yield finding("file.empty", path.name)
        return
    damaged = False
    for line in sealed.lines(content) if path.suffix == ".jsonl" else [sealed.Line(0, content, content, True)]:
        try:
            if line.text is not None and line.whole:
                decode(line.text, kind)
                continue
        except UNREADABLE:
            pass
        damaged = True
        yield finding("file.damaged", path.name, line=line.number or "")
    if not damaged:
        yield finding("file.read", path.name)


def check_seal(path: Path) -> Iterator[Finding]:
    """Check a file that is one sealed text, of any form. Nothing is found where it is as it was written."""
    try:
        sealed.unseal(path.read_bytes())
    except sealed.SealError:
        yield finding("file.damaged", path.name, line="")
    except OSError as error:
        yield finding("file.unreadable", path.name, detail=error.strerror or type(error).__name__)


def check_damaged_lines(path: Path) -> Iterator[Finding]:
    """Check the checksums of damaged lines that were put aside, and report that there are some."""
    lines = list(sealed.lines(path.read_bytes())) if path.is_file() else []
    for line in lines:
        if line.text is None or not line.whole:
            yield finding("file.damaged", path.name, line=line.number)
    if lines:
        yield finding("file.put_aside", path.name, count=len(lines))


def _remove_lines(path: Path, student: StudentTraces) -> None:
    lines = _lines(path)
    left = [line for line in lines if not is_about(line, student.student_id)]
    if not left and lines:
        # An empty file means that its content was lost.
        remove(path)
    elif len(left) < len(lines):
        write_private(path, b"".join(left))


def _lines(path: Path) -> list[bytes]:
    return [line + b"\n" for line in path.read_bytes().split(b"\n") if line] if path.is_file() else []
