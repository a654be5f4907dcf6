"""Compression of a closed segment into a gzip file (RFC 1952)."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

from appliance.archive.segments import compressed
from appliance.datafolder.files import PART, remove_if_unused, replace, sync_folder

# Lines of JSON shrink to 6 % at this level and to 4.5 % at the highest, which takes seven times as long: longer than
# everything else that is done with an event.
_LEVEL = 3
_PIECE_BYTES = 1 << 20


def compress(path: Path, stop: Callable[[], bool]) -> None:
    """Replace a segment by its compressed form; a power cut leaves the one or the other, or both whole.

    Args:
        path: the segment.
        stop: asked before each piece; when it returns true the segment is left as it is.

    Raises:
        OSError: it could not be read or written; the segment is as it was.
    """
    part = path.with_name(path.name + PART)
    try:
        with path.open("rb") as plain, part.open("wb") as file:
            with gzip.GzipFile("", "wb", _LEVEL, fileobj=file, mtime=0) as packed:
                while not (stopped := stop()) and (piece := plain.read(_PIECE_BYTES)):
                    packed.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if stopped:
            part.unlink()
            return
        replace(part, compressed(path))
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    # A segment that is being read on Windows stays beside its compressed form, and is compressed again later.
    remove_if_unused(path)
