"""The program as a whole: how it is started, which modules it loads, and its help."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from appliance import __version__, cli
from tests.cli.world import CommandLine

ROOT = Path(__file__).parents[2]


class TestHelp:
    def test_an_unknown_command_names_those_there_are(self, observer: CommandLine) -> None:
        assert observer("rnu") == 2
        assert "'rnu'" in observer.err
        assert "replay" in observer.err

    def test_help_lists_every_command(self, observer: CommandLine) -> None:
        assert observer("--help") == 0
        for command in cli.command_line().by_name:
            assert re.search(rf"(?m)^ +{command.split()[0]}( |$)", observer.out)
        assert observer("archive", "--help") == 0
        assert re.search(r"(?m)^ +move +move", observer.out)
        assert re.search(r"(?m)^ +bring-back$", observer.out)


class TestProgram:
    """The program as it is started, in a process of its own."""

    @pytest.mark.parametrize("start", [[str(ROOT / "run.py")], ["-m", "appliance"]])
    def test_run_py_and_the_module_are_the_same_program(self, start: list[str]) -> None:
        done = subprocess.run([sys.executable, *start, "version"], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == f"classroom-observer {__version__}\n"

    def test_a_command_loads_only_what_it_needs(self) -> None:
        code = "import sys, appliance.cli; appliance.cli.main(['config', '--example']); print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        modules = set(done.stdout.splitlines()[-1].split())
        assert "appliance.config" in modules
        assert not modules & {"aiohttp", "asyncio", "PIL", "importlib.metadata", "appliance.plugins", "appliance.web"}

    def test_a_reader_that_has_seen_enough_sees_no_traceback(self) -> None:
        with subprocess.Popen(
            [sys.executable, "-m", "appliance", "config", "--example"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as program:  # fmt: skip
            assert program.stdout is not None
            assert program.stderr is not None
            program.stdout.close()
            assert program.stderr.read() == ""
