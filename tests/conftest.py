"""Every test runs in a small world of its own: no configuration and no data of the person who runs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.config import ENVIRONMENT_PREFIX


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("platformdirs.user_config_path", lambda name: home / "config" / name)
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: home / "data" / name)
    monkeypatch.setattr("platformdirs.user_log_path", lambda name: home / "log" / name)
    # For programs that a test starts.
    for variable, folder in (("XDG_CONFIG_HOME", "config"), ("XDG_DATA_HOME", "data"), ("XDG_STATE_HOME", "log")):
        monkeypatch.setenv(variable, str(Path(home) / folder))
