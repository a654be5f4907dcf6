"""`erase-student`."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from pathlib import Path

import pytest

from appliance.datafolder import DataFolder
from tests.cli.world import DATA, CommandLine

STUDENT = "s-3pr2grcdvk"


class TestEraseStudent:
    @pytest.fixture
    def data(self, observer: CommandLine) -> Path:
        return Path(shutil.copytree(DATA, observer.home / "data"))

    def test_by_name(self, observer: CommandLine, data: Path) -> None:
        aside = data.with_name("data-before-20260101-000000")
        aside.mkdir()
        assert observer("erase-student", "--data-dir", data, "--name", "ada l.", "--yes") == 0
        assert "Erased: 24 lines of the archive" in observer.out
        assert "Not reached: backups and exports elsewhere" in observer.out
        assert f"Not reached: {aside}" in observer.out
        assert observer("verify", "--data-dir", data) == 0

    def test_a_student_who_cannot_be_found_is_an_error(self, observer: CommandLine, data: Path) -> None:
        assert observer("erase-student", "--data-dir", data, "--name", "Nobody") == 1
        assert "has no student of that name" in observer.err
        assert observer("erase-student", "--data-dir", data, "s-nobody", "--yes") == 1
        assert "no trace" in observer.err
        assert observer("erase-student", "--data-dir", data) == 2
        assert "Name one student" in observer.err
        assert observer("erase-student", "--data-dir", observer.home / "none", "s-nobody") == 1
        assert "There is no data folder at" in observer.err

    def test_who_is_no_longer_in_the_roster_is_found_by_an_export(self, observer: CommandLine, data: Path) -> None:
        shutil.rmtree(data / "roster")
        assert observer("erase-student", "--data-dir", data, "--name", "Ada L.") == 1
        assert "The table 'students' of an 'export' has the id" in observer.err
        assert observer("export", "--data-dir", data, "--out", observer.home / "e") == 0, observer.err
        assert f"\n{STUDENT},,class-1," in (observer.home / "e" / "students.csv").read_text(encoding="utf-8")
        assert observer("erase-student", "--data-dir", data, STUDENT, "--yes") == 0, observer.err

    def test_without_a_terminal_it_needs_a_flag(self, observer: CommandLine, data: Path) -> None:
        assert observer("erase-student", "--data-dir", data, "s-3pr2grcdvk") == 2
        assert "confirm it with --yes" in observer.err
        assert observer("replay", data, "--out", observer.home / "all.json") == 0
        assert "s-3pr2grcdvk" in (observer.home / "all.json").read_text()

    def test_two_of_one_name_are_listed_with_their_ids(self, observer: CommandLine, data: Path) -> None:
        (data / "roster" / "students.csv").write_text("name,class,id\nAda L.,8b,l-1\n")
        assert observer("erase-student", "--data-dir", data, "--name", "Ada L.") == 1
        assert "l-1 (class 8b)" in observer.err
        assert "s-3pr2grcdvk (class class-1)" in observer.err

    def test_a_person_at_a_terminal_is_asked(
        self, observer: CommandLine, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        terminal = io.StringIO("no\n")
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr("sys.stdin", terminal)
        assert observer("erase-student", "--data-dir", data, "s-3pr2grcdvk") == 1
        assert "Nothing was erased." in observer.out
        assert observer("verify", "--data-dir", data) == 0

    def test_a_receipt_says_what_was_removed_and_names_nobody(self, observer: CommandLine, data: Path) -> None:
        file = observer.home / "receipt.json"
        shutil.copytree(data, data / "workers" / "1")
        shutil.copytree(data, data / "before-20261130-101500")
        assert observer("backup", "--data-dir", data, "--out", observer.home / "b.tar") == 0
        (data / "backups").mkdir(exist_ok=True)
        (observer.home / "b.tar").rename(data / "backups" / "b.tar")
        (data / "note.txt").write_text(f"about {STUDENT}")
        words = ["erase-student", STUDENT, "--yes", "--data-dir", data, "--receipt", file]
        assert observer(*words) == 0, observer.err
        receipt = json.loads(file.read_bytes())
        assert f"The receipt {receipt['receipt']} is in {file}" in observer.out
        assert receipt["receipt"] in (data / "erased.jsonl").read_text()
        removed = {place["where"]: (place["count"], place["what"]) for place in receipt["removed"]}
        segment = next((data / "archive").glob("events-*.gz"))
        for where in ("", "workers/1/", "before-20261130-101500/", "backups/b.tar: ", "backups/b.tar: workers/1/"):
            assert removed[f"{where}archive/{segment.name}"] == (24, "lines"), (where, sorted(removed))
            assert any(name.startswith(f"{where}roster/roster.jsonl") for name in removed), where
        assert receipt["found"] == [{"file": "note.txt", "kinds": ["id"]}]
        searched = {place["place"]: place for place in receipt["searched"]}
        assert searched["archive"]["found"] == {"id": 0, "stream": 0, "name": 0}
        assert searched["archive"]["files"] >= 3
        assert searched["backups"]["bytes"] > (data / "backups" / "b.tar").stat().st_size, "it was unpacked"
        assert searched["other files"]["found"]["id"] == 1
        assert receipt["searched_for"]["stream"] > 0
        text = file.read_text()
        assert not [
            secret for secret in (STUDENT, "Ada", hashlib.sha256(STUDENT.encode()).hexdigest()) if secret in text
        ]
        assert os.name != "posix" or file.stat().st_mode & 0o077 == 0

    def test_a_receipt_that_cannot_be_written_is_named_before_anything_is_erased(
        self, observer: CommandLine, data: Path
    ) -> None:
        there = observer.home / "there.json"
        there.touch()
        for file, said in (
            (there, "already exists"),
            (observer.home / "none" / "r.json", "There is no folder"),
            (data / "r.json", "apart from the data folder"),
        ):
            assert observer("erase-student", STUDENT, "--yes", "--data-dir", data, "--receipt", file) == 1
            assert said in observer.err
        assert observer("erase-student", STUDENT, "--yes", "--data-dir", data) == 0

    def test_a_worker_that_runs_is_named(self, observer: CommandLine, data: Path) -> None:
        shutil.copytree(data, data / "workers" / "1")
        with DataFolder(data / "workers" / "1"):
            assert observer("erase-student", STUDENT, "--yes", "--data-dir", data) == 2
        assert str(data / "workers" / "1") in observer.err
        assert f"(process {os.getpid()})" in observer.err

    def test_files_of_macos_are_passed_over(self, observer: CommandLine, data: Path) -> None:
        for path in [path for path in data.rglob("*") if path.is_file()]:
            path.with_name(f"._{path.name}").write_bytes(b"\0\x05\x16\x07\0\x02\0\0Mac OS X")
        (data / "backups").mkdir()
        (data / "backups" / "._b.tar").write_bytes(b"\0\x05\x16\x07")
        assert observer("erase-student", STUDENT, "--yes", "--data-dir", data) == 0, observer.err
        assert "could not be searched" not in observer.out
        assert observer("verify", "--data-dir", data) == 0, observer.out
