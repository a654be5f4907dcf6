"""The files of a roster, as backup, verify and erase ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from appliance.datafolder.files import write_private
from appliance.datafolder.stored_files import EraseError, JournalFiles, KnownStudent, Place, StudentTraces
from appliance.roster import RosterLimits
from appliance.roster.flatfile import JOURNAL
from appliance.roster.lists import CLASSES, STUDENTS, read_lists, without


class RosterFiles(JournalFiles):
    """The journal of a roster of files, and the educator's lists beside it."""

    def __init__(self, folder: Path, limits: RosterLimits) -> None:
        """Args:
        folder: the roster's folder.
        limits: of the lists.
        """
        super().__init__(folder, JOURNAL, STUDENTS, CLASSES)
        self._limits = limits

    def students(self) -> Iterator[KnownStudent]:
        yield from super().students()
        if self.root.is_dir():
            for student in read_lists(self.root, self._limits).students.values():
                yield KnownStudent(student.student_id, student.name, student.class_id)

    def find_student(self, student_id: str) -> StudentTraces:
        found = super().find_student(student_id).found
        listed = self.root.is_dir() and student_id in read_lists(self.root, self._limits).students
        return StudentTraces(student_id, found or listed)

    def count(self, student: StudentTraces) -> Iterator[Place]:
        for place in super().count(student):
            yield Place(f"roster/{place.where}", place.count, place.what)
        if self._list_without(student) is not None:
            yield Place(f"roster/{STUDENTS}", 1, "entries")

    def remove_student(self, student: StudentTraces) -> None:
        super().remove_student(student)
        content = self._list_without(student)
        if content is not None:
            write_private(self.root / STUDENTS, content)

    def _list_without(self, student: StudentTraces) -> bytes | None:
        try:
            return without(self.root / STUDENTS, student.student_id, self._limits)
        except ValueError as error:
            raise EraseError(f"{error} The student may be in it; correct the list, then erase again.") from None
