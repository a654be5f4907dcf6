"""Export of the students of classes as a OneRoster zip."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterable, Sequence

from appliance.roster.imports.exporting import Enrolled, Exported, name_parts
from appliance.roster.oneroster.records import Enrollment, Org, Section, User
from appliance.roster.oneroster.tables import Version
from appliance.roster.oneroster.writing import Member, Outgoing, guid, write_export

SCHOOL = "School"


def packed(students: Sequence[Enrolled], version: Version = "1.2", school: str = SCHOOL) -> Exported:
    """Students as a bulk OneRoster export. Blocks.

    Args:
        students: with their classes.
        version: of OneRoster.
        school: name of the school.
    """
    org = Org(guid("school"), school, "school", "", "current", "", 0)
    sections = {one.section.class_id: one.section for one in students}
    outgoing = Outgoing(
        org,
        [
            Section(guid(section.source_id or class_id), section.title, "", org.source_id, "", (), "current", "", 0)
            for class_id, section in sections.items()
        ],
        lambda: _members(students),
        lambda: _enrollments(students),
        datetime.date.today(),
    )
    file = io.BytesIO()
    write_export(file, outgoing, version)
    return Exported(file.getvalue(), "utf-8", len(students))


def _members(students: Iterable[Enrolled]) -> Iterable[Member]:
    seen: set[str] = set()
    for one in students:
        key = _user_id(one)
        if key in seen:
            continue
        seen.add(key)
        given, family = name_parts(one)
        preferred = one.person.preferred if one.person is not None else ""
        yield Member(User(key, given, "", family, preferred, "", "", "", "", "", "current", "", 0), "student")


def _enrollments(students: Iterable[Enrolled]) -> Iterable[Enrollment]:
    for one in students:
        class_id = guid(one.section.source_id or one.section.class_id)
        key = guid(one.student.student_id)
        yield Enrollment(key, _user_id(one), class_id, "student", "current", None, None, "", 0)


def _user_id(one: Enrolled) -> str:
    source_id = one.person.source_id if one.person is not None else ""
    return guid(source_id or one.student.person_id or one.student.student_id)
