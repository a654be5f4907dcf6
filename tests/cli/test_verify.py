"""`verify`."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.cli.world import DATA, CommandLine


def test_a_line_for_each_finding_and_exit_code_0(observer: CommandLine) -> None:
    assert observer("verify", "--data-dir", DATA) == 0
    assert "ok  archive" in observer.out
    assert all(line.startswith("ok ") for line in observer.out.splitlines())


def test_a_data_folder_that_does_not_exist_is_an_error(observer: CommandLine) -> None:
    missing = observer.home / "none"
    assert observer("verify", "--data-dir", missing) == 1
    assert observer.out == ""
    assert observer.err == f"classroom-observer: There is no data folder at {missing}; check --data-dir.\n"
    assert not missing.exists()


def test_an_empty_journal_and_half_a_list_are_named(observer: CommandLine) -> None:
    data = Path(shutil.copytree(DATA, observer.home / "data"))
    (data / "roster" / "students.csv").write_text("name,class\nAda,7a\nBo,7a\n")
    assert observer("verify", "--data-dir", data) == 0, observer.out
    (data / "roster" / "students.csv").write_text("name,class\nAda,7a\nB")
    (data / "roster" / "roster.jsonl").write_bytes(b"")
    assert observer("verify", "--data-dir", data) == 1
    assert "bad students.csv: Its last row has fewer cells" in observer.out
    assert "bad roster.jsonl: It is empty" in observer.out


def test_archives_of_other_nodes_that_are_not_there_or_not_compared_are_refused(observer: CommandLine) -> None:
    none = observer.home / "none"
    for more in ([], ["--kvs", "redis://nowhere.invalid"]):
        assert observer("verify", "--data-dir", DATA, none, *more) == 1
        assert f"There is no archive file {none}." in observer.err
        assert observer.out == ""
    assert observer("verify", "--data-dir", DATA, DATA / "archive") == 2
    assert "compared with a store that nodes share, and kvs.url names none" in observer.err
