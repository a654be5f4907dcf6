"""The files of a roster, as backup, verify and erase ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from appliance.datafolder.files import write_private
from appliance.datafolder.stored_files import EraseError, JournalFiles, KnownStudent, Place, StudentTraces
from appliance.health import Finding, finding
from appliance.roster import RosterLimits
from appliance.roster.flatfile import JOURNAL
from appliance.roster.lists import CLASSES, STUDENTS, is_cut_off, read_lists, without


class RosterFiles(JournalFiles):
    """The journal of a roster of files, and the educator's lists beside it."""

    def __init__(self, folder: Path, limits: RosterLimits) -> None:
        """Args:
        folder: the roster's folder.
        limits: of the lists.
        """
        super().__init__(folder, JOURNAL, STUDENTS, CLASSES)
        self._limits = limits

    def verify(self) -> Iterator[Finding]:
        yield from super().verify()
        for name in (STUDENTS, CLASSES):
            if is_cut_off(self.root / name):
                yield finding("roster.cut_off", name)

    def students(self) -> Iterator[KnownStudent]:
        yield from super().students()
        if self.root.is_dir():
            for student in read_lists(self.root, self._limits).students.values():
                yield KnownStudent(student.student_id, student.name, student.class_id)

    def find_student(self, student_id: str) -> StudentTraces:
        found = super().find_student(student_id).found
        listed = self.root.is_dir() and student_id in read_lists(self.root, self._limits).students
        listed = listed or any(self._without(path, student_id) is not None for path in self._list_copies())
        return StudentTraces(student_id, found or listed)

    def count(self, student: StudentTraces) -> Iterator[Place]:
        for place in super().count(student):
            yield Place(f"roster/{place.where}", place.count, place.what)
        for path in (self.root / STUDENTS, *self._list_copies()):
            if self._without(path, student.student_id) is not None:
                yield Place(f"roster/{path.name}", 1, "entries")

    def remove_student(self, student: StudentTraces) -> None:
        super().remove_student(student)
        for path in (self.root / STUDENTS, *self._list_copies()):
            content = self._without(path, student.student_id)
            if content is not None:
                write_private(path, content)

    def _list_copies(self) -> list[Path]:
        """Conflict copies of the list of students."""
        return [path for path in self.copies() if path.suffix == ".csv" and path.name.startswith(Path(STUDENTS).stem)]

    def _without(self, path: Path, student_id: str) -> bytes | None:
        try:
            return without(path, student_id, self._limits)
        except ValueError as error:
            raise EraseError(f"{error} The student may be in it; correct the list, then erase again.") from None
