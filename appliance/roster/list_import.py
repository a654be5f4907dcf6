"""Import of the watched lists into the store of the roster.

A listed student is a person of the list, and a student of one class. Which student a row of the list means is decided
by the id in the list; where the list has none, by class and name. Those who leave the list leave their class, unless
somebody holds their identity: then they stay as students who are not listed. A list that cannot be read removes nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from appliance.errors import BackendError
from appliance.health import Finding
from appliance.roster.identity import new_id, new_student_id
from appliance.roster.limits import RosterLimits
from appliance.roster.lists import STUDENTS as STUDENT_LIST
from appliance.roster.lists import ListFolder, Lists
from appliance.roster.names import compared
from appliance.roster.store import RosterStore, Versioned, Write
from appliance.roster.tables import CLASSES, PEOPLE, STUDENTS, TOKENS, Class, Person, Student

_TRIES = 20


class ListImport:
    """Imports lists when they have changed.

    Attributes:
        findings: problems of the lists that were read last.
    """

    def __init__(self, store: RosterStore, folder: ListFolder, limits: RosterLimits, node: str) -> None:
        """Args:
        store: gets classes, people and students.
        folder: the lists.
        limits: of the lists.
        node: whose lists they are; "" where there is one node.
        """
        self.findings: list[Finding] = []
        self._store = store
        self._folder = folder
        self._limits = limits
        self._origin = f"{node}/{STUDENT_LIST}" if node else STUDENT_LIST
        self._importing = asyncio.Lock()

    async def import_changed(self, free_code: Callable[[], Awaitable[str]], *, keep_ids: bool = False) -> bool:
        """Import the lists if they have changed since the last import.

        Args:
            free_code: gives a join code that no class has.
            keep_ids: whether a new student has the id that the list gives, as before format 4 of the data folder.

        Returns:
            Whether anything in the store has changed.

        Raises:
            BackendError: the store cannot be reached.
        """
        if not self._folder.is_due():
            return False
        async with self._importing:
            lists = await asyncio.to_thread(self._folder.changed)
            if lists is None:
                return False
            changed = await self._import(lists, free_code, keep_ids=keep_ids)
            self._folder.accept()
            self.findings = lists.findings
            return changed

    def examine(self) -> Iterator[Finding]:
        """Problems of the lists as they are now."""
        yield from self._folder.read().findings

    async def _import(self, lists: Lists, free_code: Callable[[], Awaitable[str]], *, keep_ids: bool) -> bool:
        for _ in range(_TRIES):
            writes: list[Write[Any]] = []
            writes += await self._classes(lists.classes.values(), free_code)
            writes += await _Comparison(self._store, lists, self._origin, keep_ids=keep_ids).writes()
            if await self._store.commit(writes):
                return bool(writes)
        raise BackendError("The roster is changed too often at the moment. The lists are imported later.")

    async def _classes(self, listed: Iterable[Class], free_code: Callable[[], Awaitable[str]]) -> list[Write[Class]]:
        sections = list(listed)
        stored = await self._store.read(CLASSES, [section.class_id for section in sections])
        if all(one is not None and one.row.ended_at is None for one in stored):
            return []
        orders = [row.order async for row in self._store.scan(CLASSES)]
        order = max(orders, default=-1)
        writes: list[Write[Class]] = []
        for section, found in zip(sections, stored, strict=True):
            if found is None:
                order += 1
                new = replace(section, code=section.code or await free_code(), order=order)
                writes.append(Write(CLASSES, section.class_id, 0, new))
            elif found.row.ended_at is not None:
                writes.append(Write(CLASSES, section.class_id, found.version, replace(found.row, ended_at=None)))
        return writes


class _Enrolled(msgspec.Struct):
    """A student whom a list brought, with the person."""

    student: Versioned[Student]
    person: Versioned[Person] | None


class _Comparison:
    """What is different between the lists and the store."""

    def __init__(self, store: RosterStore, lists: Lists, origin: str, *, keep_ids: bool) -> None:
        self._store = store
        self._lists = lists
        self._origin = origin
        self._keep_ids = keep_ids
        # Ids of an earlier format whose students left the list: who held one is the same student again.
        self._held: dict[str, int] = {}

    async def writes(self) -> list[Write[Student] | Write[Person]]:
        """The changes that make the store as the lists are."""
        enrolled = await self._enrolled()
        by_id = {one.student.row.student_id: one for one in enrolled}
        by_source = {one.person.row.source_id: one for one in enrolled if one.person and one.person.row.source_id}
        by_name = {_named(one.student.row): one for one in enrolled}
        keys = list(self._lists.students)
        same_id = dict(zip(keys, await self._store.read(STUDENTS, keys), strict=True))
        for key in keys if not self._keep_ids else ():
            if same_id[key] is None and key not in by_source:
                self._held[key] = await self._store.count(TOKENS, "student_id", key)
        found: set[str] = set()
        writes: list[Write[Student] | Write[Person]] = []
        for key, listed in self._lists.students.items():
            one = by_id.get(key) or by_source.get(key)
            if one is None and (there := same_id[key]) is not None:
                one = _Enrolled(there, None)
            if one is None and key in self._lists.without_id:
                one = by_name.get(_named(listed))
                if one is not None and one.student.row.student_id in found:
                    one = None
            if one is not None:
                found.add(one.student.row.student_id)
            writes += self._of(key, listed, one)
        if not self._lists.unread:
            for one in enrolled:
                if one.student.row.listed and one.student.row.student_id not in found:
                    writes.append(await self._left(one.student))
        return writes

    def _of(self, key: str, listed: Student, one: _Enrolled | None) -> list[Write[Student] | Write[Person]]:
        """The changes for a row of the list."""
        source_id = "" if key in self._lists.without_id else key
        writes: list[Write[Student] | Write[Person]] = []
        before = one.person if one is not None else None
        person = (
            replace(before.row, source_id=source_id, name=listed.name)
            if before is not None
            else Person(new_id("p"), source_id, "", "", "", listed.name, self._origin)
        )
        if before is None or person != before.row:
            writes.append(Write(PEOPLE, person.person_id, before.version if before else 0, person))
        if one is None:
            id = key if self._keep_ids or self._held.get(key) else new_student_id()
            new = Student(id, listed.name, listed.class_id, True, person.person_id, time.time())
            return [*writes, Write(STUDENTS, id, 0, new)]
        row = one.student.row
        # A student whom an educator removed stays removed; who was removed by leaving the list comes back.
        removed_at = row.removed_at if row.listed else None
        student = replace(
            row,
            name=listed.name,
            class_id=listed.class_id,
            listed=True,
            person_id=person.person_id,
            removed_at=removed_at,
        )
        if student != row:
            writes.append(Write(STUDENTS, row.student_id, one.student.version, student))
        return writes

    async def _left(self, student: Versioned[Student]) -> Write[Student]:
        """The change for a student who is in the list no more."""
        row = student.row
        held = await self._store.count(TOKENS, "student_id", row.student_id)
        removed_at = row.removed_at if held or row.removed_at is not None else time.time()
        return Write(STUDENTS, row.student_id, student.version, replace(row, listed=False, removed_at=removed_at))

    async def _enrolled(self) -> list[_Enrolled]:
        """The students whom these lists brought, also those who have left them."""
        people = {one.row.person_id: one for one in await self._store.find(PEOPLE, "origin", self._origin)}
        if not people:
            return []
        found = []
        async for section in self._store.scan(CLASSES):
            for student in await self._store.find(STUDENTS, "class_id", section.class_id):
                if student.row.person_id in people and not student.row.merged_into:
                    found.append(_Enrolled(student, people[student.row.person_id]))
        return found


def _named(student: Student) -> tuple[str, str]:
    return student.class_id, compared(student.name)
