"""The files of a roster, as backup, verify and erase ask for them: the SQLite file, and the educator's lists."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from appliance.datafolder.files import write_private
from appliance.datafolder.stored_files import (
    EraseError,
    JournalFiles,
    KnownStudent,
    Opened,
    Place,
    StoredFiles,
    StudentTraces,
)
from appliance.errors import BackendError, SettingsError
from appliance.health import Finding, finding
from appliance.roster.earlier_journal import JOURNAL
from appliance.roster.limits import RosterLimits
from appliance.roster.lists import CLASSES, STUDENTS, is_cut_off, key_without_id, read_lists, without
from appliance.roster.sqlite_check import check
from appliance.roster.sqlite_errors import ERRORS, reason_of
from appliance.roster.sqlite_file import LOG, ROLLBACK, SHARED_MEMORY, RosterFile
from appliance.roster.sqlite_log import log_damage
from appliance.roster.sqlite_read import copy, reading, row, rows
from appliance.roster.store import Table, Write
from appliance.roster.tables import PEOPLE, REQUESTS, SECRETS, TOKENS, Student
from appliance.roster.tables import STUDENTS as STUDENT_ROWS


class RosterStoreFiles(StoredFiles):
    """The SQLite roster, with what SQLite has beside it."""

    def __init__(self, file: Path) -> None:
        """Args:
        file: the roster.
        """
        super().__init__(file.parent, *(file.name + end for end in ("", LOG, SHARED_MEMORY, ROLLBACK)))
        self._file = file

    def files(self) -> list[Path]:
        # The log is within the copy that `open` makes.
        return [path for path in super().files() if path == self._file]

    def open(self, path: Path) -> Opened | None:
        if not path.exists():
            return None
        try:
            content = copy(path)
        except ERRORS:
            # A damaged file is kept as it is.
            return super().open(path)
        size = content.seek(0, io.SEEK_END)
        content.seek(0)
        return Opened(path, content, size)

    def verify(self) -> Iterator[Finding]:
        if not self._file.exists():
            return
        name = self._file.name
        try:
            found = [damage] if (damage := log_damage(self._file)) else []
            with reading(self._file) as connection:
                found += check(connection)
        except ERRORS as error:
            found = [reason_of(error)]
        except OSError as error:
            yield finding("file.unreadable", name, detail=error.strerror or type(error).__name__)
            return
        yield finding("roster.damaged", name, detail="; ".join(found)) if found else finding("file.read", name)

    def students(self) -> Iterator[KnownStudent]:
        if not self._file.exists():
            return
        with self._reading() as connection:
            people = {one.person_id: one for one in rows(connection, PEOPLE)}
            for student in rows(connection, STUDENT_ROWS):
                person = people.get(student.person_id)
                named = (person.name, person.given, person.family, person.preferred) if person is not None else ()
                for name in dict.fromkeys(name for name in (student.name, *named) if name):
                    yield KnownStudent(student.student_id, name, student.class_id)
            for request in rows(connection, REQUESTS):
                yield KnownStudent(request.student_id, request.name, request.class_id)

    def merged_into(self, student_id: str) -> list[str]:
        """Ids of the students who were merged into one.

        Raises:
            EraseError: the file cannot be read.
        """
        if not self._file.exists():
            return []
        with self._reading() as connection:
            return [one.student_id for one in rows(connection, STUDENT_ROWS) if one.merged_into == student_id]

    def find_student(self, student_id: str) -> StudentTraces:
        return StudentTraces(student_id, bool(self._writes(student_id)))

    def count(self, student: StudentTraces) -> Iterator[Place]:
        if writes := self._writes(student.student_id):
            yield Place(f"roster/{self._file.name}", len(writes), "rows")

    def remove_student(self, student: StudentTraces) -> None:
        writes = self._writes(student.student_id)
        if not self._file.exists():
            return
        try:
            file = RosterFile(self._file)
            try:
                file.commit([writes])
                # What is deleted was overwritten; no page, and no log, keeps an older copy.
                file.compact()
            finally:
                file.close()
        except (SettingsError, BackendError) as error:
            raise EraseError(str(error)) from None

    def _writes(self, student_id: str) -> list[Write[Any]]:
        """The removal of each row that is about a student."""
        if not self._file.exists():
            return []
        with self._reading() as connection:
            found: list[tuple[Table[Any], str]] = []
            student = row(connection, STUDENT_ROWS, student_id)
            if student is not None:
                found.append((STUDENT_ROWS, student_id))
            if student is not None and student.person_id and not self._has_others(connection, student):
                found.append((PEOPLE, student.person_id))
            found += [(TOKENS, one.hash) for one in rows(connection, TOKENS) if one.student_id == student_id]
            found += [(SECRETS, student_id) for one in [row(connection, SECRETS, student_id)] if one is not None]
            for request in rows(connection, REQUESTS):
                # A question about a newcomer may name the student whose name it looks like.
                alike = student is not None and request.looks_like == student.name
                if request.student_id == student_id or alike:
                    found.append((REQUESTS, request.request_id))
            return [Write(table, key, None) for table, key in found]

    @staticmethod
    def _has_others(connection: sqlite3.Connection, student: Student) -> bool:
        """Whether the person is a student of another class, too."""
        return any(
            one.person_id == student.person_id and one.student_id != student.student_id
            for one in rows(connection, STUDENT_ROWS)
        )

    def _reading(self) -> _Reading:
        return _Reading(self._file)


class _Reading:
    """`reading`, whose errors say that the file must be restored first."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._manager = reading(file)

    def __enter__(self) -> sqlite3.Connection:
        try:
            return self._manager.__enter__()
        except ERRORS as error:
            raise self._refused(error) from None

    def __exit__(self, kind: Any, error: BaseException | None, at: Any) -> None:
        self._manager.__exit__(kind, error, at)
        if isinstance(error, ERRORS):
            raise self._refused(error) from None

    def _refused(self, error: Exception) -> EraseError:
        return EraseError(
            f"{self._file.name} cannot be searched: {reason_of(error)}. Restore it from a backup, then try again."
        )


def other_lists(folder: Path) -> list[str]:
    """Names of the lists in a watched folder that `RosterListFiles` does not change."""
    if not folder.is_dir():
        return []
    suffixes = (".csv", ".txt", ".tsv", ".zip")
    own = (STUDENTS, CLASSES)
    return sorted(path.name for path in folder.iterdir() if path.suffix in suffixes and path.name not in own)


class RosterListFiles(JournalFiles):
    """The educator's lists, and the journal of an earlier format beside them."""

    def __init__(self, folder: Path, file: Path | None, limits: RosterLimits) -> None:
        """Args:
        folder: the folder of the lists.
        file: the SQLite roster that has the students of the lists; None where it is none of files.
        limits: of the lists.
        """
        super().__init__(folder, JOURNAL, STUDENTS, CLASSES)
        self._file = file
        self._limits = limits

    def verify(self) -> Iterator[Finding]:
        yield from super().verify()
        for name in (STUDENTS, CLASSES):
            if is_cut_off(self.root / name):
                yield finding("roster.cut_off", name)

    def students(self) -> Iterator[KnownStudent]:
        yield from super().students()
        if not self.root.is_dir():
            return
        listed = read_lists(self.root, self._limits).students
        imported = self._imported()
        for key, student in listed.items():
            yield KnownStudent(imported.get(key, key), student.name, student.class_id)

    def find_student(self, student_id: str) -> StudentTraces:
        found = super().find_student(student_id).found
        keys = self._keys(student_id)
        return StudentTraces(student_id, found or any(self._without(path, keys) is not None for path in self._lists()))

    def count(self, student: StudentTraces) -> Iterator[Place]:
        for place in super().count(student):
            yield Place(f"roster/{place.where}", place.count, place.what)
        keys = self._keys(student.student_id)
        for path in self._lists():
            if self._without(path, keys) is not None:
                yield Place(f"roster/{path.name}", 1, "entries")

    def remove_student(self, student: StudentTraces) -> None:
        super().remove_student(student)
        keys = self._keys(student.student_id)
        for path in self._lists():
            content = self._without(path, keys)
            if content is not None:
                write_private(path, content)

    def _lists(self) -> list[Path]:
        """The list of students, and conflict copies of it."""
        copies = [path for path in self.copies() if path.suffix == ".csv" and path.name.startswith(Path(STUDENTS).stem)]
        return [self.root / STUDENTS, *copies]

    def _keys(self, student_id: str) -> frozenset[str]:
        """What a row of the list has, or would have, as the id of a student."""
        return frozenset({student_id, *(key for key, id in self._imported(student_id).items() if id == student_id)})

    def _imported(self, student_id: str = "") -> dict[str, str]:
        """By the id that the list gives, or that is computed where it gives none, the id of the student."""
        found: dict[str, str] = {}
        if self._file is None or not self._file.exists():
            return found
        with suppress(*ERRORS, OSError), reading(self._file) as connection:
            people = {one.person_id: one for one in rows(connection, PEOPLE)}
            one = row(connection, STUDENT_ROWS, student_id) if student_id else None
            for student in [one] if one is not None else rows(connection, STUDENT_ROWS):
                person = people.get(student.person_id)
                if person is None:
                    continue
                for name in {student.name, person.name}:
                    found[key_without_id(student.class_id, name)] = student.student_id
                if person.source_id:
                    found[person.source_id] = student.student_id
        return found

    def _without(self, path: Path, keys: frozenset[str]) -> bytes | None:
        try:
            return without(path, keys, self._limits)
        except ValueError as error:
            raise EraseError(f"{error} The student may be in it; correct the list, then erase again.") from None
