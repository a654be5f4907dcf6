"""Segments: the files of an archive folder, their order and their lengths.

A segment is ``events-DAY-NUMBER.jsonl``; a compressed one has ``.gz`` after that (RFC 1952). Numbers go up, also from
day to day, so they give the order.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import IO, NamedTuple

from appliance.archive.members import SegmentFile, text_bytes
from appliance.errors import ArchiveError

SEGMENT_NAME = re.compile(r"events-(\d{8})-(\d{4,})\.jsonl(\.gz)?")


class Position(NamedTuple):
    """A place in the archive: the number of a segment, and a byte of its uncompressed text."""

    segment: int
    byte: int


BEGINNING = Position(0, 0)


def segments(folder: Path) -> list[Path]:
    """The archive's segments, oldest first."""
    return [path for _, path in numbered_segments(folder)]


def numbered_segments(folder: Path) -> list[tuple[int, Path]]:
    """The archive's segments with their numbers, oldest first.

    One that was being compressed during a power cut exists twice; the plain one counts, unless it has less text. A
    folder with the name of a segment is left out; see `misplaced_folders`.
    """
    return sorted((number, path) for number, path in _paths_by_number(folder).items() if not path.is_dir())


def misplaced_folders(folder: Path) -> list[Path]:
    """Folders that have the name of a segment; what they hold belongs to no archive."""
    return sorted(path for path in folder.iterdir() if SEGMENT_NAME.fullmatch(path.name) and path.is_dir())


def last_number(folder: Path) -> int:
    """The highest number that a file or a folder has; 0 where there is none."""
    return max(_paths_by_number(folder), default=0)


def _paths_by_number(folder: Path) -> dict[int, Path]:
    """Files and folders with a segment's name, by number; of two with the same number a file rather than a folder."""
    # Listing a folder may miss a file that is renamed meanwhile. A segment is renamed once, when it is compressed, so
    # one of two listings has it.
    earlier, later = sorted(folder.iterdir()), sorted(folder.iterdir())
    found: dict[int, Path] = {}
    for path in later + earlier:
        match = SEGMENT_NAME.fullmatch(path.name)
        if not match:
            continue
        other = found.get(int(match[2]))
        if other is None or other.is_dir() or (path == compressed(other) and _is_longer(path, other)):
            found[int(match[2])] = path
    return found


def _is_longer(packed: Path, plain: Path) -> bool:
    """Whether the compressed form of a segment has more text than the plain one."""
    try:
        return not packed.is_dir() and plain.stat().st_size < text_bytes(packed)
    except OSError:
        # It was removed meanwhile.
        return not plain.exists()


def compressed(path: Path) -> Path:
    """The name that a segment has once it is compressed; a segment may be so since the folder was listed."""
    return path.with_name(path.name + ".gz")


def disk_bytes(path: Path) -> int:
    """The space that a segment takes on the disk; none if it was removed meanwhile."""
    for name in (path, compressed(path)):
        try:
            return name.stat().st_size
        except FileNotFoundError:
            pass
    return 0


def uncompressed_bytes(path: Path) -> int:
    """Length of a segment's text; of a gzip file, as its headers or its trailer have it."""
    try:
        return _text_bytes(path)
    except FileNotFoundError:
        return _text_bytes(compressed(path))


def _text_bytes(path: Path) -> int:
    return text_bytes(path) if path.suffix == ".gz" else path.stat().st_size


def open_segment(path: Path) -> IO[bytes] | gzip.GzipFile:
    """Open an archive file, plain or gzip, for reading its text.

    Raises:
        ArchiveError: it is not there or cannot be opened.
    """
    try:
        try:
            return SegmentFile(path) if path.suffix == ".gz" else path.open("rb")
        except FileNotFoundError:
            return SegmentFile(compressed(path))
    except FileNotFoundError:
        raise ArchiveError(f"There is no archive file {path}.") from None
    except OSError as error:
        raise ArchiveError(f"The archive file {path} cannot be read: {error.strerror or error}.") from error
