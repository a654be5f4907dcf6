"""`backup`."""

from __future__ import annotations

from tests.cli.world import DATA, CommandLine


class TestBackup:
    def test_it_says_what_is_not_in_it(self, observer: CommandLine) -> None:
        words = ["backup", "--data-dir", DATA, "--out", observer.home / "b.tar"]
        assert observer(*words) == 0
        assert "Not in it" not in observer.out
        config = observer.home / "c.toml"
        config.write_text('[kvs]\nurl = "redis://:hush@h"\n[roster]\nurl = "file:/elsewhere"\n')
        assert observer(*words, "--force", "--config", config) == 0
        assert "Not in it: the roster, which is not in the data folder (file:/elsewhere)" in observer.out
        assert "Not in it: the key-value store, which is not in the data folder (redis://:***@h)" in observer.out
