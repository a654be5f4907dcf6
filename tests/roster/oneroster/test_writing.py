from __future__ import annotations

import io
import zipfile
from datetime import date
from typing import get_args

import pytest

from appliance.roster.oneroster.package import open_export
from appliance.roster.oneroster.reading import Reading, read
from appliance.roster.oneroster.records import Enrollment, Org, Section, User
from appliance.roster.oneroster.tables import Version
from appliance.roster.oneroster.validating import validate
from appliance.roster.oneroster.writing import Member, Outgoing, guid, write_export
from tests.roster.oneroster.exports import FIXTURES, TODAY

VERSIONS = get_args(Version)


def written(outgoing: Outgoing, version: Version) -> io.BytesIO:
    """An export of this content, which the validator has found good."""
    target = io.BytesIO()
    write_export(target, outgoing, version)
    with open_export(target) as export:
        (report,) = validate(export)
        assert report.version == version
        assert report.findings.kept == []
    return target


def outgoing_of(reading: Reading) -> Outgoing:
    """The content of an export, to write it again."""
    students = [Member(user, "student") for user in reading.users()]
    staff = [Member(found.user, found.roles[0]) for found in reading.educators()]
    school = next(org for org in reading.orgs.values() if org.type == "school")
    others = [org for org in reading.orgs.values() if org is not school]
    return Outgoing(
        school,
        list(reading.sections.values()),
        lambda: (*students, *staff),
        lambda: reading.enrollments(),
        TODAY,
        others,
        list(reading.terms.values()),
    )


def summary(reading: Reading) -> object:
    """What an export means, without its places in files."""
    return (
        sorted((org.source_id, org.name, org.type, org.parent) for org in reading.orgs.values()),
        [(term.source_id, term.title, term.begins, term.ends) for term in reading.terms.values()],
        [(part.source_id, part.title, part.code, part.org_id, part.term_ids) for part in reading.sections.values()],
        [(found.user_id, found.class_id, found.role, found.state) for found in reading.enrollments()],
        [(user.source_id, user.name, user.given, user.middle, user.email, user.identifier) for user in reading.users()],
        [(found.user.source_id, found.suggestion, found.class_ids) for found in reading.educators()],
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["v11-quoted", "v12-bulk"])
def test_what_is_written_reads_as_what_was_read(name: str, version: Version) -> None:
    with open_export(FIXTURES / name) as export:
        before = read(export, today=TODAY)
        outgoing = outgoing_of(before)
        expected = summary(before)
        with open_export(written(outgoing, version)) as again:
            assert summary(read(again, today=TODAY)) == expected
        assert written(outgoing, version).getvalue() == written(outgoing, version).getvalue()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_roster_without_ids_terms_and_family_names_is_written(version: Version) -> None:
    def user(key: str, given: str, family: str = "") -> User:
        return User(key, given, "", family, "", "", "", "", "", "", "current", "", 0)

    def enrollment(key: str, role: str = "student") -> Enrollment:
        return Enrollment("", key, "Klasse 7a", role, "current", None, date(2026, 12, 24), "", 0)

    people = [user("Żak, Łukasz", "Łukasz", "Żak"), user("s-2", "  Ada\n "), user("t", "=cmd", 'O"Neill, "Jr."')]
    outgoing = Outgoing(
        Org("", "Our school", "school", "", "current", "", 0),
        [Section("Klasse 7a", "Klasse 7a", "", "elsewhere", "", (), "current", "", 0)],
        lambda: (Member(people[0], "student"), Member(people[1], "student"), Member(people[2], "Teacher")),
        lambda: (enrollment("Żak, Łukasz"), enrollment("s-2"), enrollment("t", "teacher"), enrollment("s-2", "aide")),
        TODAY,
    )
    with open_export(written(outgoing, version)) as export:
        reading = read(export, today=TODAY)
        assert [found.name for found in reading.users()] == ["Łukasz Żak", "Ada"]
        assert [found.user.family for found in reading.educators()][-1] == 'O"Neill, "Jr."'
        (section,) = reading.sections.values()
        assert (section.title, section.state) == ("Klasse 7a", "current")
        assert {found.ends for found in reading.enrollments()} == {date(2026, 12, 24)}


def test_an_empty_roster_has_no_empty_files() -> None:
    school = Org("school", "School", "school", "", "current", "", 0)
    target = written(Outgoing(school, [], lambda: (), lambda: (), TODAY), "1.2")
    with zipfile.ZipFile(target) as packed:
        assert sorted(packed.namelist()) == ["academicSessions.csv", "manifest.csv", "orgs.csv"]


def test_an_id_that_is_none_gets_one_that_stays() -> None:
    assert guid("a.b-1/@") == "a.b-1/@"
    assert guid("Żak", "user") == guid("Żak", "user") != guid("Zak!", "user")
    assert guid("", "org").startswith("org-")
