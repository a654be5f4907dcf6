"""Erase in a roster on a server: removes a student from the tables that nodes share."""

from __future__ import annotations

from typing import Any

import msgspec

from appliance.datafolder.stored_files import KnownStudent, Place
from appliance.maintenance.erase import InStore
from appliance.maintenance.search import Matcher, Searched, Sought
from appliance.roster import open_store
from appliance.roster.store import RosterStore, Table, Write
from appliance.roster.tables import PEOPLE, REQUESTS, SECRETS, STUDENTS, TABLES, TOKENS, Student

_PLACE = "the roster"


async def students_in_roster(url: str, student_id: str | None = None) -> list[KnownStudent]:
    """The students of a roster, or one of them; also those who wait for an educator. One may have several names.

    Raises:
        BackendError: it cannot be reached.
    """
    store = open_store(url)
    try:
        if student_id is None:
            students = [student async for student in store.scan(STUDENTS)]
        else:
            student = await store.get(STUDENTS, student_id)
            students = [student] if student is not None else []
        found = [known for student in students for known in await _known(store, student)]
        async for request in store.scan(REQUESTS):
            if student_id in (None, request.student_id):
                found.append(KnownStudent(request.student_id, request.name, request.class_id))
        return found
    finally:
        await store.close()


async def merged_with(url: str, student_id: str) -> list[str]:
    """Ids of the students whom educators merged with a student, directly or through another.

    Raises:
        BackendError: it cannot be reached.
    """
    store = open_store(url)
    try:
        found = [student_id]
        for one in found:
            rows = await store.find(STUDENTS, "merged_into", one)
            found += [row.row.student_id for row in rows if row.row.student_id not in found]
        return found[1:]
    finally:
        await store.close()


async def erase_in_roster(url: str, sought: Sought) -> InStore:
    """Remove all rows of a student, and search all rows for the student afterwards. No node may run meanwhile.

    Raises:
        BackendError: the roster cannot be reached.
    """
    store = open_store(url)
    try:
        writes = await _rows_of(store, sought.student_id)
        if writes:
            await store.commit(writes)
        removed = [Place(_PLACE, len(writes), "rows")] if writes else []
        return InStore(bool(writes), removed, await _search(store, sought) if writes else [])
    finally:
        await store.close()


async def _known(store: RosterStore, student: Student) -> list[KnownStudent]:
    person = await store.get(PEOPLE, student.person_id) if student.person_id else None
    names = [student.name] if person is None else [student.name, person.name, person.given, person.family]
    return [KnownStudent(student.student_id, name, student.class_id) for name in dict.fromkeys(names) if name]


async def _rows_of(store: RosterStore, student_id: str) -> list[Write[Any]]:
    """The removal of each row that is about a student."""
    found: list[tuple[Table[Any], str]] = []
    student = await store.get(STUDENTS, student_id)
    if student is not None:
        found.append((STUDENTS, student_id))
        if student.person_id and len(await store.find(STUDENTS, "person_id", student.person_id, limit=2)) == 1:
            found.append((PEOPLE, student.person_id))
    found += [(TOKENS, one.row.hash) for one in await store.find(TOKENS, "student_id", student_id)]
    if await store.get(SECRETS, student_id) is not None:
        found.append((SECRETS, student_id))
    found += [(REQUESTS, one.request_id) async for one in store.scan(REQUESTS) if one.student_id == student_id]
    return [Write(table, key, None) for table, key in found]


async def _search(store: RosterStore, sought: Sought) -> list[Searched]:
    """Search all rows; the result by table."""
    matcher = Matcher(sought)
    found = []
    for table in TABLES:
        place = Searched(f"{_PLACE}: {table.name}")
        async for row in store.scan(table):
            content = msgspec.json.encode(row)
            place.files += 1
            place.bytes += len(content)
            for kind in matcher.kinds(content):
                place.found[kind] += 1
        found.append(place)
    return found
