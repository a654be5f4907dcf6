"""The program with a deliberate fault, which the harness has to find.

The faults are made in the calls to the system, so they do not depend on how the program's modules are cut.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from appliance.archive import Archive
from appliance.roster import sqlite_file

_fsync = os.fsync
_replace = os.replace


@contextmanager
def no_sync() -> Iterator[None]:
    """Nothing is ever synced."""
    with mock.patch.object(os, "fsync", return_value=None):
        yield


@contextmanager
def no_file_sync() -> Iterator[None]:
    """Folders are synced, files are not."""

    def fsync(handle: int) -> None:
        if _is_folder(handle):
            _fsync(handle)

    with mock.patch.object(os, "fsync", fsync):
        yield


@contextmanager
def no_folder_sync() -> Iterator[None]:
    """Files are synced, folders are not."""

    def fsync(handle: int) -> None:
        if not _is_folder(handle):
            _fsync(handle)

    with mock.patch.object(os, "fsync", fsync):
        yield


@contextmanager
def rename_before_sync() -> Iterator[None]:
    """A file that is written beside another takes its place first, and is synced then."""

    def fsync(handle: int) -> None:
        name = Path(f"/proc/self/fd/{handle}").readlink().name
        if not name.startswith(".") and not name.endswith(".part"):
            _fsync(handle)

    def replace(source: Any, target: Any, **named: Any) -> None:
        _replace(source, target, **named)
        handle = os.open(target, os.O_RDONLY)
        try:
            _fsync(handle)
        finally:
            os.close(handle)

    with mock.patch.object(os, "fsync", fsync), mock.patch.object(os, "replace", replace):
        yield


@contextmanager
def acknowledged_before_sync() -> Iterator[None]:
    """A commit ends when its lines are written; they are synced with the next."""
    right = Archive.sync
    waiting: list[int] = []

    async def sync(self: Archive) -> None:
        for handle in waiting:
            _fsync(handle)
            os.close(handle)
        waiting.clear()
        with mock.patch.object(os, "fsync", lambda handle: waiting.append(os.dup(handle))):
            await right(self)

    with mock.patch.object(Archive, "sync", sync):
        try:
            yield
        finally:
            for handle in waiting:
                os.close(handle)


@contextmanager
def roster_not_synced() -> Iterator[None]:
    """SQLite answers before a commit is on the disk."""
    pragmas = tuple(one for one in sqlite_file.PRAGMAS if "synchronous" not in one)
    with mock.patch.object(sqlite_file, "PRAGMAS", (*pragmas, "PRAGMA synchronous=OFF")):
        yield


WRONG_BUILDS: dict[str, Callable[[], Any]] = {
    "no-sync": no_sync,
    "no-file-sync": no_file_sync,
    "no-folder-sync": no_folder_sync,
    "rename-before-sync": rename_before_sync,
    "acknowledged-before-sync": acknowledged_before_sync,
    "roster-not-synced": roster_not_synced,
}


@contextmanager
def built_wrong(name: str) -> Iterator[None]:
    """Build the program with one of the faults, for a time."""
    with WRONG_BUILDS[name]():
        yield


def _is_folder(handle: int) -> bool:
    return stat.S_ISDIR(os.fstat(handle).st_mode)
