"""Segment tail: what is in a segment after the commit from which the segment after it goes on.

A failed write or sync may leave it there; its lines are then written again to the next segment. Or it was added.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import NamedTuple

from appliance.archive import Damage
from appliance.archive.chain import GROUP_END
from appliance.archive.ends import first_group, last_group, leftover_from
from appliance.archive.records import parse_line
from appliance.archive.segments import open_segment, uncompressed_bytes

_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)


class Tail(NamedTuple):
    """The tail of a segment.

    Attributes:
        byte: at which it begins.
        lines: number of its lines.
        commits: number of its whole commit groups.
        is_repeated: whether the next segment has all of its lines; a damaged line counts as none of them.
    """

    byte: int
    lines: int
    commits: int
    is_repeated: bool


def tail(path: Path, following: Path) -> Tail | None:
    """The tail of a segment; None where there is none.

    Args:
        path: the segment.
        following: the segment after it.

    Raises:
        ArchiveError: one of them cannot be read.
    """
    first, last = first_group(following), last_group(path)
    if first is None or last is None:
        return None
    start = leftover_from(path, first.before)
    if start is None and last.own == first.before:
        start = last.byte
    if start is None or start >= uncompressed_bytes(path):
        return None
    try:
        with open_segment(path) as file:
            file.seek(start)
            lines = list(file)
    except _DAMAGED:
        # Reading the segment for its lines reports it.
        return None
    commits = sum(1 for line in lines if GROUP_END.search(line))
    return Tail(start, len(lines), commits, _are_repeated(lines, following))


def _are_repeated(lines: list[bytes], following: Path) -> bool:
    # What is compared is the whole line: another event of the same number is no repetition.
    left = {_without_chain(line) for line in lines}
    if any(isinstance(parse_line(line, "", 0, 0), Damage) for line in left):
        return False
    try:
        with open_segment(following) as file:
            for line in file:
                left.discard(_without_chain(line))
    except _DAMAGED:
        pass
    return not left


def _without_chain(line: bytes) -> bytes:
    return GROUP_END.sub(b"}\n", line)
