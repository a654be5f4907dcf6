"""A line on the terminal that says how far a command is; nothing where output goes to a file or another program."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_WIDTH = 30
_EVERY_SECONDS = 0.1


class Progress:
    """Draws one bar, and takes it away at the end."""

    def __init__(self, what: str, stream: TextIO | None = None) -> None:
        """Args:
        what: what is being done, such as "Reading the archive".
        stream: where to; by default what the program writes errors to.
        """
        self._what = what
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream is not None and self._stream.isatty()
        self._began = time.monotonic()
        self._told = 0.0
        self._length = 0

    def __call__(self, share: float) -> None:
        """Say how much is done, from 0 to 1."""
        now = time.monotonic()
        if not self._shown or (now - self._told < _EVERY_SECONDS and share < 1):
            return
        self._told = now
        passed = now - self._began
        full = round(_WIDTH * share)
        text = f"{self._what} [{'#' * full}{'.' * (_WIDTH - full)}] {share:4.0%}"
        if share > 0.02 and passed > 2:
            text += f", {_minutes(passed * (1 - share) / share)} left"
        self._draw(text)

    def close(self) -> None:
        """Take the bar away."""
        if self._shown and self._length:
            self._draw("")
            self._stream.write("\r")
            self._stream.flush()

    def _draw(self, text: str) -> None:
        self._stream.write(f"\r{text.ljust(self._length)}")
        self._stream.flush()
        self._length = len(text)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
