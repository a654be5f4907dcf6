"""The door of a class: who is let in, and as whom. The same for every roster that keeps its own students."""

from __future__ import annotations

import base64
import secrets
from abc import abstractmethod

from appliance.counters import Counters
from appliance.roster import Joined, JoinError, Roster, RosterLimits, Student
from appliance.roster.names import clean_name, listed_as


class JoinPolicy(Roster):
    """Lets students in by the rules of `Roster.join`; a subclass keeps what comes of it.

    Attributes:
        limits: how much there may be.
        counters: counts limits that are hit.
    """

    def __init__(self, limits: RosterLimits, counters: Counters) -> None:
        super().__init__()
        self.limits = limits
        self.counters = counters

    async def join(
        self, class_id: str, *, name: str | None = None, student_id: str | None = None, token: str | None = None
    ) -> Joined:
        section = next((section for section in await self.classes() if section.class_id == class_id), None)
        if section is None:
            raise JoinError("unknown_class", "There is no such class.")
        if not section.open:
            raise JoinError("class_closed", "This class is closed to new students right now. Ask your teacher.")
        if name is not None:
            name = self._clean(name)
        known = await self.student_by_token(token) if token is not None else None
        if known is not None and known.class_id == class_id and student_id in (None, known.student_id):
            return Joined(await self._called(known, name), token or "")
        if student_id is not None:
            listed = await self._listed(class_id, student_id)
            if listed is None:
                raise JoinError("unknown_student", "The class list has no such student.")
            return await self._give_token(listed)
        if name is None:
            raise JoinError("bad_name", "Write a name first.")
        listed = listed_as(name, await self.students(class_id))
        claimed = await self._claim(listed) if listed is not None else None
        return claimed or await self._admit(Student(_new_id(), name, class_id))

    def full(self) -> JoinError:
        """What is said where a class has no room; it is counted."""
        self.counters.add("limit_students_per_class")
        return JoinError("class_full", "This class is full. Ask your teacher.")

    @abstractmethod
    async def _listed(self, class_id: str, student_id: str) -> Student | None:
        """A student of a class's list."""

    @abstractmethod
    async def _rename(self, student: Student) -> None:
        """Give a student, who joined by name, another one.

        Raises:
            JoinError: the student was just taken out of the class.
        """

    @abstractmethod
    async def _give_token(self, student: Student) -> Joined:
        """Give a listed student one more token."""

    @abstractmethod
    async def _claim(self, listed: Student) -> Joined | None:
        """Let in who typed a listed name first, at whichever node; None where somebody holds a token already."""

    @abstractmethod
    async def _admit(self, student: Student) -> Joined:
        """Take a new student into a class.

        Raises:
            JoinError: the class is `full`.
        """

    def _clean(self, name: str) -> str:
        try:
            return clean_name(name, self.limits.name_characters)
        except ValueError as error:
            if len(name) > self.limits.name_characters:
                self.counters.add("limit_student_name_characters")
            raise JoinError("bad_name", str(error)) from None

    async def _called(self, student: Student, name: str | None) -> Student:
        """The same browser again; a name it gives takes the place of the one it gave before."""
        if name is None or name == student.name or student.listed:
            return student
        renamed = Student(student.student_id, name, student.class_id)
        await self._rename(renamed)
        return renamed


def _new_id() -> str:
    return "s-" + base64.b32encode(secrets.token_bytes(10))[:10].decode().lower()
