"""A progress bar on the terminal; nothing where the output goes to a file or another program."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_WIDTH = 30
_INTERVAL_SECONDS = 0.1


class Progress:
    """Draws one bar, and removes it at the end."""

    def __init__(self, what: str, stream: TextIO | None = None) -> None:
        """Args:
        what: what is being done, such as "Reading the archive".
        stream: where the bar is drawn; by default stderr.
        """
        self._what = what
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream is not None and self._stream.isatty()
        self._began = time.monotonic()
        self._drawn = 0.0
        self._length = 0

    def __call__(self, share: float) -> None:
        """Show which share is done, from 0 to 1."""
        now = time.monotonic()
        if not self._shown or (now - self._drawn < _INTERVAL_SECONDS and share < 1):
            return
        self._drawn = now
        passed = now - self._began
        filled = round(_WIDTH * share)
        text = f"{self._what} [{'#' * filled}{'.' * (_WIDTH - filled)}] {share:4.0%}"
        if share > 0.02 and passed > 2:
            text += f", {_minutes(passed * (1 - share) / share)} left"
        self._draw(text)

    def close(self) -> None:
        """Remove the bar."""
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
