"""Writes a roster as a OneRoster export: a bulk zip of 1.2, or of 1.1 for a system that knows no other.

What the specification requires and a roster may not have is made up: a school year, a course for each class, a
sourcedId from a name. The same roster gives the same ids each time.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from itertools import chain
from pathlib import Path
from typing import IO

import msgspec

from appliance.roster.oneroster.records import Enrollment, Org, Section, Term, User
from appliance.roster.oneroster.tables import (
    DATA_TABLES,
    GUID_CHARACTERS,
    MANIFEST,
    MANIFEST_VERSION,
    METADATA,
    Version,
    file_property,
    tables_of,
)
from appliance.roster.oneroster.values import NO_NAME, plain

_GUID = re.compile(rf"[0-9A-Za-z.\-_/@]{{1,{GUID_CHARACTERS}}}").fullmatch
_YEAR_BEGINS = 8
# Role, as `plain` gives it -> that of users.csv in 1.1, and of roles.csv in 1.2.
_OF_1_1 = {
    "student": "student",
    "teacher": "teacher",
    "aide": "aide",
    "counselor": "aide",
    "proctor": "proctor",
}
_OF_1_2 = {
    "student": "student",
    "teacher": "teacher",
    "aide": "aide",
    "counselor": "counselor",
    "proctor": "proctor",
    "principal": "principal",
    "systemadministrator": "systemAdministrator",
    "districtadministrator": "districtAdministrator",
}
_IN_CLASS = {"student": "student", "teacher": "teacher", "administrator": "administrator"}
_PREFERRED = ("preferredGivenName", "preferredMiddleName", "preferredFamilyName")
# 1.1 has no preferred names, and allows columns of one's own.
_ADDED = {("users", "1.1"): tuple(f"{METADATA}{name}" for name in _PREFERRED)}


class Member(msgspec.Struct, frozen=True):
    """A person with the role in the school: ``student``, ``teacher``, ``aide``, ``administrator`` and so on."""

    user: User
    role: str


class Outgoing(msgspec.Struct, frozen=True):
    """What is written. Rows with the state ``deleted`` are left out, as are enrolments in such classes.

    Attributes:
        school: the school of all classes without another one.
        sections: classes.
        members: gives the people, each once; it is called more than once.
        enrollments: gives the enrolments; their users are among the members and their classes among the sections.
        orgs: further orgs.
        terms: sessions; without one, the school year of `today` is written.
        today: day of the export.
        system: name of the system that writes it.
    """

    school: Org
    sections: Sequence[Section]
    members: Callable[[], Iterable[Member]]
    enrollments: Callable[[], Iterable[Enrollment]]
    today: date
    orgs: Sequence[Org] = ()
    terms: Sequence[Term] = ()
    system: str = "Classroom Observer"


def write_export(target: Path | IO[bytes], outgoing: Outgoing, version: Version = "1.2") -> None:
    """Write an export.

    Args:
        target: the zip to write.
        outgoing: its content.
        version: of OneRoster.

    Raises:
        OSError: it cannot be written.
    """
    rows = _Rows(outgoing, version)
    written: set[str] = set()
    # The day and not the time, so that the same content gives the same bytes.
    when = (*outgoing.today.timetuple()[:3], 0, 0, 0)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for table in tables_of(version):
            found = rows.of(table)
            first = next(found, None)
            if first is not None:
                heading = [column.name for column in DATA_TABLES[table].columns[version] if not column.optional]
                heading += _ADDED.get((table, version), ())
                lines = ([row.get(name, "") for name in heading] for row in chain((first,), found))
                _write(packed, DATA_TABLES[table].file, when, heading, lines)
                written.add(table)
        heading = [column.name for column in MANIFEST.columns[version]]
        _write(packed, MANIFEST.file, when, heading, _manifest(outgoing, version, written))


def guid(text: str, kind: str = "x") -> str:
    """A sourcedId from an id of the roster: the id itself if it is one, else one that is made from it.

    Args:
        text: the id.
        kind: a letter or word with which a made one begins.
    """
    if _GUID(text):
        return text
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def _write(
    packed: zipfile.ZipFile, file: str, when: tuple[int, ...], heading: list[str], rows: Iterable[Sequence[str]]
) -> None:
    member = zipfile.ZipInfo(file, when)  # type: ignore[arg-type]
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = 0o600 << 16
    with (
        packed.open(member, "w", force_zip64=True) as raw,
        io.TextIOWrapper(raw, encoding="utf-8", newline="") as text,
    ):
        writer = csv.writer(text)
        writer.writerow(heading)
        writer.writerows(rows)


def _manifest(outgoing: Outgoing, version: Version, written: set[str]) -> Iterator[Sequence[str]]:
    yield "manifest.version", MANIFEST_VERSION
    yield "oneroster.version", version
    for table in tables_of(version):
        yield file_property(table), "bulk" if table in written else "absent"
    yield "source.systemName", outgoing.system


class _Rows:
    """The rows of each table, as column -> value."""

    def __init__(self, outgoing: Outgoing, version: Version) -> None:
        self._outgoing = outgoing
        self._version = version
        self._school = guid(outgoing.school.source_id, "org")
        self._orgs = {self._school} | {guid(org.source_id, "org") for org in outgoing.orgs if org.state != "deleted"}
        self._terms = [term for term in outgoing.terms if term.state != "deleted" and term.begins and term.ends]
        self._terms = self._terms or [_school_year(outgoing.today)]
        self._term_ids = {guid(term.source_id, "term") for term in self._terms}
        self._sections = {
            guid(section.source_id, "class"): section for section in outgoing.sections if section.state != "deleted"
        }

    def of(self, table: str) -> Iterator[dict[str, str]]:
        makers: dict[str, Callable[[], Iterator[dict[str, str]]]] = {
            "academicSessions": self._sessions,
            "orgs": self._org_rows,
            "courses": self._courses,
            "classes": self._classes,
            "users": self._users,
            "roles": self._roles,
            "enrollments": self._enrollments,
        }
        return makers[table]() if table in makers else iter(())

    def _sessions(self) -> Iterator[dict[str, str]]:
        for term in self._terms:
            begins, ends = term.begins, term.ends
            if begins and ends:
                yield {
                    "sourcedId": guid(term.source_id, "term"),
                    "title": _text(term.title) or term.source_id,
                    "type": "schoolYear" if (ends - begins).days > 300 else "term",
                    "startDate": begins.isoformat(),
                    "endDate": ends.isoformat(),
                    "schoolYear": f"{_school_year(begins).ends:%Y}",
                }

    def _org_rows(self) -> Iterator[dict[str, str]]:
        seen: set[str] = set()
        for org in (self._outgoing.school, *self._outgoing.orgs):
            key, parent = guid(org.source_id, "org"), guid(org.parent, "org")
            if key not in seen and (org.state != "deleted" or org is self._outgoing.school):
                seen.add(key)
                yield {
                    "sourcedId": key,
                    "name": _text(org.name) or key,
                    "type": org.type or "school",
                    "parentSourcedId": parent if org.parent and parent in self._orgs else "",
                }

    def _courses(self) -> Iterator[dict[str, str]]:
        seen: set[str] = set()
        for key, section in self._sections.items():
            course = _course(key, section)
            if course not in seen:
                seen.add(course)
                title, school = _text(section.title) or key, self._school_of(section)
                yield {"sourcedId": course, "title": title, "orgSourcedId": school}

    def _classes(self) -> Iterator[dict[str, str]]:
        for key, section in self._sections.items():
            terms = [guid(term, "term") for term in section.term_ids]
            known = [term for term in terms if term in self._term_ids]
            yield {
                "sourcedId": key,
                "title": _text(section.title) or key,
                "courseSourcedId": _course(key, section),
                "classCode": _text(section.code),
                "classType": "scheduled",
                "schoolSourcedId": self._school_of(section),
                "termSourcedIds": ",".join(known or [guid(self._terms[0].source_id, "term")]),
            }

    def _users(self) -> Iterator[dict[str, str]]:
        for key, member in self._members():
            user = member.user
            yield {
                "sourcedId": key,
                "enabledUser": "false" if user.state == "disabled" else "true",
                "orgSourcedIds": self._school,
                "role": _OF_1_1.get(plain(member.role), "administrator"),
                "username": _text(user.username) or _text(user.email) or key,
                "givenName": _text(user.given) or NO_NAME,
                "familyName": _text(user.family) or NO_NAME,
                "middleName": _text(user.middle),
                "identifier": _text(user.identifier),
                "email": _text(user.email),
                "primaryOrgSourcedId": self._school,
                **_preferred(user),
            }

    def _roles(self) -> Iterator[dict[str, str]]:
        for key, member in self._members():
            yield {
                "sourcedId": guid(f"role-{key}", "role"),
                "userSourcedId": key,
                "roleType": "primary",
                "role": _OF_1_2.get(plain(member.role), "siteAdministrator"),
                "orgSourcedId": self._school,
            }

    def _enrollments(self) -> Iterator[dict[str, str]]:
        for found in self._outgoing.enrollments():
            class_id, user = guid(found.class_id, "class"), guid(found.user_id, "user")
            section = self._sections.get(class_id)
            if section is not None and found.state != "deleted":
                made = hashlib.sha256(f"{user}\0{class_id}\0{found.role}".encode()).hexdigest()[:24]
                yield {
                    "sourcedId": guid(found.source_id, "enrollment") if found.source_id else f"enrollment-{made}",
                    "classSourcedId": class_id,
                    "schoolSourcedId": self._school_of(section),
                    "userSourcedId": user,
                    "role": _IN_CLASS.get(plain(found.role), "proctor"),
                    "beginDate": found.begins.isoformat() if found.begins else "",
                    "endDate": found.ends.isoformat() if found.ends else "",
                }

    def _members(self) -> Iterator[tuple[str, Member]]:
        for member in self._outgoing.members():
            if member.user.state != "deleted":
                yield guid(member.user.source_id, "user"), member

    def _school_of(self, section: Section) -> str:
        key = guid(section.org_id, "org")
        return key if section.org_id and key in self._orgs else self._school


def _preferred(user: User) -> dict[str, str]:
    """The preferred names, by the columns of both versions."""
    names = (user.preferred_given, user.preferred_middle, user.preferred_family)
    found = dict(zip(_PREFERRED, map(_text, names), strict=True))
    return found | {f"{METADATA}{column}": name for column, name in found.items()}


def _course(key: str, section: Section) -> str:
    return guid(section.course_id, "course") if section.course_id else guid(f"course-{key}", "course")


def _school_year(day: date) -> Term:
    """The school year of a day, from August to July."""
    year = day.year if day.month >= _YEAR_BEGINS else day.year - 1
    begins, ends = date(year, _YEAR_BEGINS, 1), date(year + 1, _YEAR_BEGINS, 1)
    return Term(f"year-{year}", f"{year}/{year + 1}", begins, ends, "current", "", 0)


def _text(text: str) -> str:
    """A text in one line."""
    return " ".join(text.split())
