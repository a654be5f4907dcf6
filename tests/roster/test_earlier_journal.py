"""The roster of earlier formats moves to the store, with ids, codes, tokens and lists; again if that was cut short."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from appliance.datafolder import DataFolder, notes
from appliance.errors import SettingsError
from appliance.maintenance import backup
from appliance.maintenance.upgrade import bring_up_to_date
from appliance.roster import RosterLimits, token_hash
from appliance.roster.earlier_journal import JOURNAL, move_journal
from appliance.roster.lists import key_without_id
from appliance.roster.sqlite_file import FILE
from tests.contract.roster import present
from tests.roster.world import roster_in

FIXTURES = Path(__file__).parents[1] / "fixtures"
LIMITS = RosterLimits()


def line(**change: object) -> str:
    return json.dumps({name.replace("section", "class"): value for name, value in change.items()}) + "\n"


def token(student_id: str, text: str) -> str:
    return line(token={"student_id": student_id, "hash": token_hash(text)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A roster of format 3 with two joined students, one of them removed, and a list whose students have tokens."""
    folder = tmp_path / "data" / "roster"
    folder.mkdir(parents=True)
    computed = key_without_id("6c", "Dan")
    student = {"class_id": "class-1", "listed": False}
    (folder / JOURNAL).write_text(
        line(section={"class_id": "class-1", "title": "My class", "code": "ABC-234", "open": True})
        + line(student={"student_id": "s-1", "name": "Ada", **student})
        + token("s-1", "of Ada")
        + line(student={"student_id": "s-2", "name": "Bob", **student})
        + token("s-2", "of Bob")
        + line(removed="s-2")
        + line(section={"class_id": "5b", "title": "Physics", "code": "PHY-222", "open": False})
        + line(student={"student_id": "s-1", "name": "Ada L.", **student})
        + token("17", "of Cy")
        + token(computed, "of Dan")
        + token("gone", "of Eve")
    )
    (folder / "students.csv").write_text("name,class,student id\nCy,5b,17\nDan,6c,\nFay,5b,18\n")
    return folder


def upgrade(data: Path) -> None:
    (data / "archive").mkdir(exist_ok=True)
    with DataFolder(data) as held:
        bring_up_to_date(held)


async def test_everything_is_there_with_its_ids(folder: Path) -> None:
    upgrade(folder.parent)
    assert not (folder / JOURNAL).exists()
    roster = roster_in(folder, LIMITS)
    first, physics, other = await roster.classes()
    assert (first.code, physics.code, physics.title, physics.open) == ("ABC-234", "PHY-222", "Physics", False)
    assert (other.class_id, other.open) == ("6c", True)
    assert [(s.student_id, s.name, s.listed) for s in await roster.students("class-1")] == [("s-1", "Ada L.", False)]
    assert [(s.student_id, s.listed) for s in await roster.students("5b")] == [("17", True), ("18", True)]
    for text, student_id in {"of Ada": "s-1", "of Cy": "17", "of Dan": key_without_id("6c", "Dan")}.items():
        student = await present(roster, text)
        assert student is not None
        assert student.student_id == student_id
    assert await roster.student_by_token("of Bob") is None
    assert await roster.student_by_token("of Eve") is None
    assert roster.findings() == []
    await roster.close()
    [made] = (folder.parent / "backups").iterdir()
    assert f"roster/{JOURNAL}" in backup.check(made).files


async def test_who_left_the_list_before_is_the_same_student_when_the_list_has_them_again(folder: Path) -> None:
    upgrade(folder.parent)
    (folder / "students.csv").write_text("name,class,student id\nEve,5b,gone\nNew,5b,19\n")
    roster = roster_in(folder, LIMITS)
    await roster.classes()
    eve = await present(roster, "of Eve")
    assert eve is not None
    assert (eve.student_id, eve.name) == ("gone", "Eve")
    [new] = [student for student in await roster.students("5b") if student.name == "New"]
    assert new.student_id not in ("19", "gone")
    await roster.close()


async def test_a_move_that_was_cut_short_is_done_again(folder: Path) -> None:
    journal = (folder / JOURNAL).read_bytes()
    move_journal(folder, folder / FILE, LIMITS)
    roster = roster_in(folder, LIMITS)
    before = [await roster.students(section.class_id) for section in await roster.classes()]
    await roster.close()
    # As after a power cut before the journal was removed.
    (folder / JOURNAL).write_bytes(journal)
    move_journal(folder, folder / FILE, LIMITS)
    roster = roster_in(folder, LIMITS)
    assert [await roster.students(section.class_id) for section in await roster.classes()] == before
    await roster.close()


async def test_damaged_lines_are_reported_and_kept(folder: Path) -> None:
    with (folder / JOURNAL).open("ab") as file:
        file.write(b'\xff\xfe\n{"unheard":1}\n')
    upgrade(folder.parent)
    assert "journal.damaged" in [one.code for one in notes.findings(folder)]
    assert len((folder / "roster-damaged.jsonl").read_bytes().splitlines()) == 2
    roster = roster_in(folder, LIMITS)
    assert await present(roster, "of Ada") is not None
    await roster.close()


async def test_a_roster_in_another_folder_moves_to_the_data_folder(folder: Path, tmp_path: Path) -> None:
    lists, data = tmp_path / "lists", folder.parent
    shutil.move(folder, lists)
    (data / "archive").mkdir()
    with DataFolder(data) as held:
        bring_up_to_date(held, lists=lists)
    assert sorted(path.name for path in lists.iterdir()) == ["students.csv"]
    roster = roster_in(data / "roster", LIMITS)
    assert await present(roster, "of Ada") is not None
    await roster.close()
    [made] = (data / "backups").iterdir()
    assert f"roster/{JOURNAL}" in backup.check(made).files


def test_a_roster_that_cannot_be_moved_keeps_its_journal(folder: Path) -> None:
    (folder / FILE).write_bytes(b"no database of anybody" * 100)
    before = (folder / JOURNAL).read_bytes()
    (folder.parent / "archive").mkdir()
    with DataFolder(folder.parent) as held, pytest.raises(SettingsError, match=r"its content is damaged\. Restore it"):
        bring_up_to_date(held)
    assert (folder / JOURNAL).read_bytes() == before


async def test_the_fixture_of_format_3(tmp_path: Path) -> None:
    data = Path(shutil.copytree(FIXTURES / "data-3", tmp_path / "data"))
    upgrade(data)
    roster = roster_in(data / "roster", LIMITS)
    [section] = await roster.classes()
    assert section.code == "DHB-997"
    assert [student.name for student in await roster.students(section.class_id)] == ["Ada L.", "Grace H."]
    await roster.close()
