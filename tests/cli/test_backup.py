"""`backup` and `restore`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from appliance.datafolder import DataFolder
from tests.cli.world import DATA, CommandLine


class TestBackup:
    def test_it_says_what_is_not_in_it(self, observer: CommandLine) -> None:
        words = ["backup", "--data-dir", DATA, "--out", observer.home / "b.tar"]
        assert observer(*words) == 0
        assert "Not in it" not in observer.out
        config = observer.home / "c.toml"
        config.write_text('[kvs]\nurl = "redis://:hush@h"\n[roster]\nurl = "file:/elsewhere"\n')
        assert observer(*words, "--force", "--config", config) == 0
        assert "Not in it: the folder of class lists, which is not in the data folder (/elsewhere)" in observer.out
        assert "Not in it: the key-value store, which is not in the data folder (redis://:***@h)" in observer.out

    def test_it_says_where_the_file_is_and_keeps_it_from_others(
        self, observer: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(observer.home)
        assert observer("backup", "--data-dir", DATA) == 0
        [made] = observer.home.glob("*.tar")
        assert str(made) in observer.out
        assert os.name != "posix" or made.stat().st_mode & 0o077 == 0

    def test_a_folder_that_is_not_there_is_named(self, observer: CommandLine) -> None:
        assert observer("backup", "--data-dir", DATA, "--out", observer.home / "none" / "b.tar") == 1
        assert f"There is no folder {observer.home / 'none'};" in observer.err
        assert ".b.tar" not in observer.err


class TestRestore:
    def test_a_backup_that_is_not_there_is_named_first(self, observer: CommandLine) -> None:
        assert observer("restore", observer.home / "none.tar", "--data-dir", DATA) == 1
        assert f"There is no backup {observer.home / 'none.tar'}." in observer.err
        assert observer("restore", observer.home / "none.tar", "--data-dir", observer.home / "new") == 1
        assert not (observer.home / "new").exists()

    def test_earlier_content_is_moved_aside_and_named(self, observer: CommandLine) -> None:
        data = Path(shutil.copytree(DATA, observer.home / "data"))
        assert observer("backup", "--data-dir", data, "--out", observer.home / "b.tar") == 0
        assert observer("restore", observer.home / "b.tar", "--data-dir", data) == 1
        assert "--force" in observer.err
        assert observer("restore", observer.home / "b.tar", "--data-dir", data, "--force") == 0
        [aside] = observer.home.glob("data-before-*")
        assert str(aside) in observer.out

    def test_a_running_appliance_is_named_with_what_to_do(self, observer: CommandLine) -> None:
        data = Path(shutil.copytree(DATA, observer.home / "data"))
        assert observer("backup", "--data-dir", data, "--out", observer.home / "b.tar") == 0
        with DataFolder(data):
            assert observer("restore", observer.home / "b.tar", "--data-dir", data, "--force") == 2
        assert f"(process {os.getpid()})" in observer.err
        assert "End it first" in observer.err

    def test_a_command_on_a_folder_whose_restore_was_cut_short_finishes_it(self, observer: CommandLine) -> None:
        data = observer.home / "data"
        shutil.copytree(DATA, data / ".exchange-in-20261130-101500")
        assert observer("verify", "--data-dir", data) == 0, observer.out
        assert (data / "archive").is_dir()
