"""The flat-file roster: an educator's class lists (`lists.py`), and a journal of all changes by the program.

The lines of ``roster.jsonl`` in the same folder are classes, students who joined, hashes of their tokens, and removed
students; see `appliance.datafolder.journal`. Only the program that serves may write here.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from appliance.counters import Counters
from appliance.datafolder.files import make_folder
from appliance.datafolder.journal import Journal
from appliance.errors import SettingsError
from appliance.health import Finding
from appliance.roster import (
    FIRST_CLASS,
    Class,
    Joined,
    JoinError,
    RosterLimits,
    Student,
    new_code,
    new_token,
    plain_code,
    token_hash,
)
from appliance.roster.lists import ListFolder, Lists
from appliance.roster.policy import JoinPolicy

JOURNAL = "roster.jsonl"


class _Token(msgspec.Struct, frozen=True):
    """The hash of a token of a student."""

    student_id: str
    hash: str


class _Change(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line of the journal; exactly one field is set.

    Attributes:
        section: a new or changed class.
        student: a new or renamed student.
        token: a new token.
        removed: id of a removed student.
    """

    section: Class | None = msgspec.field(default=None, name="class")
    student: Student | None = None
    token: _Token | None = None
    removed: str | None = None


class FlatFileRoster(JoinPolicy):
    """A roster in one folder of text files."""

    def __init__(self, folder: Path, limits: RosterLimits, counters: Counters) -> None:
        """Read the folder; it is written at the first change.

        Raises:
            SettingsError: the folder or the journal cannot be read.
        """
        super().__init__(limits, counters)
        self._classes: dict[str, Class] = {}
        self._students: dict[str, Student] = {}
        self._owners: dict[str, str] = {}
        self._tokens: dict[str, list[str]] = {}
        self._lists = Lists()
        self._joining: dict[str, int] = {}
        self._claiming: set[str] = set()
        try:
            make_folder(folder)
        except OSError as error:
            raise SettingsError(f"The roster {folder} cannot be used: {error.strerror}.") from error
        self._journal = Journal(folder / JOURNAL, _Change, self._apply)
        if self._journal.damaged:
            counters.add("roster_lines_damaged", len(self._journal.damaged))
        self._folder = ListFolder(folder, limits)
        self._read_changed_lists()

    async def class_ids(self) -> list[str]:
        return list(dict.fromkeys([*self._classes, *self._lists.classes]))

    def findings(self) -> list[Finding]:
        return [*super().findings(), *self._journal.findings()]

    async def classes(self) -> list[Class]:
        self._read_changed_lists()
        missing = [section for section in self._lists.classes.values() if section.class_id not in self._classes]
        new = [Class(s.class_id, s.title, s.code or self._free_code()) for s in missing]
        if not self._classes and not new:
            new = [Class(FIRST_CLASS, "My class", self._free_code())]
        if new:
            await self._journal.add(
                _Change(section=section) for section in new if section.class_id not in self._classes
            )
        return [section for section in self._classes.values() if self._is_used(section.class_id)]

    async def change_class(
        self, class_id: str, *, title: str | None = None, code: str | None = None, open: bool | None = None
    ) -> Class:
        section = next((section for section in await self.classes() if section.class_id == class_id), None)
        if section is None:
            raise JoinError("unknown_class", "There is no such class.")
        changed = Class(
            class_id,
            section.title if title is None else title,
            section.code if code is None else code,
            section.open if open is None else open,
        )
        if changed != section:
            await self._journal.add([_Change(section=changed)])
        return changed

    async def students(self, class_id: str) -> list[Student]:
        self._read_changed_lists()
        listed = self._lists.students
        known = [*listed.values(), *(s for s in self._students.values() if s.student_id not in listed)]
        found = [student for student in known if student.class_id == class_id]
        return sorted(found, key=lambda student: (student.name.casefold(), student.student_id))

    async def student(self, student_id: str) -> Student | None:
        self._read_changed_lists()
        return self._lists.students.get(student_id) or self._students.get(student_id)

    async def student_by_token(self, token: str) -> Student | None:
        owner = self._owners.get(token_hash(token))
        return None if owner is None else await self.student(owner)

    async def remove(self, student_id: str) -> Student | None:
        student = await self.student(student_id)
        if student is not None:
            await self._journal.add([_Change(removed=student_id)])
        return student

    async def close(self) -> None:
        await self._journal.close()

    async def _listed(self, class_id: str, student_id: str) -> Student | None:
        listed = self._lists.students.get(student_id)
        return listed if listed is not None and listed.class_id == class_id else None

    async def _rename(self, student: Student) -> None:
        await self._journal.add([_Change(student=student)])

    async def _give_token(self, student: Student) -> Joined:
        token = new_token()
        changes = [] if student.listed else [_Change(student=student)]
        await self._journal.add([*changes, _Change(token=_Token(student.student_id, token_hash(token)))])
        return Joined(student, token)

    async def _claim(self, listed: Student) -> Joined | None:
        if self._tokens.get(listed.student_id) or listed.student_id in self._claiming:
            return None
        self._claiming.add(listed.student_id)
        try:
            return await self._give_token(listed)
        finally:
            self._claiming.discard(listed.student_id)

    async def _admit(self, student: Student) -> Joined:
        class_id = student.class_id
        number = len(await self.students(class_id)) + self._joining.get(class_id, 0)
        if number >= self.limits.students:
            raise self.full()
        self._joining[class_id] = self._joining.get(class_id, 0) + 1
        try:
            return await self._give_token(student)
        finally:
            self._joining[class_id] -= 1

    def _is_used(self, class_id: str) -> bool:
        """Whether a class is shown: the first class is hidden as soon as there are lists, unless students joined it."""
        return (
            class_id != FIRST_CLASS
            or not self._lists.classes
            or class_id in self._lists.classes
            or any(student.class_id == class_id for student in self._students.values())
        )

    def _free_code(self) -> str:
        taken = {plain_code(section.code) for section in (*self._classes.values(), *self._lists.classes.values())}
        while plain_code(code := new_code()) in taken:
            pass
        return code

    def _read_changed_lists(self) -> None:
        """Read the lists again if they have changed."""
        lists = self._folder.changed()
        if lists is None:
            return
        self._folder.accept()
        self._list_findings = lists.findings
        before = self._lists
        self._lists = Lists(lists.classes, lists.students)
        if lists.unread:
            # The students and classes of a list that cannot be read stay.
            self._lists = Lists({**before.classes, **lists.classes}, {**before.students, **lists.students})
        if self._lists != before:
            self.on_change()

    def _apply(self, change: _Change) -> None:
        if change.section is not None:
            self._classes[change.section.class_id] = change.section
        if change.student is not None:
            self._students[change.student.student_id] = change.student
        if change.token is not None:
            self._owners[change.token.hash] = change.token.student_id
            tokens = self._tokens.setdefault(change.token.student_id, [])
            tokens.append(change.token.hash)
            while len(tokens) > self.limits.tokens:
                self._owners.pop(tokens.pop(0), None)
                self.counters.add("limit_tokens_per_student")
        if change.removed is not None:
            self._students.pop(change.removed, None)
            for hash in self._tokens.pop(change.removed, ()):
                self._owners.pop(hash, None)
