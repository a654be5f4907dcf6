"""`run`: which settings apply, and the exit code if it cannot run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.config import Settings
from appliance.errors import PortInUseError
from tests.cli.world import CommandLine


class TestRun:
    @pytest.fixture
    def started(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Settings, Path | None]]:
        calls: list[tuple[Settings, Path | None]] = []

        def run(settings: Settings, ready_file: Path | None, *_: object) -> int:
            calls.append((settings, ready_file))
            return 0

        monkeypatch.setattr("appliance.program.process.run", run)
        return calls

    def test_no_command_runs_the_appliance(self, observer: CommandLine, started: list[Any]) -> None:
        assert observer() == 0
        assert started == [(Settings(), None)]

    @pytest.mark.parametrize("command", [[], ["run"]])
    def test_every_flag_sets_its_option(self, observer: CommandLine, started: list[Any], command: list[str]) -> None:
        flags = "--host 127.0.0.1 --port 0 --data-dir d --no-tray --no-browser --kvs redis://k --pubsub redis://p "
        flags += "--roster sqlite:r --node n --ready-file ready.json --accept-gap"
        assert observer(*command, *flags.split()) == 0
        [(settings, ready_file)] = started
        assert (settings.web.host, settings.web.port, settings.data_dir) == ("127.0.0.1", 0, "d")
        assert (settings.kvs.url, settings.pubsub.url, settings.roster.url) == ("redis://k", "redis://p", "sqlite:r")
        assert (settings.desktop.tray, settings.desktop.browser, settings.node) == (False, False, "n")
        assert settings.archive.accept_gaps
        assert ready_file == Path("ready.json")

    def test_the_file_and_the_environment_count(
        self, observer: CommandLine, started: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = observer.home / "c.toml"
        file.write_text("[web]\nport = 1\n[desktop]\nbrowser = false\n")
        monkeypatch.setenv("CLASSROOM_OBSERVER_WEB__PORT", "2")
        assert observer("--config", file) == 0
        assert (started[0][0].web.port, started[0][0].desktop.browser) == (2, False)

    def test_a_wrong_setting_is_one_line_and_exit_code_2(self, observer: CommandLine, started: list[Any]) -> None:
        assert observer("--port", "http") == 2
        assert observer.err == (
            'classroom-observer: The flag --port must be a whole number, 0 to 65535; found "http".\n'
        )
        assert started == []

    def test_an_error_of_ours_is_one_line_and_its_exit_code(
        self, observer: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run(settings: Settings, ready_file: Path | None, *_: object) -> int:
            raise PortInUseError("Port 8000 is in use by another program.")

        monkeypatch.setattr("appliance.program.process.run", run)
        assert observer("run") == 3
        assert observer.err == "classroom-observer: Port 8000 is in use by another program.\n"

    def test_a_person_who_interrupts_sees_no_traceback(
        self, observer: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run(settings: Settings, ready_file: Path | None, *_: object) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr("appliance.program.process.run", run)
        assert observer("run") == 130
        assert observer.err == ""

    def test_a_flag_is_never_guessed_from_its_beginning(self, observer: CommandLine, started: list[Any]) -> None:
        assert observer("--po", "1") == 2
        assert started == []
