"""Join policy: who may join a class, and as which student. Every roster that stores students shares it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from appliance.roster import Joined, JoinError, Roster, Student, new_student_id
from appliance.roster.names import clean_name, listed_as


class JoinPolicy(Roster, ABC):
    """The rules of `Roster.join`; a subclass stores the result.

    Attributes:
        limits: limits of the roster.
        counters: counts limits that are hit.
    """

    async def join(
        self,
        class_id: str,
        *,
        name: str | None = None,
        student_id: str | None = None,
        token: str | None = None,
        proof: str | None = None,
        ask: bool = False,
        new_id: str | None = None,
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
            return Joined(await self._renamed(known, name), token or "")
        if student_id is not None:
            listed = await self._listed(class_id, student_id)
            if listed is None:
                raise JoinError("unknown_student", "The class list has no such student.")
            return await self._add_token(listed)
        if name is None:
            raise JoinError("bad_name", "Write a name first.")
        listed = listed_as(name, await self.students(class_id))
        claimed = await self._claim_listed(listed) if listed is not None else None
        return claimed or await self._admit_new(Student(new_id or new_student_id(), name, class_id))

    @abstractmethod
    async def _listed(self, class_id: str, student_id: str) -> Student | None:
        """A listed student of a class, None if there is none with this id."""

    @abstractmethod
    async def _rename(self, student: Student) -> None:
        """Change the name of a student who joined by a name.

        Raises:
            JoinError: the student has been removed from the class.
        """

    @abstractmethod
    async def _add_token(self, student: Student) -> Joined:
        """Give a listed student one more token."""

    @abstractmethod
    async def _claim_listed(self, listed: Student) -> Joined | None:
        """Give a listed student the first token, at any node; None if the student has a token already."""

    @abstractmethod
    async def _admit_new(self, student: Student) -> Joined:
        """Add a new student to a class.

        Raises:
            JoinError: the class is `full`.
        """

    async def _renamed(self, student: Student, name: str | None) -> Student:
        """The student whose browser joins again; a new name replaces the one that it gave before."""
        if name is None or name == student.name or student.listed:
            return student
        renamed = Student(student.student_id, name, student.class_id)
        await self._rename(renamed)
        return renamed

    def full(self) -> JoinError:
        """The error for a class without room; it is counted."""
        self.counters.add("limit_students_per_class")
        return JoinError("class_full", "This class is full. Ask your teacher.")

    def _clean(self, name: str) -> str:
        try:
            return clean_name(name, self.limits.name_characters)
        except ValueError as error:
            raise JoinError("bad_name", str(error)) from None
