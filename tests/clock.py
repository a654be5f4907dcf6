"""A clock for one program, which can be changed while it runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def faketime() -> Path:
    """The library that changes the clock of one program."""
    places = [Path("/usr/lib"), Path("/usr/local/lib"), Path("/opt/homebrew/lib")]
    found = [path for place in places for path in place.glob("**/faketime/libfaketime.so.1")]
    if not found:
        message = "libfaketime is missing (Debian: faketime), which sets a program's clock"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found[0]


class Clock:
    """The clock of one program."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.offset = 0
        self.set_by(0)
        self.environment = {
            "LD_PRELOAD": str(faketime()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            # The monotonic clock is not changed.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set_by(self, seconds: int) -> None:
        """Set it on, or back."""
        self.offset += seconds
        new = self._file.with_suffix(".new")
        new.write_text(f"{self.offset:+d}s")
        new.replace(self._file)
