"""`verify`."""

from __future__ import annotations

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
