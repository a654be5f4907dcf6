"""Reading of plain lists: encodings, headings, rows, and what is refused or asked."""

from __future__ import annotations

import pytest

from appliance.roster import RosterLimits
from appliance.roster.imports.model import Incoming, ReadOptions
from appliance.roster.imports.plain import read_plain
from tests.roster.list_fixtures import FOLDER, Fixture, fixtures

LIMITS = RosterLimits()


def students(incoming: Incoming) -> list[tuple[str, str, str]]:
    return [(entry.name, entry.class_id, entry.source_id) for entry in incoming.entries]


def test_there_are_forty_lists_as_programs_write_them() -> None:
    assert len(fixtures()) >= 40
    assert {fixture.name: fixture.content for fixture in fixtures()} == {
        path.name: path.read_bytes() for path in FOLDER.iterdir()
    }, "run python -m tests.roster.list_fixtures"


@pytest.mark.parametrize("fixture", fixtures(), ids=lambda fixture: fixture.name)
def test_a_list_as_a_program_writes_it(fixture: Fixture) -> None:
    incoming = read_plain(fixture.content, fixture.name, ReadOptions(), LIMITS)
    assert students(incoming) == fixture.students
    assert incoming.form.encoding == fixture.encoding
    assert [question.key for question in incoming.questions] == fixture.questions
    assert [note.line for note in incoming.refused] == fixture.refused
    assert [note.line for note in incoming.left] == fixture.left
