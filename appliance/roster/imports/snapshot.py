"""What the roster has of the classes and people that a list may concern."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from appliance.roster.identity import FIRST_CLASS
from appliance.roster.imports.model import Entry, Incoming
from appliance.roster.lists import key_without_id
from appliance.roster.names import compared
from appliance.roster.store import RosterStore, Table
from appliance.roster.tables import (
    CLASSES,
    EVERY_LIST,
    LISTS,
    PEOPLE,
    STUDENTS,
    TOKENS,
    Class,
    ListRecord,
    Person,
    Student,
)

_MANY = 300
"""From so many students on, a whole roster is read rather than one person after the other."""
_AT_ONCE = 50

R = TypeVar("R", bound=msgspec.Struct)


class Snapshot:
    """Rows of the roster, found in the ways in which a plan needs them.

    Attributes:
        classes: by id, ended ones too.
        people: by id.
        students: by id; not those who were merged with others.
        held: ids that students of an earlier format had by a list, who left it and whose browsers have tokens.
        record: of the list; None if it was never imported.
        revision: version of the row that every import changes; 0 if there is none.
    """

    def __init__(self) -> None:
        self.classes: dict[str, Class] = {}
        self.people: dict[str, Person] = {}
        self.students: dict[str, Student] = {}
        self.held: set[str] = set()
        self.record: ListRecord | None = None
        self.revision = 0

    def index(self) -> None:
        """Make the ways to find rows."""
        self.of_person: dict[str, list[Student]] = {}
        self.of_class: dict[str, list[Student]] = {}
        self.named: dict[tuple[str, str], list[Student]] = {}
        self.by_source: dict[str, list[Person]] = {}
        for student in sorted(self.students.values(), key=lambda row: (row.created, row.student_id)):
            self.of_class.setdefault(student.class_id, []).append(student)
            if student.person_id:
                self.of_person.setdefault(student.person_id, []).append(student)
            if student.present:
                self.named.setdefault((student.class_id, compared(student.name)), []).append(student)
        for person in self.people.values():
            if person.source_id:
                self.by_source.setdefault(person.source_id, []).append(person)

    def class_named(self, name: str) -> Class | None:
        """The class that a list means by an id or a title."""
        if name in self.classes:
            return self.classes[name]
        by_source = [section for section in self.classes.values() if section.source_id == name]
        if by_source:
            return by_source[0]
        wanted = compared(name)
        titled = [s for s in self.classes.values() if s.ended_at is None and wanted == compared(s.title)]
        return titled[0] if len(titled) == 1 else None

    def visible_classes(self) -> list[Class]:
        """Classes that are not over and have students; all that are not over if none has."""
        going = [section for section in self.classes.values() if section.ended_at is None]
        used = [section for section in going if any(s.present for s in self.of_class.get(section.class_id, ()))]
        return sorted(used or going, key=lambda section: section.order)


async def read_snapshot(store: RosterStore, incoming: Incoming, *, whole: bool = False) -> Snapshot:
    """Read what a list may concern.

    Args:
        store: the roster.
        incoming: the list.
        whole: whether to read all students, as for a list that replaces all others.

    Raises:
        BackendError: the store cannot be reached.
    """
    snapshot = Snapshot()
    every, record = await store.read(LISTS, [EVERY_LIST, incoming.origin])
    snapshot.revision = every.version if every is not None else 0
    snapshot.record = record.row if record is not None else None
    async for section in store.scan(CLASSES):
        snapshot.classes[section.class_id] = section
    if whole or len(incoming.entries) + len(incoming.people) + len(incoming.ended) > _MANY:
        async for student in store.scan(STUDENTS):
            if not student.merged_into:
                snapshot.students[student.student_id] = student
        async for person in store.scan(PEOPLE):
            snapshot.people[person.person_id] = person
    else:
        await _read_part(store, incoming, snapshot)
    # Names are compared, which takes a while for a whole school.
    await asyncio.to_thread(snapshot.index)
    if len(incoming.entries) <= _MANY:
        await _find_held(store, incoming, snapshot)
    return snapshot


def earlier_id(entry: Entry) -> str:
    """The id that a listed student had before format 4 of the data folder: that of the list, or a computed one."""
    return entry.source_id or key_without_id(entry.class_id or FIRST_CLASS, entry.name)


async def _find_held(store: RosterStore, incoming: Incoming, snapshot: Snapshot) -> None:
    keys = {earlier_id(entry) for entry in incoming.entries if entry.source_id not in snapshot.by_source}
    unknown = sorted(keys - snapshot.students.keys())
    counts = await asyncio.gather(*(store.count(TOKENS, "student_id", key) for key in unknown))
    held = [key for key, count in zip(unknown, counts, strict=True) if count]
    rows = await store.read(STUDENTS, held)
    snapshot.held = {key for key, row in zip(held, rows, strict=True) if row is None}


async def _read_part(store: RosterStore, incoming: Incoming, snapshot: Snapshot) -> None:
    """Read the people of the list, of its origin, and of its classes."""
    snapshot.index()
    names = {entry.class_id for entry in incoming.entries} | {ended.class_id for ended in incoming.ended}
    sections = [snapshot.class_named(name) if name else None for name in sorted(names)]
    class_ids = [section.class_id for section in sections if section is not None]
    if "" in names:
        class_ids = list(snapshot.classes) if len(snapshot.classes) < _AT_ONCE else class_ids
    _keep(snapshot, await _find_all(store, STUDENTS, "class_id", class_ids))
    sources = {entry.source_id for entry in (*incoming.entries, *incoming.people)}
    sources |= {ended.source_id for ended in incoming.ended}
    people = await _find_all(store, PEOPLE, "source_id", sorted(sources - {""}))
    people += await _find_all(store, PEOPLE, "origin", [incoming.origin])
    snapshot.people.update({person.person_id: person for person in people})
    _keep(snapshot, await _find_all(store, STUDENTS, "person_id", sorted(snapshot.people)))
    missing = {s.person_id for s in snapshot.students.values() if s.person_id} - snapshot.people.keys()
    for found in await store.read(PEOPLE, sorted(missing)):
        if found is not None:
            snapshot.people[found.row.person_id] = found.row


def _keep(snapshot: Snapshot, students: Iterable[Student]) -> None:
    snapshot.students.update({s.student_id: s for s in students if not s.merged_into})


async def _find_all(store: RosterStore, table: Table[R], index: str, values: Sequence[str]) -> list[R]:
    found: list[R] = []
    for begin in range(0, len(values), _AT_ONCE):
        batch = values[begin : begin + _AT_ONCE]
        for rows in await asyncio.gather(*(store.find(table, index, value) for value in batch)):
            found += [versioned.row for versioned in rows]
    return found
