"""`erase-student`."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest

from tests.cli.world import DATA, CommandLine


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
