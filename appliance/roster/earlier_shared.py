"""The roster that earlier versions kept in a shared key-value store, and its move to the tables of today.

- ``roster/classes``: every class, by id.
- ``roster/class/ID``: the students of a class, by student id.
- ``roster/student/ID``: a student with the hashes of the student's tokens.

The old rows stay where they are: a node's journal would put them back. A record says that they have been moved.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from appliance.kvs import KVS
from appliance.kvs.records import SharedRecords
from appliance.roster.identity import new_id
from appliance.roster.shared_store import SharedStore
from appliance.roster.store import Write
from appliance.roster.tables import CLASSES, PEOPLE, STUDENTS, TOKENS, Class, Person, Student, Token

MOVED = "roster/moved"
_CLASSES = "roster/classes"
EARLIER_MEMBERS = "roster/class/"
"""How the keys of rows begin that have the students of a class."""
_STUDENTS = "roster/student/"
_HELD = "held"
_LIST = "students.csv"
# How ids began that were computed for a list without ids.
_COMPUTED = "l-"


class _ClassRecord(msgspec.Struct, frozen=True):
    section: Class
    order: int


class _MemberRecord(msgspec.Struct, frozen=True):
    """A student of a class, and the node whose list has the student; "" for one who joined by a name."""

    student: Student
    by: str = ""


class _StudentRecord(msgspec.Struct, frozen=True):
    """A student, and the hashes of the student's tokens, oldest first."""

    student: Student
    tokens: tuple[str, ...] = ()


_decode_class = msgspec.json.Decoder(_ClassRecord).decode
_decode_member = msgspec.json.Decoder(_MemberRecord).decode
_decode_student = msgspec.json.Decoder(_StudentRecord).decode


def earlier_rows(student_id: str) -> list[str]:
    """The keys of the rows that an earlier version had of a student alone."""
    return [_STUDENTS + student_id]


async def move_earlier_rows(kvs: KVS, records: SharedRecords, store: SharedStore) -> int:
    """Move the rows of an earlier version to the tables, once; returns how many rows of them were new there.

    Raises:
        BackendError: the store cannot be reached.
    """
    [moved, sections] = await records.read(MOVED, _CLASSES)
    if moved or not sections:
        return 0
    together: list[list[Write[Any]]] = []
    for section in sections.values():
        together += await _class_rows(records, _decode_class(section))
    together += [[write] for write in await _token_writes(kvs, records)]
    # What another node moves at the same time, or has changed since, stays as it is there.
    results = await asyncio.gather(*(store.commit(writes) for writes in together))
    await records.update(MOVED, lambda row: {} if "format" in row else {"format": 4})
    return sum(results)


async def _class_rows(records: SharedRecords, record: _ClassRecord) -> list[list[Write[Any]]]:
    """What is written together for a class and each of its students."""
    section = msgspec.structs.replace(record.section, order=record.order)
    [row] = await records.read(EARLIER_MEMBERS + section.class_id)
    members = [_member_writes(_decode_member(encoded)) for encoded in row.values()]
    return [[Write(CLASSES, section.class_id, 0, section)], *members]


def _member_writes(member: _MemberRecord) -> list[Write[Any]]:
    student = member.student
    if not student.listed:
        return [Write(STUDENTS, student.student_id, 0, student)]
    source_id = "" if student.student_id.startswith(_COMPUTED) else student.student_id
    origin = f"{member.by}/{_LIST}" if member.by else _LIST
    person = Person(new_id("p"), source_id, "", "", "", student.name, origin)
    student = msgspec.structs.replace(student, person_id=person.person_id)
    return [Write(STUDENTS, student.student_id, 0, student), Write(PEOPLE, person.person_id, 0, person)]


async def _token_writes(kvs: KVS, records: SharedRecords) -> list[Write[Any]]:
    now = time.time()
    keys = await kvs.keys(_STUDENTS)
    writes: list[Write[Any]] = []
    for row in await records.read(*keys) if keys else []:
        held: Mapping[str, msgspec.Raw] = row
        if _HELD not in held:
            continue
        record = _decode_student(held[_HELD])
        number = len(record.tokens)
        writes += [
            # The order of the tokens of a student says which is the oldest.
            Write(TOKENS, hash, 0, Token(hash, record.student.student_id, now - number + place))
            for place, hash in enumerate(record.tokens)
        ]
    return writes
