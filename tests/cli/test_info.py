"""`version`, `config` and `reducers`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from appliance import __version__
from tests.cli.world import CommandLine


class TestVersionAndConfig:
    @pytest.mark.parametrize("words", ["version", "--version"])
    def test_the_version(self, observer: CommandLine, words: str) -> None:
        assert observer(words) == 0
        assert observer.out == f"classroom-observer {__version__}\n"

    def test_config_prints_what_holds_and_where_it_came_from(
        self, observer: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CLASSROOM_OBSERVER_KVS__URL", "redis://:hush@h")
        assert observer("config", "--port", "81") == 0
        assert tomllib.loads(observer.out)["web"]["port"] == 81
        assert re.search(r"(?m)^port = 81 +# --port$", observer.out)
        assert re.search(r'(?m)^url = "redis://:\*\*\*@h" +# CLASSROOM_OBSERVER_KVS__URL$', observer.out)
        assert re.search(r'(?m)^host = "0.0.0.0" +# default$', observer.out)
        assert "hush" not in observer.out

    def test_config_example_is_a_file_to_start_from(self, observer: CommandLine) -> None:
        assert observer("config", "--example") == 0
        file = observer.home / "config.toml"
        file.write_text(observer.out.replace("#port = 8000", "port = 8001"), encoding="utf-8")
        assert observer("config", "--config", file) == 0
        assert "port = 8001" in observer.out


REDUCER = """
from appliance.reducer import DOCUMENT, STUDENT, Reducer, State
class Mine(Reducer):
    name = "mine"
    version = 3
    State = State
    scopes = (STUDENT, DOCUMENT)
    def reduce(self, state, event): return state
    def summarize(self, state): return {}
"""


class TestReducers:
    @pytest.fixture
    def folder(self, observer: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = observer.home / "plug-ins"
        folder.mkdir()
        monkeypatch.setenv("CLASSROOM_OBSERVER_REDUCERS__FOLDER", str(folder))
        return folder

    def test_each_is_listed_with_its_origin(self, observer: CommandLine, folder: Path) -> None:
        (folder / "mine.py").write_text(REDUCER)
        assert observer("reducers") == 0
        assert re.search(r"(?m)^NAME +VERSION +SCOPES +ORIGIN$", observer.out)
        assert re.search(r"(?m)^mine +3 +student, student\+document +folder: mine.py$", observer.out)

    def test_problems_are_listed_and_make_exit_code_1(self, observer: CommandLine, folder: Path) -> None:
        (folder / "broken.py").write_text("1 / 0")
        assert observer("reducers") == 1
        assert "problem: plug-in broken, folder: broken.py: It cannot be imported: ZeroDivisionError" in observer.out
        assert observer.err == ""
