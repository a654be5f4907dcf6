"""`migrate`; what it moves is tested in tests/maintenance."""

from __future__ import annotations

from tests.cli.world import CommandLine


def test_a_data_folder_that_does_not_exist_cannot_be_copied_from(observer: CommandLine) -> None:
    missing = observer.home / "none"
    assert observer("migrate", "--data-dir", missing, "--to", "redis://127.0.0.1:1") == 1
    assert f"There is no data folder at {missing}" in observer.err
    assert not missing.exists()
