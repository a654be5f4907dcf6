"""The meaning of settings that are empty or relative."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import config
from appliance.config import Settings, load


class TestMeaning:
    def test_empty_folders_are_the_users_own(self) -> None:
        settings = Settings()
        assert settings.data_path.name == "classroom-observer"
        assert settings.log_path != settings.data_path
        assert settings.reducers_path == config.default_config_file().parent / "reducers"
        assert settings.roster_url == f"sqlite:{settings.data_path / 'roster' / 'roster.sqlite'}"

    def test_folders_and_roster_follow_what_is_set(self, tmp_path: Path) -> None:
        settings = load(None, {}, {"data_dir": str(tmp_path), "log_dir": "~/logs", "reducers.folder": "mine"})
        assert settings.data_path == tmp_path
        assert settings.log_path == Path.home() / "logs"
        assert settings.reducers_path == Path("mine")
        assert settings.roster_url == f"sqlite:{tmp_path / 'roster' / 'roster.sqlite'}"
        assert load(None, {}, {"roster.url": "sqlite:x.db"}).roster_url == "sqlite:x.db"

    @pytest.mark.parametrize(
        ("host", "name"), [("lab-3.school.example", "lab-3"), ("Raum 5 (Süd)", "Raum-5-S-d"), ("", "node")]
    )
    def test_the_node_is_named_after_the_host(self, host: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("socket.gethostname", lambda: host)
        assert Settings().node_name == name
        assert load(None, {}, {"node": "west.1"}).node_name == "west.1"
