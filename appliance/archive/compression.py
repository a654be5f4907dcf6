"""Compression of a closed segment into a gzip file (RFC 1952)."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

from appliance.archive.segments import compressed
from appliance.datafolder.files import PART, remove_if_unused, written_whole

# Lines of JSON shrink to 6 % at this level and to 4.5 % at the highest, which takes seven times as long: longer than
# everything else that is done with an event.
_LEVEL = 3
_PIECE_BYTES = 1 << 20


class _StoppedError(Exception):
    """The program ends; the segment is compressed after its next start."""


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
        with (
            path.open("rb") as plain,
            written_whole(compressed(path), part) as file,
            gzip.GzipFile("", "wb", _LEVEL, fileobj=file, mtime=0) as packed,
        ):
            while piece := plain.read(_PIECE_BYTES):
                if stop():
                    raise _StoppedError
                packed.write(piece)
    except _StoppedError:
        return
    # A segment that is being read on Windows stays beside its compressed form, and is compressed again later.
    remove_if_unused(path)
