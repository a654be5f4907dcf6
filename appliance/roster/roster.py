"""The roster: rules about classes, students and tokens, over any `RosterStore`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from appliance.coalescing import RequestCoalescer
from appliance.counters import Counters
from appliance.health import Finding, finding
from appliance.listeners import Listeners
from appliance.roster.cache import RosterCache
from appliance.roster.codes import new_code
from appliance.roster.errors import JoinError
from appliance.roster.identity import FIRST_CLASS, Joined, new_id, new_student_id, new_token, token_hash
from appliance.roster.limits import RosterLimits
from appliance.roster.names import clean_name, listed_as
from appliance.roster.store import RosterStore, Transaction
from appliance.roster.tables import CLASSES, STUDENTS, TOKENS, Class, Student, Token, plain_code
from appliance.roster.watch import ListWatch

_MERGES = 10
"""Students who were merged one into the other are followed this far."""


class Roster:
    """Classes, students, join codes and tokens. Each change is durable when its method returns.

    Attributes:
        store: the tables; further rules work on them. What they commit is seen here at once.
        limits: limits of the roster.
        counters: counts limits that are hit.
        watch: imports the lists of a folder; None where none is watched.
        on_change: called when classes were added, or the students of a list of this node have changed. Lists are
            checked when `classes` or `students` is called.
    """

    def __init__(
        self,
        store: RosterStore,
        limits: RosterLimits,
        counters: Counters,
        lists: Path | None = None,
        *,
        node: str = "",
        ask_removed: int = 5,
    ) -> None:
        """Args:
        store: the tables.
        limits: limits of the roster.
        counters: counts limits that are hit.
        lists: the folder whose lists are watched.
        node: this node's name: in a shared store, a list takes out only students whom this node's list brought.
        ask_removed: so many students of a class a list may take out or change at once without a question.
        """
        self.store = store
        self.limits = limits
        self.counters = counters
        self.on_change: Listeners[[]] = Listeners("changes of the roster")
        self._cache = RosterCache(store)
        of_node = node if store.shared else ""
        self.watch = (
            ListWatch(store, lists, limits, ask_removed=ask_removed, node=of_node) if lists is not None else None
        )
        if self.watch is not None:
            self.watch.leaving.connected = lambda student_id: False
        self._making = asyncio.Lock()
        # When a whole school reconnects at once, its tokens are read together.
        self._owners: RequestCoalescer[str, str | None] = RequestCoalescer(self._read_owners)
        # By class, the number of students who are being added; and listed students who are being given a first token.
        self._joining: dict[str, int] = {}
        self._claiming: set[str] = set()

    # ---- Classes ----

    async def classes(self) -> list[Class]:
        """All classes, in the order of their creation, without those that ended. There is always at least one."""
        await self._import_lists()
        found = await self._shown()
        if not found:
            async with self._making:
                if not await self._shown():
                    await self.add_class("My class", FIRST_CLASS)
            found = await self._shown()
        return found

    async def class_ids(self) -> list[str]:
        """The ids of all classes, without making a class that a list names for the first time."""
        return [section.class_id for section in await self._shown()]

    async def class_by_code(self, code: str) -> Class | None:
        """The class with a join code, however it is typed."""
        plain = plain_code(code)
        found = await self.store.find(CLASSES, "code", plain) if plain else []
        shown = [one.row for one in found if one.row.class_id != FIRST_CLASS]
        if not shown and found:
            shown = [section for section in await self._shown() if section.class_id == FIRST_CLASS]
        return shown[0] if shown else None

    async def add_class(self, title: str, class_id: str | None = None) -> Class:
        """Add a class with a code of its own; one that is there, with this id, stays as it is.

        Args:
            title: name for people.
            class_id: its id; None for a random one.
        """
        known = await self._cache.classes()
        order = max((section.order for section in known.values()), default=-1) + 1
        new = Class(class_id or new_id("c"), title, await self.free_code(), order=order)

        async def add(transaction: Transaction) -> Class:
            there = await transaction.get(CLASSES, new.class_id)
            section = new if there is None else replace(there, ended_at=None)
            if section != there:
                transaction.put(CLASSES, section)
            return section

        added = await self.store.transact(add)
        self.on_change()
        return added

    async def change_class(
        self,
        class_id: str,
        *,
        title: str | None = None,
        code: str | None = None,
        open: bool | None = None,
        approval: bool | None = None,
    ) -> Class:
        """Change the given attributes of a class.

        Raises:
            JoinError: ``unknown_class``.
        """
        given = {"title": title, "code": code, "open": open, "approval": approval}

        async def change(transaction: Transaction) -> Class:
            section = await transaction.get(CLASSES, class_id)
            if section is None:
                raise _unknown_class()
            changed = replace(section, **{name: value for name, value in given.items() if value is not None})
            if changed != section:
                transaction.put(CLASSES, changed)
            return changed

        return await self.store.transact(change)

    async def free_code(self) -> str:
        """A join code that no class has."""
        while await self.store.count(CLASSES, "code", plain_code(code := new_code())):
            pass
        return code

    # ---- Students ----

    async def students(self, class_id: str) -> list[Student]:
        """The students of a class, by name, without the removed ones."""
        await self._import_lists()
        return list((await self._cache.students(class_id)).present)

    async def removed_students(self, class_id: str) -> list[Student]:
        """Students whom an educator removed from a class, the last one first."""
        rows = (await self._cache.students(class_id)).rows.values()
        removed = [row for row in rows if row.removed_at is not None and not row.merged_into]
        return sorted(removed, key=lambda row: (-(row.removed_at or 0.0), row.student_id))

    async def student(self, student_id: str) -> Student | None:
        """The student of a class with this id; None if there is none, or the student was removed."""
        row = await self._cache.student(student_id)
        return row if row is not None and row.present else None

    async def rows(self, student_ids: Iterable[str]) -> dict[str, Student]:
        """The students with these ids, also those who were removed or merged: see `Student.present`."""
        return await self._cache.rows(student_ids)

    async def student_by_token(self, token: str) -> Student | None:
        """The student who has this token, None if nobody has it.

        It may be a removed student: see `Student.present`. The token of a student who was merged is that of the other.
        """
        student_id = await self._owners(token_hash(token))
        for _ in range(_MERGES):
            student = await self._cache.student(student_id) if student_id is not None else None
            if student is None or not student.merged_into:
                return student
            student_id = student.merged_into
        return None

    async def remove(self, student_id: str) -> Student | None:
        """Remove a student from the class; row and tokens stay, so that it can be undone.

        Returns:
            The student as before; None if there is none of this id in a class.
        """

        async def remove(transaction: Transaction) -> Student | None:
            student = await transaction.get(STUDENTS, student_id)
            if student is None or not student.present:
                return None
            transaction.put(STUDENTS, replace(student, removed_at=time.time()))
            return student

        return await self.store.transact(remove)

    # ---- Joining ----

    async def join(
        self,
        class_id: str,
        *,
        name: str | None = None,
        student_id: str | None = None,
        token: str | None = None,
        new_id: str | None = None,
    ) -> Joined:
        """Let a student into a class.

        A browser that still has a token of this class stays the same student and keeps the token; the name is changed
        to the new one unless it is from the educator's list. Otherwise `student_id` chooses a student of the list.
        `name` does so too if exactly one student of the class's list has it and no token of that student exists; else a
        new student is created, with the id `new_id` (default: any `new_student_id`).

        Raises:
            JoinError: with the code of the reason.
        """
        section = next((section for section in await self.classes() if section.class_id == class_id), None)
        if section is None:
            raise _unknown_class()
        if not section.open:
            raise JoinError("class_closed", "This class is closed to new students right now. Ask your teacher.")
        if name is not None:
            name = self._clean(name)
        known = await self.student_by_token(token) if token is not None else None
        if (
            known is not None
            and known.present
            and known.class_id == class_id
            and student_id in (None, known.student_id)
        ):
            return Joined(await self._renamed(known, name), token or "")
        students = (await self._cache.students(class_id)).rows
        if student_id is not None:
            listed = students.get(student_id)
            if listed is None or not listed.listed:
                raise JoinError("unknown_student", "The class list has no such student.")
            return await self._give_token(listed)
        if name is None:
            raise JoinError("bad_name", "Write a name first.")
        listed = listed_as(name, [one for one in students.values() if not one.merged_into])
        claimed = await self._claim(listed) if listed is not None else None
        return claimed or await self._admit(Student(new_id or new_student_id(), name, class_id, created=time.time()))

    def full(self) -> JoinError:
        """The error for a class without room; it is counted."""
        self.counters.add("limit_students_per_class")
        return JoinError("class_full", "This class is full. Ask your teacher.")

    def _clean(self, name: str) -> str:
        try:
            return clean_name(name, self.limits.name_characters)
        except ValueError as error:
            if len(name) > self.limits.name_characters:
                self.counters.add("limit_student_name_characters")
            raise JoinError("bad_name", str(error)) from None

    async def _renamed(self, student: Student, name: str | None) -> Student:
        """The student whose browser joins again; a new name replaces the one that it gave before."""
        if name is None or name == student.name or student.listed:
            return student

        async def rename(transaction: Transaction) -> Student:
            row = await transaction.get(STUDENTS, student.student_id)
            if row is None or not row.present:
                raise JoinError("unknown_student", "Your teacher has removed you. Join again.")
            renamed = replace(row, name=name)
            transaction.put(STUDENTS, renamed)
            return renamed

        return await self.store.transact(rename)

    async def _claim(self, listed: Student) -> Joined | None:
        """Give a listed student the first token, at any node; None if the student has a token already."""
        if listed.student_id in self._claiming:
            return None
        self._claiming.add(listed.student_id)
        try:
            return await self._try_to_give(listed, first=True)
        finally:
            self._claiming.discard(listed.student_id)

    async def _admit(self, student: Student) -> Joined:
        class_id = student.class_id
        joining = self._joining.get(class_id, 0)
        if len((await self._cache.students(class_id)).present) + joining >= self.limits.students:
            self._cache.forget(class_id)
            in_class = (await self._cache.students(class_id)).present
            if len(in_class) + self._joining.get(class_id, 0) >= self.limits.students:
                raise self.full()
        # Nothing was awaited since the places were counted, so those who come at once take different ones.
        self._joining[class_id] = self._joining.get(class_id, 0) + 1
        try:
            return await self._give_token(student)
        finally:
            self._joining[class_id] -= 1
            if not self._joining[class_id]:
                del self._joining[class_id]

    async def _give_token(self, student: Student) -> Joined:
        """Give a student one more token; a student who is not there is added."""
        joined = await self._try_to_give(student, first=False)
        assert joined is not None
        return joined

    async def _try_to_give(self, student: Student, *, first: bool) -> Joined | None:
        """Give a student one more token.

        Args:
            student: who is added if there is none of this id.
            first: whether a student who has a token, and was not removed, gets none.

        Returns:
            The student and the token; None if `first` is set and there is a token already.
        """
        token = new_token()

        async def give(transaction: Transaction) -> Joined | None:
            row = await transaction.get(STUDENTS, student.student_id) or student
            tokens = sorted(
                await transaction.find(TOKENS, "student_id", row.student_id), key=lambda one: (one.created, one.hash)
            )
            removed = row.removed_at is not None
            if removed and row.barred_until is not None and row.barred_until > time.time():
                raise JoinError("barred", "You may not come back to this class today. Ask your teacher.")
            if first and tokens and not removed:
                return None
            most = 0 if removed else self.limits.tokens - 1
            for old in tokens[: max(0, len(tokens) - most)]:
                transaction.remove(TOKENS, old.hash)
                if not removed:
                    self.counters.add("limit_tokens_per_student")
            back = replace(row, removed_at=None, barred_until=None)
            # The row is written also if it is the same: of two who claim it at once the second must read it again.
            transaction.put(STUDENTS, back)
            transaction.put(TOKENS, Token(token_hash(token), row.student_id, time.time()))
            return Joined(back, token)

        return await self.store.transact(give)

    # ---- All of it ----

    def findings(self) -> list[Finding]:
        """Problems of the store, of educators' lists and of files, without names of persons."""
        return [*(self.watch.findings if self.watch is not None else []), *self.store.findings()]

    async def examine(self) -> AsyncGenerator[Finding, None]:
        """Findings for IT staff on the lists and the store: its version, rights, settings.

        The command `check` prints them, with the section of the configuration as their source. Nothing is changed.

        Raises:
            BackendError: it cannot be reached.
        """
        if self.watch is not None:
            for one in self.watch.examine():
                yield one
        async for one in self.store.examine():
            yield one
        sections = await self._cache.classes()
        number = 0
        for class_id in sections:
            number += await self.store.count(STUDENTS, "class_id", class_id)
        yield finding("roster.stored", classes=len(sections), students=number)

    def forget(self, class_id: str | None = None) -> None:
        """Read a class, or all, from the store at the next request: another node may have changed it."""
        self._cache.forget(class_id)

    async def close(self) -> None:
        """Close files and connections."""
        await self._cache.close()
        await self.store.close()

    async def _shown(self) -> list[Class]:
        """The classes that are shown: the first one is hidden if there are others, unless students have joined it."""
        known = await self._cache.classes()
        found = sorted(
            (section for section in known.values() if section.ended_at is None), key=lambda s: (s.order, s.class_id)
        )
        others = [section for section in found if section.class_id != FIRST_CLASS]
        if others and len(others) < len(found) and not (await self._cache.students(FIRST_CLASS)).present:
            return others
        return found

    async def _import_lists(self) -> None:
        if self.watch is not None and await self.watch.import_changed():
            self._cache.forget()
            self.on_change()

    async def _read_owners(self, hashes: Sequence[str]) -> list[str | None]:
        return [found.row.student_id if found else None for found in await self.store.read(TOKENS, hashes)]


def _unknown_class() -> JoinError:
    return JoinError("unknown_class", "There is no such class.")
