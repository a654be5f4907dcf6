"""Disks that refuse, as file systems without this or that do."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from appliance.datafolder.disk import Disk


class RefusingDisk(Disk):
    """A disk that refuses some calls.

    Attributes:
        refused: the error for each call that is refused, by its name.
        calls: the names of all calls, in order.
    """

    def __init__(self, **refused: int) -> None:
        self.refused = refused
        self.calls: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or name in ("refused", "calls", "_refuse"):
            return found
        self.calls.append(name)
        if name in self.refused:
            number = self.refused[name]

            def refuse(*given: object) -> None:
                raise OSError(number, os.strerror(number))

            return refuse
        return found


class HastyDisk(Disk):
    """A disk that syncs nothing, for tests that write very often."""

    def fsync(self, handle: int) -> None:
        pass


class ModelessDisk(Disk):
    """A disk without modes, as FAT: every file is open to everybody, and chmod is refused or ignored."""

    def __init__(self, *, refuses: bool) -> None:
        self._refuses = refuses

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        before = os.umask(0)
        try:
            return super().open(path, flags, 0o755)
        finally:
            os.umask(before)

    def chmod(self, path: Path, mode: int) -> None:
        if self._refuses:
            raise OSError(errno.EPERM, "Operation not permitted")
