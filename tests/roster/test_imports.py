"""Import of a school's list: which files are read, reports of bad rows, and rows that are never lost."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from appliance import cli
from appliance.roster import RosterLimits
from appliance.roster.imports.list_files import Outcome, RosterImportError, import_list
from appliance.roster.tables import PEOPLE
from tests.roster.world import roster_in

LIMITS = RosterLimits(students=5)


def run(tmp_path: Path, content: str | bytes | Path, **words: bool | list[str]) -> Outcome:
    """Import a list into the roster of the test."""
    source = content
    if not isinstance(source, Path):
        source = tmp_path / "pupils.csv"
        source.write_bytes(content if isinstance(content, bytes) else content.encode())  # type: ignore[union-attr]
    return import_list(source, tmp_path / "roster", LIMITS, **words)  # type: ignore[arg-type]


async def listed(tmp_path: Path) -> list[tuple[str, str, str]]:
    """Id in the list, name and class of all students, as the appliance reads them."""
    roster = roster_in(tmp_path / "roster", LIMITS)
    found = []
    for section in await roster.classes():
        for student in await roster.students(section.class_id):
            person = await roster.store.get(PEOPLE, student.person_id)
            assert person is not None
            found.append((person.source_id, student.name, student.class_id))
    assert roster.findings() == []
    await roster.close()
    return sorted(found)


ADA_AND_BO = [("1", "Ada Löve", "8b"), ("2", "Bo", "8b")]


@pytest.mark.parametrize(
    "content",
    [
        "name,class,student_id\nAda Löve,8b,1\nBo,8b,2\n",
        "\ufeffstudent id;class;name\r\n1;8b;Ada Löve\r\n2;8b;Bo\r\n",
        ["Klasse", "name;class;id\n"][1].encode() + "Ada Löve;8b;1\nBo;8b;2\n".encode("cp1252"),
        "Family Name\tGiven Name\tSection\tsourcedId\nLöve\tAda\t8b\t1\n\tBo\t8b\t2\n".encode("utf-16"),
        "email,name,class,id\nx@y,Ada Löve,8b,1\n\nx@y,Bo,8b,2\n",
    ],
)
async def test_a_list_as_a_spreadsheet_saves_it(tmp_path: Path, content: str | bytes) -> None:
    outcome = run(tmp_path, content)
    assert outcome == Outcome(2, 1, added=2, changed=0, gone=0, staying=0, problems=[])
    assert await listed(tmp_path) == ADA_AND_BO


async def test_a_second_import_changes_names_and_keeps_who_is_not_named(tmp_path: Path) -> None:
    run(tmp_path, "name,class,id\nAda Löve,8b,1\nBo,8b,2\n")
    outcome = run(tmp_path, "name,class,id\nAda L.,8b,1\nCy,9a,3\n")
    assert (outcome.added, outcome.changed, outcome.gone, outcome.staying) == (1, 1, 0, 1)
    assert await listed(tmp_path) == [("1", "Ada L.", "8b"), ("2", "Bo", "8b"), ("3", "Cy", "9a")]


async def test_replace_takes_out_who_is_not_named(tmp_path: Path) -> None:
    run(tmp_path, "name,class,id\nAda Löve,8b,1\nBo,8b,2\n")
    outcome = run(tmp_path, "name,class,id\nBo,8b,2\n", replace=True)
    assert (outcome.added, outcome.changed, outcome.gone, outcome.staying) == (0, 0, 1, 0)
    assert await listed(tmp_path) == [("2", "Bo", "8b")]


async def test_a_student_without_an_id_is_the_same_at_every_import(tmp_path: Path) -> None:
    run(tmp_path, "name,class\nAda,8b\n")
    before = await listed(tmp_path)
    assert run(tmp_path, "name,class\nAda,8b\nBo,8b\n").added == 1
    assert before[0] in await listed(tmp_path)


BAD = "name,class,id\nAda,8b,1\n,8b,2\nBo,8b,1\n" + "x" * 81 + ",8b,4\n"


@pytest.mark.parametrize("dry_run", [True, False])
def test_all_bad_rows_are_reported_and_nothing_is_changed(tmp_path: Path, dry_run: bool) -> None:
    outcome = run(tmp_path, BAD, dry_run=dry_run)
    assert [problem.partition(":")[0] for problem in outcome.problems] == [
        "pupils.csv, line 3",
        "pupils.csv, line 4",
        "pupils.csv, line 5",
    ]
    assert all(problem.endswith("Correct the row, or remove it.") for problem in outcome.problems)
    assert outcome.students == 1
    assert not (tmp_path / "roster").exists()


async def test_good_rows_alone_where_that_is_wanted(tmp_path: Path) -> None:
    run(tmp_path, BAD, skip_bad=True)
    assert await listed(tmp_path) == [("1", "Ada", "8b")]


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, "name,class\nAda,8b\n", dry_run=True).added == 1
    assert not (tmp_path / "roster").exists()


def test_nothing_of_the_rosters_own_list_is_lost_unnoticed(tmp_path: Path) -> None:
    own = tmp_path / "roster" / "students.csv"
    own.parent.mkdir()
    for content, match in (
        ("name,class,shoe size\nAda,8b,40\n", "shoe size"),
        ("name,class\nAda,8b\nAda,8b\n", "line 3"),
    ):
        own.write_text(content)
        with pytest.raises(RosterImportError, match=match):
            run(tmp_path, "name,class\nBo,8b\n")
        assert own.read_text() == content
    run(tmp_path, "name,class\nBo,8b\n", replace=True)
    assert "Bo" in own.read_text()


async def test_titles_and_codes_that_the_educator_gave_stay(tmp_path: Path) -> None:
    (tmp_path / "roster").mkdir()
    (tmp_path / "roster" / "classes.csv").write_text("class,title,code\n8b,My 8b,WXYZ-1\n")
    run(tmp_path, "name,class\nAda,8b\nBo,9a\n")
    roster = roster_in(tmp_path / "roster", LIMITS)
    titles = {section.class_id: (section.title, section.code) for section in await roster.classes()}
    await roster.close()
    assert titles["8b"] == ("My 8b", "WXYZ-1")
    assert titles["9a"][0] == "9a"


@pytest.mark.parametrize("dry_run", [True, False])
def test_students_of_no_class_where_the_list_has_another(tmp_path: Path, dry_run: bool) -> None:
    run(tmp_path, "name,class\nAda,8a\n")
    with pytest.raises(RosterImportError, match=r"names no class for 1 of its students, and the list has .* 8a"):
        run(tmp_path, "Name;Klasse\nXi;9a\n", dry_run=dry_run)
    assert "Xi" not in (tmp_path / "roster" / "students.csv").read_text("utf-8-sig")


def test_too_large_a_class(tmp_path: Path) -> None:
    rows = "".join(f"S{n},8b\n" for n in range(4))
    run(tmp_path, f"name,class\n{rows}")
    with pytest.raises(RosterImportError, match="would have 6 students; it may have 5"):
        run(tmp_path, "name,class\nX,8b\nY,8b\n")
    [problem] = run(tmp_path, f"name,class\n{rows}X,8b\nY,8b\n", replace=True).problems
    assert "line 7: A class may have 5 students." in problem


@pytest.mark.parametrize("content", ["", "given;class\n", "a,b\n1,2\n"])
def test_a_file_without_the_columns_or_students(tmp_path: Path, content: str) -> None:
    try:
        problems = run(tmp_path, content).problems
    except RosterImportError as error:
        problems = [str(error)]
    [problem] = problems
    assert "name" in problem
    assert not (tmp_path / "roster").exists()


def test_no_file_and_no_csv(tmp_path: Path) -> None:
    with pytest.raises(RosterImportError, match="There is no file"):
        run(tmp_path, tmp_path / "none.csv")
    with zipfile.ZipFile(tmp_path / "pupils.xlsx", "w") as packed:
        packed.writestr("xl/workbook.xml", "")
    with pytest.raises(RosterImportError, match=r"Save a spreadsheet as CSV \(UTF-8\) first"):
        run(tmp_path, tmp_path / "pupils.xlsx")


ONEROSTER = {
    "users.csv": "sourcedId,status,enabledUser,role,username,givenName,familyName\n"
    "u1,active,true,student,x,Ada,Löve\nu2,,,student,x,Bo,Ek\nu3,active,true,teacher,x,Tea,Cher\n"
    "u4,tobedeleted,true,student,x,Gone,Away\nu5,active,false,student,x,Off,Line\n",
    "classes.csv": "sourcedId,status,title\nc1,active,English 8\nc2,active,Maths 8\n",
    "enrollments.csv": "sourcedId,classSourcedId,userSourcedId,role\n"
    "e1,c1,u1,student\ne2,c1,u2,student\ne3,c1,u3,teacher\ne4,c2,u1,student\n",
}


@pytest.fixture(params=["folder", "zip"])
def oneroster(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "folder":
        (tmp_path / "export").mkdir()
        for name, text in ONEROSTER.items():
            (tmp_path / "export" / name).write_text(text, encoding="utf-8")
        return tmp_path / "export"
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as packed:
        for name, text in ONEROSTER.items():
            packed.writestr(name, text)
    return tmp_path / "export.zip"


async def test_oneroster_files(tmp_path: Path, oneroster: Path) -> None:
    outcome = run(tmp_path, oneroster, dry_run=True)
    assert [re.sub(r"\. .*", "", problem) for problem in outcome.problems] == [
        "enrollments.csv, line 5: This student is in another class already, and a student is in one here"
    ]
    run(tmp_path, oneroster, skip_bad=True)
    assert await listed(tmp_path) == [("u1", "Ada Löve", "c1"), ("u2", "Bo Ek", "c1")]
    roster = roster_in(tmp_path / "roster", LIMITS)
    assert [section.title for section in await roster.classes()] == ["English 8"]
    await roster.close()


async def test_one_class_of_several(tmp_path: Path, oneroster: Path) -> None:
    outcome = run(tmp_path, oneroster, classes=["c2"])
    assert outcome.problems == []
    assert await listed(tmp_path) == [("u1", "Ada Löve", "c2")]


def test_a_oneroster_folder_without_a_file(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "users.csv").write_text(ONEROSTER["users.csv"])
    with pytest.raises(RosterImportError, match=r"has a file enrollments\.csv"):
        run(tmp_path, tmp_path / "export")


class TestCommand:
    def test_a_dry_run_then_the_import(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file, data = tmp_path / "pupils.csv", tmp_path / "data"
        file.write_text("name,class\nAda,8b\n,8b\n")
        words = ["import-roster", str(file), "--data-dir", str(data)]
        assert cli.main([*words, "--dry-run"]) == 1
        out = capsys.readouterr().out
        assert "pupils.csv, line 3: Write a name first. Correct the row, or remove it.\n" in out
        assert "The list would have 1 student of 1 class from this file: 1 new, 0 changed." in out
        assert "1 row is bad. Nothing was changed" in out
        assert cli.main([*words, "--skip-bad"]) == 0
        assert "The list has 1 student of 1 class" in capsys.readouterr().out
        assert (data / "roster" / "students.csv").exists()

    def test_lists_in_another_folder(self, tmp_path: Path) -> None:
        file, lists = tmp_path / "pupils.csv", tmp_path / "lists"
        file.write_text("name,class\nAda,8b\n")
        words = ["import-roster", str(file), "--data-dir", str(tmp_path / "data"), "--roster", f"file:{lists}"]
        assert cli.main(words) == 0
        assert (lists / "students.csv").exists()


@pytest.mark.parametrize("name", ["\u200b", "\u2060\ufeff", "\u3164", "\u2800\u0301", "\u00ad\ufe0f"])
def test_a_name_of_which_nothing_can_be_seen_is_refused(tmp_path: Path, name: str) -> None:
    outcome = run(tmp_path, f"name,class\nBo,8b\n{name},8b\n")
    assert outcome.problems == [
        "pupils.csv, line 3: This name has no visible characters. Write it with letters. Correct the row, or remove it."
    ]
    assert not (tmp_path / "roster").exists()


@pytest.mark.parametrize("name", ["Ada", "阿达", "עדה", "🙂", "7", "A\u200dB", "ẞ", "İ", "O\u2019Brien"])
def test_a_name_that_can_be_seen_is_taken(tmp_path: Path, name: str) -> None:
    assert run(tmp_path, f"name,class\n{name},8b\n").problems == []
