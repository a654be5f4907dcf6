"""Rows of the shared roster in the key-value store: their keys, and the form of their records.

- ``roster/classes``: every class, by id.
- ``roster/class/ID``: the students of a class, by student id; a join changes this row, so a class is full for all nodes
  at once.
- ``roster/student/ID``: a student with the hashes of the student's tokens. A token contains its student's id, so a read
  of this row decides whether the token is valid, and a change of it makes all tokens of the student invalid at every
  node.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from appliance.kvs.records import MEMBERS
from appliance.roster import Class, Student

CLASSES = "roster/classes"
_STUDENT_FIELD = "held"


class ClassRecord(msgspec.Struct, frozen=True):
    """A class, and its position among all classes."""

    section: Class
    order: int


class MemberRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A student of a class.

    Attributes:
        student: the student.
        by: the node whose list has the student, "" for one who joined by a name.
    """

    student: Student
    by: str = ""


class StudentRecord(msgspec.Struct, frozen=True):
    """A student, and the hashes of the student's tokens, oldest first."""

    student: Student
    tokens: tuple[str, ...] = ()


decode_class = msgspec.json.Decoder(ClassRecord).decode
decode_member = msgspec.json.Decoder(MemberRecord).decode
_decode_student = msgspec.json.Decoder(StudentRecord).decode


def class_key(class_id: str) -> str:
    """The key of the row with the students of a class."""
    return MEMBERS + class_id


def student_row(student_id: str) -> str:
    """The key of the row of a student."""
    return f"roster/student/{student_id}"


def student_in(row: Mapping[str, msgspec.Raw]) -> StudentRecord | None:
    """The record in a student's row, None if there is none."""
    return _decode_student(row[_STUDENT_FIELD]) if _STUDENT_FIELD in row else None


def student_change(record: StudentRecord | None) -> dict[str, object]:
    """The change that sets the record of a student's row, or removes it."""
    return {_STUDENT_FIELD: record}
