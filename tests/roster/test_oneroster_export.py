from __future__ import annotations

import io
import zipfile
from typing import get_args

import pytest

from appliance.roster.oneroster.package import open_export
from appliance.roster.oneroster.reading import read
from appliance.roster.oneroster.tables import Version
from appliance.roster.oneroster.validating import validate
from appliance.roster.oneroster_export import write_roster
from appliance.roster.tables import Class, Educator, Person, Student
from tests.roster.oneroster.exports import TODAY

CLASSES = [Class("class-1", "7a", "ABC-234", source_id="c-7a"), Class("class-2", "7b", "ABD-235"),
           Class("class-3", "6a", "ABE-236", ended_at=1.0)]  # fmt: skip
PEOPLE = {
    "p1": Person("p1", "00123", "Ada Mary", "Lovelace", "Ada", "Ada Lovelace"),
    "p2": Person("p2", "", "Seán", "O'Brien", "", "Seán O'Brien"),
}
STUDENTS = [
    Student("s1", "Ada Lovelace", "class-1", listed=True, person_id="p1"),
    Student("s2", "Ada Lovelace", "class-2", listed=True, person_id="p1"),
    Student("s3", "Shane O'Brien", "class-1", listed=True, person_id="p2"),
    Student("s4", "Grace", "class-2"),
    Student("s5", "Gone", "class-1", removed_at=1.0),
    Student("s6", "Old", "class-3"),
]
EDUCATORS = [
    Educator("e1", "Charles Babbage", "babbage", "", "educator", ["class-1", "class-3"]),
    Educator("e2", "Alan Turing", "turing", "", "administrator"),
    Educator("e3", "Left", "left", "", "educator", ["class-1"], disabled=True),
]


@pytest.mark.parametrize("version", get_args(Version))
def test_a_roster_is_written_as_a_valid_export(version: Version) -> None:
    target = io.BytesIO()
    write_roster(target, CLASSES, STUDENTS, PEOPLE, EDUCATORS, today=TODAY, version=version)
    with zipfile.ZipFile(target) as packed:
        assert b"ABC" not in packed.read("classes.csv")
    with open_export(target) as export:
        (report,) = validate(export)
        assert (report.version, report.findings.kept) == (version, [])
        reading = read(export, today=TODAY)
        assert [(section.source_id, section.title) for section in reading.sections.values()] == [
            ("c-7a", "7a"),
            ("class-2", "7b"),
        ]
        assert [(user.source_id, user.name) for user in reading.users()] == [
            ("00123", "Ada Lovelace"),
            ("p2", "Shane O'Brien"),
            ("s4", "Grace"),
        ]
        assert [(found.user_id, found.class_id) for found in reading.enrollments() if found.is_student] == [
            ("00123", "c-7a"),
            ("00123", "class-2"),
            ("p2", "c-7a"),
            ("s4", "class-2"),
        ]
        assert [(found.user.name, found.suggestion, found.class_ids) for found in reading.educators()] == [
            ("Charles Babbage", "educator", ("c-7a",)),
            ("Alan Turing", "administrator", ()),
        ]
