"""`export`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.test_replay import archive_with_gap
from tests.cli.world import ARCHIVE, DATA, CommandLine


class TestExport:
    def test_tables_of_the_data_folder_with_names(self, observer: CommandLine) -> None:
        out = observer.home / "out"
        assert observer("export", "--data-dir", DATA, "--out", out) == 0
        assert re.search(r"(?m)^.*out holds 34 events of 2 students:$", observer.out)
        assert re.search(r"(?m)^  writing-documents.csv +2 rows$", observer.out)
        assert ",Ada L.," in (out / "students.csv").read_text(encoding="utf-8")
        assert observer("export", "--data-dir", DATA, "--out", out) == 1
        assert "--force" in observer.err
        assert observer("export", "--data-dir", DATA, "--out", out, "--force") == 0
        assert "The earlier content is now in" in observer.out

    def test_the_key_is_in_a_file_of_its_own_and_links_exports(self, observer: CommandLine) -> None:
        key, data = observer.home / "keys" / "study.key", observer.home / "data"
        data.mkdir()
        words = ["export", ARCHIVE, "--data-dir", data, "--deidentify", "--format", "jsonl", "--out"]
        for out in ("one", "two"):
            assert observer(*words, observer.home / out, "--key", key) == 0
            assert f"The key is in {key}." in observer.out
        assert observer(*words, observer.home / "three") == 0
        [made] = (data / "keys").iterdir()
        assert f"The key is in {made}." in observer.out
        one, two, three = ((observer.home / out / "activity.jsonl").read_text() for out in ("one", "two", "three"))
        assert one == two != three
        assert not any(key.read_text().strip() in path.read_text() for path in (observer.home / "one").iterdir())

    def test_a_key_in_the_exported_folder_is_refused(self, observer: CommandLine) -> None:
        out = observer.home / "out"
        assert observer("export", ARCHIVE, "--out", out, "--deidentify", "--key", out / "a.key") == 2
        assert "would be in the exported folder" in observer.err
        assert not out.exists()

    @pytest.mark.parametrize("flag", ["--key", "--keep", "--names", "--free-text"])
    def test_flags_of_deidentify_alone_are_refused(self, observer: CommandLine, flag: str) -> None:
        assert observer("export", ARCHIVE, "--out", observer.home / "out", flag, "keep") == 2
        assert f"The flag {flag} needs --deidentify." in observer.err

    def test_chosen_students_are_not_named_if_ids_are_replaced(self, observer: CommandLine) -> None:
        words = ["export", ARCHIVE, "--student", "s-3pr2grcdvk", "--class", "class-1", "--from", "2026-01-01"]
        assert observer(*words, "--deidentify", "--events", "--out", observer.home / "out") == 0
        found = b"".join(path.read_bytes() for path in (observer.home / "out").iterdir())
        assert b"Only chosen students (1)." in found
        assert b"Only events from 2026-01-01 on." in found
        assert b"s-3pr2grcdvk" not in found
        assert b"class-1" not in found

    def test_figures_of_a_student_end_before_a_gap_and_rows_of_events_do_not(self, observer: CommandLine) -> None:
        archive, out = archive_with_gap(observer.home), observer.home / "out"
        words = ["export", archive, "--events", "--format", "jsonl", "--out", out]
        assert observer(*words) == 1
        figures = [json.loads(line) for line in (out / "activity.jsonl").read_text().splitlines()]
        assert {row["student_id"]: row["events"] for row in figures} == {"a": 2, "b": 3}
        assert len((out / "events.jsonl").read_text().splitlines()) == 7
        assert "The states of 1 student end before such a gap." in observer.err
        codebook = (out / "codebook.md").read_text()
        assert "The figures of 1 student end before the first missing event" in codebook
        assert observer(*words, "--force", "--accept-gap") == 0
        figures = [json.loads(line) for line in (out / "activity.jsonl").read_text().splitlines()]
        assert {row["student_id"]: row["events"] for row in figures} == {"a": 4, "b": 3}
        assert "end before the first" not in (out / "codebook.md").read_text()

    def test_nothing_archived_yet(self, observer: CommandLine) -> None:
        (observer.home / "data").mkdir()
        assert observer("export", "--data-dir", observer.home / "data", "--out", observer.home / "out") == 0
        assert "0 events of 0 students" in observer.out

    @pytest.mark.parametrize("archives", [[], [ARCHIVE]])
    def test_a_data_folder_that_does_not_exist_is_an_error(self, observer: CommandLine, archives: list[Path]) -> None:
        missing, out = observer.home / "none", observer.home / "out"
        assert observer("export", *archives, "--data-dir", missing, "--out", out) == 1
        assert observer.err == f"classroom-observer: There is no data folder at {missing}; check --data-dir.\n"
        assert not out.exists()

    def test_archives_need_no_data_folder(self, observer: CommandLine) -> None:
        assert observer("export", ARCHIVE, "--out", observer.home / "out") == 0
        assert "34 events of 2 students" in observer.out
