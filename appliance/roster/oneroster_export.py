"""The roster's own rows as a OneRoster export: classes, students and, if wanted, educators' accounts."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from appliance.roster.oneroster.records import Enrollment, Org, Section, User
from appliance.roster.oneroster.tables import Version
from appliance.roster.oneroster.writing import Member, Outgoing, write_export
from appliance.roster.tables import Class, Educator, Person, Role, Student

SCHOOL = Org("school", "School", "school", "", "current", "", 0)
"""The school of an export if nothing is known of it; OneRoster requires one."""
_ROLES: dict[Role, str] = {"administrator": "siteAdministrator", "educator": "teacher", "assistant": "aide"}


def write_roster(
    target: Path | IO[bytes],
    classes: Iterable[Class],
    students: Iterable[Student],
    people: Mapping[str, Person],
    educators: Iterable[Educator] = (),
    *,
    today: datetime.date,
    school: Org = SCHOOL,
    version: Version = "1.2",
) -> None:
    """Write classes and their students as a OneRoster zip.

    A class, or a person of a list, has the sourcedId of the school's system if it has one, else the roster's own id.

    Args:
        target: the zip to write.
        classes: those to write; classes that ended are left out.
        students: their students; those who are not present are left out.
        people: persons of lists by id, as far as the students have them.
        educators: accounts to write, with the classes among `classes`; disabled ones are left out.
        today: day of the export.
        school: the school of the classes.
        version: of OneRoster.

    Raises:
        OSError: it cannot be written.
    """
    sections = {found.class_id: _section(found, school) for found in classes if found.ended_at is None}
    present = [found for found in students if found.present and found.class_id in sections]
    accounts = [found for found in educators if not found.disabled]
    outgoing = Outgoing(
        school,
        list(sections.values()),
        lambda: _members(present, people, accounts),
        lambda: _enrollments(present, people, accounts, sections),
        today,
    )
    write_export(target, outgoing, version)


def _section(found: Class, school: Org) -> Section:
    # The join code is a secret of the class, and OneRoster's class code is none.
    return Section(
        found.source_id or found.class_id, found.title, "", school.source_id, "", (), "current", "", found.order
    )


def _user_id(student: Student, people: Mapping[str, Person]) -> str:
    person = people.get(student.person_id)
    return (person.source_id if person is not None else "") or student.person_id or student.student_id


def _members(
    students: Iterable[Student], people: Mapping[str, Person], accounts: Iterable[Educator]
) -> Iterator[Member]:
    seen: set[str] = set()
    for student in students:
        key = _user_id(student, people)
        if key not in seen:
            seen.add(key)
            yield Member(_user(key, student, people.get(student.person_id)), "student")
    for account in accounts:
        given, family = _divided(account.name)
        login = account.login
        user = User(account.educator_id, given, "", family, "", "", "", login, "", "", "current", "", 0)
        yield Member(user, _ROLES[account.role])


def _user(key: str, student: Student, person: Person | None) -> User:
    """A student as a user. A name that was changed since the list is the one that counts."""
    if person is not None and person.name == student.name and (person.given or person.family):
        given, family, preferred = person.given, person.family, person.preferred
    else:
        (given, family), preferred = _divided(student.name), ""
    return User(key, given, "", family, preferred, "", "", "", "", "", "current", "", 0)


def _divided(name: str) -> tuple[str, str]:
    """Given and family name of a whole name: divided at the last space."""
    given, _, family = name.rpartition(" ")
    return (given, family) if given else (family, "")


def _enrollments(
    students: Iterable[Student],
    people: Mapping[str, Person],
    accounts: Iterable[Educator],
    sections: Mapping[str, Section],
) -> Iterator[Enrollment]:
    seen: set[tuple[str, str]] = set()
    for student in students:
        user, class_id = _user_id(student, people), sections[student.class_id].source_id
        if (user, class_id) not in seen:
            seen.add((user, class_id))
            ends = None if student.ends is None else datetime.datetime.fromtimestamp(student.ends).date()
            yield Enrollment("", user, class_id, "student", "current", None, ends, "", 0)
    for account in accounts:
        for class_id in account.class_ids:
            if class_id in sections and account.role != "administrator":
                role = _ROLES[account.role]
                source_id = sections[class_id].source_id
                yield Enrollment("", account.educator_id, source_id, role, "current", None, None, "", 0)
