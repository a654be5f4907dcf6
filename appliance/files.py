"""Writing files so that a power cut leaves the old content or the new, never half of each."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO


def write_private(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, readable by its owner alone (mode 0600).

    Raises:
        OSError: it cannot be written; the file is as it was.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_all(handle: int, content: bytes) -> None:
    """Write all of `content` to an open file; the system may take it in parts."""
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable; Windows does so by itself and cannot be told to."""
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
