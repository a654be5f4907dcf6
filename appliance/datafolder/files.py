"""Writing files so that a power cut leaves the old content or the new, never half of each."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

WINDOWS_SECONDS = 1.0
PART = ".part"
"""Suffix of a large file that is being written beside the one that it replaces."""

# The names that `write_private` gives while it writes.
_TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}")


def write_private(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file, durably, whole or not at all, readable by its owner alone (mode 0600).

    Args:
        path: the file.
        content: its content, whole or in pieces.

    Raises:
        OSError: it cannot be written; the file is as it was.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines((content,) if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        replace(Path(name), path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def unfinished_name(path: Path) -> str | None:
    """The name that a file gets once it is written whole; None where it is no file that is being written."""
    if path.suffix == PART:
        return path.stem
    found = _TEMPORARY.fullmatch(path.name)
    return found[1] if found else None


def replace(source: Path, target: Path) -> None:
    """Rename a file; it replaces one that has the new name.

    Windows refuses that while another program has the file open that is replaced, as a virus scanner or a backup does
    for a moment; so it is tried again for up to `WINDOWS_SECONDS`.

    Raises:
        OSError: it cannot be done; both are as they were.
    """
    end = time.monotonic() + WINDOWS_SECONDS
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            if os.name != "nt" or time.monotonic() >= end:
                raise
        time.sleep(0.01)


def remove_if_unused(path: Path) -> bool:
    """Remove a file; returns whether it is gone. On Windows one that a program has open stays.

    Raises:
        OSError: it cannot be removed for another reason.
    """
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        if os.name != "nt":
            raise
        return False
    return True


def write_all(handle: int, content: bytes) -> None:
    """Write all of `content` to an open file; the system may take it in parts."""
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable; Windows does so by itself and has no call for it."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def last_line_end(file: IO[bytes], size: int) -> int:
    """The byte after the last line break, 0 where there is none."""
    end = size
    while end:
        start = max(0, end - 65536)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
