"""The commands ``import-roster`` and ``export-roster``."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

import pytest

from appliance.roster.place import RosterPlace
from appliance.roster.sqlite import SqliteStore
from appliance.roster.tables import STUDENTS
from tests.cli.world import DATA, CommandLine
from tests.roster.list_fixtures import ADA, FOLDER, fixtures
from tests.roster.test_import_oneroster import FIRST
from tests.web.world import world


@pytest.fixture
def data(observer: CommandLine) -> Path:
    return observer.home / "data"


def listed(data: Path) -> list[tuple[str, str]]:
    """Name and class of all students of lists."""

    async def read() -> list[tuple[str, str]]:
        store = SqliteStore(RosterPlace.within(data / "roster").file or data)
        rows = [row async for row in store.scan(STUDENTS) if row.listed and row.present]
        await store.close()
        return sorted((row.name, row.class_id) for row in rows)

    return asyncio.run(read())


def test_a_dry_run_then_the_import_and_the_same_again(observer: CommandLine, data: Path) -> None:
    file = observer.home / "pupils.csv"
    file.write_text("id,name,class\n1,Ada,7a\n2,Bo,7a\n")
    assert observer("import-roster", file, "--data-dir", data, "--dry-run") == 0
    assert "pupils.csv, line 2: added Ada (7a)\n" in observer.out
    assert "Would be done: 1 new class, 2 added. Unchanged: 0. Kept without a row: 0.\n" in observer.out
    assert "Nothing was changed: this was a dry run." in observer.out
    assert observer("import", file, "--data-dir", data) == 0
    assert "Done: 1 new class, 2 added." in observer.out
    assert listed(data) == [("Ada", "7a"), ("Bo", "7a")]
    assert observer("import-roster", file, "--data-dir", data) == 0
    assert "Done: nothing. Unchanged: 2." in observer.out


def test_each_row_that_is_refused_changed_or_left_has_its_line_and_reason(observer: CommandLine, data: Path) -> None:
    file = observer.home / "pupils.csv"
    file.write_text("id,name,class\n1,Ada,7a\n2,Bo,7a\n")
    assert observer("import-roster", file, "--data-dir", data) == 0
    file.write_text("id,name,class\n1,Ada L.,7b\n1.2E+5,Cy,7a\n4,,7a\n5,Dee, Dum,7a\n6,Fay,7a\n")
    assert observer("import-roster", file, "--data-dir", data, "--dry-run") == 1
    for line in (
        "pupils.csv, line 2: moved Ada L. (7b) before: 7a\n",
        "pupils.csv, line 3: refused: A spreadsheet has shortened the id to 1.2E+5.",
        "pupils.csv, line 4: refused: Write a name first.",
        "pupils.csv, line 5: refused: The row has 4 fields, and there are 3 columns.",
        "pupils.csv: left Bo (7a): The list does not have the student, who stays.\n",
        "3 rows are refused. Import the others?\n",
    ):
        assert line in observer.out
    assert observer("import-roster", file, "--data-dir", data) == 1
    assert "Nothing was changed. If that is right, add --yes." in observer.out
    assert listed(data) == [("Ada", "7a"), ("Bo", "7a")]
    assert observer("import-roster", file, "--data-dir", data, "--skip-bad") == 0
    assert listed(data) == [("Ada L.", "7b"), ("Bo", "7a"), ("Fay", "7a")]


def test_encoding_columns_class_and_replace(observer: CommandLine, data: Path) -> None:
    file = observer.home / "pupils.csv"
    file.write_bytes("wer;wie\nŻak;Łukasz\n".encode("cp1250"))
    where = ("--data-dir", data)
    assert observer("import-roster", file, *where) == 1
    assert "--columns" in observer.out
    columns = ("--columns", "family=wer,given=wie", "--class", "7a")
    assert observer("import-roster", file, *where, *columns) == 1
    assert "The encoding seems to be cp1250" in observer.out
    assert "    Żak;Łukasz\n" in observer.out
    assert observer("import-roster", file, *where, *columns, "--encoding", "windows-1250") == 0
    assert listed(data) == [("Łukasz Żak", "7a")]
    file.write_text("name,class\nAda,7a\n")
    assert observer("import-roster", file, *where, "--replace", "--class", "7b", "--yes") == 0
    assert listed(data) == [("Łukasz Żak", "7a")]
    assert observer("import-roster", file, *where, "--replace") == 0
    assert listed(data) == [("Ada", "7a")]
    assert observer("import-roster", file, *where, "--columns", "given") == 2
    assert "write MEANING=HEADING" in observer.err


def test_a_list_of_many_forms_and_what_is_no_list(observer: CommandLine, data: Path) -> None:
    (observer.home / "export.zip").write_bytes(FIRST)
    assert observer("import-roster", observer.home / "export.zip", "--data-dir", data) == 0
    assert len(listed(data)) == 3
    (observer.home / "bad.zip").write_bytes(FIRST[:100])
    for name in ("bad.zip", "none.csv"):
        assert observer("import-roster", observer.home / name, "--data-dir", data) == 1
        assert "Traceback" not in observer.err
        assert name in observer.err
    assert observer("import-roster", "--data-dir", data) == 2


def test_an_export_in_the_form_of_a_list(observer: CommandLine, data: Path) -> None:
    where = ("--data-dir", data)
    for fixture in fixtures()[:2]:
        assert observer("import-roster", FOLDER / fixture.name, *where, "--yes") == 0
    out = observer.home / "out.csv"
    assert observer("export-roster", out, *where, "--like", fixtures()[1].name) == 0
    assert "3 students; its encoding is cp1252" in observer.out
    assert out.read_bytes() == fixtures()[1].content
    assert observer("export-roster", out, *where, "--class", "7b") == 0
    assert out.read_text("utf-8-sig").splitlines() == ["student id,name,class", f"010,{ADA[2][0]},7b"]
    assert observer("export-roster", observer.home / "out.zip", *where, "--oneroster", "1.2") == 0
    assert observer("check-roster", observer.home / "out.zip") == 0
    assert observer("export-roster", out, *where, "--class", "9z") == 2
    assert observer("export-roster", out, *where, "--like", "none.csv") == 2
    assert "Lists are" in observer.err


def test_what_a_watched_list_asks_is_answered(observer: CommandLine, data: Path) -> None:
    where = ("--data-dir", data)
    (data / "roster").mkdir(parents=True)
    watched = data / "roster" / "students.csv"
    watched.write_text("id,name,class\n" + "".join(f"{n},Student {n},7a\n" for n in range(10)))
    assert observer("import-roster", "--answer", "yes", *where) == 0
    assert "ask nothing" in observer.out
    assert len(listed(data)) == 10
    watched.write_text("id,name,class\n0,Student 0,7a\n")
    assert observer("import-roster", "--answer", "no", *where) == 0
    assert "students.csv was left as it is." in observer.out
    watched.write_text("id,name,class\n0,Student 0,7a\n\n")
    assert observer("import-roster", "--answer", "yes", "students.csv", *where) == 0
    assert "9 taken out" in observer.out
    assert "students.csv: taken out Student 1 (7a): The list does not have the student.\n" in observer.out
    assert listed(data) == [("Student 0", "7a")]


async def test_an_import_beside_the_running_program(
    observer: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.roster.watch.CHECK_SECONDS", 0)
    file = observer.home / "pupils.csv"
    file.write_text("id,name,class\n1,Ada,7a\n")
    async with world(tmp_path) as app:
        assert await app.get("/api/v1/students") == []
        codes: list[int] = []
        command = ("import-roster", file, "--data-dir", tmp_path / "data")
        # The command has an event loop of its own.
        thread = threading.Thread(target=lambda: codes.append(observer(*command)))
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.01)
        assert codes == [0], observer.err
        while [student["name"] for student in await app.get("/api/v1/students")] != ["Ada"]:
            pass


def test_a_roster_that_nodes_share_is_imported_on_a_page(observer: CommandLine, data: Path) -> None:
    file = observer.home / "pupils.csv"
    file.write_text("name\nAda\n")
    assert observer("import-roster", file, "--data-dir", data, "--roster", "shared:") == 2
    assert "the page /roster of a running node" in observer.err.replace("\n", " ")


def test_a_data_folder_of_an_earlier_version_is_upgraded_first(observer: CommandLine, data: Path) -> None:
    shutil.copytree(DATA, data)
    file = observer.home / "pupils.csv"
    file.write_text("name,class\nAda,7a\n")
    assert observer("import-roster", file, "--data-dir", data) == 0
    assert listed(data) == [("Ada", "7a")]
    assert list((data / "backups").iterdir())
