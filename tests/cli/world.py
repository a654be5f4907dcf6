"""The command line in this process, and an archive to run it on."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import cli

DATA = Path(__file__).parents[1] / "fixtures" / "data-2"
"""A data folder with 34 events of two students."""
ARCHIVE = DATA / "archive"


class CommandLine:
    """Runs commands in this process.

    Attributes:
        home: a folder for the files of a test.
        out, err: what the last command printed.
    """

    def __init__(self, capsys: pytest.CaptureFixture[str], home: Path) -> None:
        self._capsys = capsys
        self.home = home
        self.out = self.err = ""

    def __call__(self, *words: str | Path) -> int:
        """Run a command; returns its exit code."""
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
        self.out, self.err = self._capsys.readouterr()
        return code
