"""Ends: the first and the last group of a segment, and the byte at which its written lines end."""

from __future__ import annotations

import gzip
import logging
import os
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from appliance.archive.chain import GROUP_BYTES, GROUP_END, NOTHING, SUFFIX_BYTES, damaged_end
from appliance.archive.markers import known_missing
from appliance.archive.members import NoMembersError, block_text, members
from appliance.archive.segments import SEGMENT_NAME, numbered_segments, open_segment, uncompressed_bytes
from appliance.datafolder.files import last_line_end
from appliance.errors import ArchiveError

log = logging.getLogger(__name__)

GROUP_LIMIT = 2 * GROUP_BYTES
"""Lines without the end of a group that are longer than this, up to the last of them, are no group."""

_PIECE_BYTES = 1 << 16
_SEARCHED_SEGMENTS = 8


class GroupEnd(NamedTuple):
    """The end of a group: its BEFORE and OWN, and the byte after it in the segment's text."""

    before: bytes
    own: bytes
    byte: int


def first_group(path: Path) -> GroupEnd | None:
    """The end of a segment's first group; None where it has none, as in the formats 1 and 2.

    Raises:
        ArchiveError: it is not there or cannot be read.
    """
    text = b""
    with open_segment(path) as file:
        while True:
            piece = _read(file, _PIECE_BYTES)
            searched = max(0, len(text) - SUFFIX_BYTES)
            text += piece
            if found := GROUP_END.search(text, searched):
                return GroupEnd(found[1], found[2], found.end())
            if not piece or text.find(b"\n", GROUP_LIMIT) >= 0:
                return None


def last_group(path: Path) -> GroupEnd | None:
    """The end of a segment's last group; None where it has none. Of a damaged gzip file, the last that can be read.

    Raises:
        ArchiveError: it is not there or cannot be read.
    """
    if path.suffix == ".gz" and (last_one := _last_of_members(path)):
        return last_one
    with open_segment(path) as file:
        if isinstance(file, gzip.GzipFile):
            last = deque(_ends(file), maxlen=1)
            return last.pop() if last else None
        size = file.seek(0, os.SEEK_END)
        text = b""
        while size:
            start = max(0, size - _PIECE_BYTES)
            file.seek(start)
            text = file.read(size - start) + text[:SUFFIX_BYTES]
            if found := list(GROUP_END.finditer(text)):
                return GroupEnd(found[-1][1], found[-1][2], start + found[-1].end())
            size = start
        return None


def complete_bytes(path: Path) -> int:
    """Length of a segment's text up to its last finished group, in formats 1 and 2 up to its last whole line.

    What follows is being written, or was cut off by a power cut. A group whose end is damaged was finished.
    """
    if path.suffix == ".gz":
        return uncompressed_bytes(path)
    with path.open("rb") as file:
        lines_end = last_line_end(file, file.seek(0, os.SEEK_END))
        last = last_group(path) if first_group(path) else None
        if last is None and lines_end and own_before(path) is None:
            # Lines without a chain after a segment that has one are of an unfinished group, and not old.
            return lines_end
        complete = at = last.byte if last else 0
        file.seek(at)
        for line in file:
            at += len(line)
            if damaged_end(line):
                complete = at
    return complete


def own_before(path: Path) -> bytes | None:
    """OWN of the last group in the segments before one; None where none of them has a chain."""
    return _last_of_folder(_neighbours(path)[0])


def before_following(path: Path, later: Sequence[Path] = ()) -> bytes | None:
    """BEFORE of the first group in the segments after one; None where none of them has a chain.

    Args:
        path: the segment.
        later: the segments after it, where they are known; listing a folder for each of its segments takes long.
    """
    for other in later or _neighbours(path)[1]:
        try:
            if first := first_group(other):
                return first.before
        except ArchiveError:
            # It was moved elsewhere meanwhile, or reading it reports the error.
            continue
    return None


def leftover_from(path: Path, following: bytes | None) -> int | None:
    """The byte from which a segment has groups that the segment after it does not continue; None where it has none.

    A failed write or sync may leave such groups, whose lines were written again to the next segment.

    Args:
        path: the segment.
        following: BEFORE of the first group after the segment, None where it is not known.
    """
    if following is None or following == NOTHING:
        return None
    last = last_group(path)
    if last is None or last.own == following:
        return None
    with open_segment(path) as file:
        return next((end.byte for end in _ends(file) if end.own == following), None)


def is_in_segment_before(path: Path, own: bytes) -> bool:
    """Whether the segment before one has a group with a certain OWN."""
    for other in _neighbours(path)[0][-1:]:
        with open_segment(other) as file:
            return any(end.own == own for end in _ends(file))
    return False


def _neighbours(path: Path) -> tuple[list[Path], list[Path]]:
    """The segments before and after one in its folder."""
    match = SEGMENT_NAME.fullmatch(path.name)
    if match is None:
        return [], []
    number = int(match[2])
    there = numbered_segments(path.parent)
    return [other for at, other in there if at < number], [other for at, other in there if at > number]


def last_own(folder: Path) -> bytes:
    """OWN of the last group that an archive folder has, or had before its newest segments were moved elsewhere."""
    present = numbered_segments(folder)
    missing = [one.segment for one in known_missing(folder) if one.segment.head]
    if missing and (not present or missing[-1].number > present[-1][0]):
        return missing[-1].head.encode()
    return _last_of_folder([path for _, path in present]) or NOTHING


def _last_of_folder(paths: list[Path]) -> bytes | None:
    """OWN of the last group of the last segments; a failing disk may have left any number of empty ones."""
    searched = 0
    for path in reversed(paths):
        try:
            if not uncompressed_bytes(path):
                continue
            searched += 1
            if searched > _SEARCHED_SEGMENTS:
                break
            if (first_group(path) is not None) and (last := last_group(path)):
                return last.own
        except (ArchiveError, OSError) as error:
            log.warning("The chain of the archive begins anew, since its last segment cannot be read: %s", error)
            return None
    return None


def _last_of_members(path: Path) -> GroupEnd | None:
    """The end of the last group of a segment whose last part can be decompressed alone; None where it cannot."""
    try:
        with path.open("rb") as file:
            for member in reversed(members(file)):
                for block in reversed(member.blocks):
                    file.seek(block.offset)
                    if found := list(GROUP_END.finditer(block_text(file.read(block.length)))):
                        return GroupEnd(found[-1][1], found[-1][2], block.byte + found[-1].end())
    except (NoMembersError, OSError, zlib.error):
        pass
    return None


def _ends(file: IO[bytes] | gzip.GzipFile) -> Iterator[GroupEnd]:
    """The end of each group, up to damage of a compressed file."""
    kept, read = b"", 0
    while piece := _read(file, GROUP_BYTES):
        text = kept + piece
        start = read - len(kept)
        for found in GROUP_END.finditer(text):
            yield GroupEnd(found[1], found[2], start + found.end())
        read += len(piece)
        kept = text[-SUFFIX_BYTES + 1 :]


def _read(file: IO[bytes] | gzip.GzipFile, size: int) -> bytes:
    """Some bytes; none at the end, and where the gzip file is damaged."""
    try:
        return file.read(size)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return b""
    except OSError as error:
        raise ArchiveError(f"The archive file {file.name} cannot be read: {error.strerror or error}.") from error
