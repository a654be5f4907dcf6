"""Moving closed segments to another folder, as for a full disk, and bringing them back.

A segment is copied, the copy is synced and read again; then a marker (`appliance.archive.markers`) says where it is,
and last the segment is removed. On the way back likewise. A power cut at any moment leaves a whole file at one of the
two places at least, and doing the same again finishes it. Closed segments never change, so the appliance may run.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from appliance.archive.index import Index, index_path
from appliance.archive.indexing import build_index, stored_index
from appliance.archive.markers import MarkedSegment, Marker, add_marker, last_markers
from appliance.archive.segments import SEGMENT_NAME, numbered_segments
from appliance.datafolder.files import PART, remove, remove_if_unused, sync_folder, written_whole
from appliance.errors import ObserverError

_PIECE_BYTES = 1 << 20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class MoveError(ObserverError):
    """A segment was not moved; it is where it was."""


def closed_segments(folder: Path, *, plain: bool) -> list[tuple[int, Path]]:
    """The segments of an archive folder that never change, oldest first. The newest one may be open if it is plain.

    Args:
        folder: the archive.
        plain: whether segments that are not compressed count. With `archive.compress` those are still to be compressed.
    """
    found = numbered_segments(folder) if folder.is_dir() else []
    return [(number, path) for number, path in found if path.suffix == ".gz" or (plain and number < found[-1][0])]


def marked(path: Path) -> MarkedSegment | None:
    """A closed segment, as a marker describes it; None where it is damaged as a whole.

    Raises:
        OSError: it cannot be read.
    """
    index = stored_index(path) or build_index(path)
    match = SEGMENT_NAME.fullmatch(path.name)
    return _marked(path.name, int(match[2]), index) if index and match else None


def _marked(name: str, number: int, index: Index) -> MarkedSegment:
    return MarkedSegment(
        name,
        number,
        index.lines,
        index.text_bytes,
        before=index.before,
        head=index.head,
        first=index.first_received,
        last=index.last_received,
        sha256=index.content.sha256.hex(),
    )


def move(folder: Path, segment: MarkedSegment, to: Path) -> bool:
    """Move one closed segment to another folder.

    Args:
        folder: the archive.
        segment: as `marked` describes it.
        to: the other folder, which is there.

    Returns:
        Whether the file is gone from the archive. On Windows one that a program reads stays until the next time.

    Raises:
        MoveError: there is another file of that name, or the copy is not as the segment.
        OSError: something cannot be read or written.
    """
    path = folder / segment.name
    _copy(path, to / segment.name, segment.sha256)
    _copy_index(path, to / segment.name)
    last = last_markers(folder).get(segment.number)
    if last is None or (last.marker.kind, last.marker.to, last.segment) != ("moved", str(to), segment):
        _add(folder, Marker("moved", _now(), [segment], str(to)), path)
    return _remove(folder, path)


def bring_back(folder: Path, segment: MarkedSegment, source: Path, *, keep: bool = False) -> None:
    """Put one segment back, and remove the copy.

    Args:
        folder: the archive.
        segment: as the marker describes it.
        source: the folder where it is.
        keep: whether the copy stays.

    Raises:
        MoveError: it is not there, or is not what was moved.
        OSError: something cannot be read or written.
    """
    path, copy = folder / segment.name, source / segment.name
    if not (path.exists() and _is(path, segment.sha256)):
        if not copy.exists():
            raise MoveError(f"{copy} is not there.")
        _copy(copy, path, segment.sha256)
        _copy_index(copy, path)
    add_marker(folder, Marker("returned", _now(), [segment], str(source)))
    if not keep:
        for left in (copy, index_path(copy)):
            remove(left)
        sync_folder(source)


def delete(folder: Path, segments: list[MarkedSegment]) -> None:
    """Delete closed segments for their age.

    Raises:
        OSError: something cannot be written.
    """
    known = last_markers(folder)
    new = [
        segment
        for segment in segments
        if (last := known.get(segment.number)) is None or last.marker.kind != "deleted" or last.segment != segment
    ]
    if new:
        _add(folder, Marker("deleted", _now(), new), *(folder / segment.name for segment in new))
    for segment in segments:
        _remove(folder, folder / segment.name)


def _now() -> float:
    return round(time.time(), 3)


def _remove(folder: Path, path: Path) -> bool:
    # An index that is left would never be found again; one that is gone is built again.
    remove(index_path(path))
    gone = remove_if_unused(path)
    sync_folder(folder)
    return gone


def _add(folder: Path, marker: Marker, *paths: Path) -> None:
    """Add a marker. On a disk without any room the indexes of the segments, which follow from them, are removed first.

    Raises:
        OSError: it cannot be written.
    """
    try:
        add_marker(folder, marker)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        for path in paths:
            remove(index_path(path))
        add_marker(folder, marker)


def _copy(source: Path, target: Path, sha256: str) -> None:
    """Copy a file, and read the copy.

    Args:
        source: the file.
        target: the copy; one that is there is left as it is.
        sha256: of the file, in hexadecimal digits.
    """
    if target.exists():
        if not _is(target, sha256):
            raise MoveError(f"{target} is there already and is another file; choose another folder, or move it aside.")
        return
    part = target.with_name(target.name + PART)
    with source.open("rb") as file, written_whole(target, part) as copy:
        for piece in _pieces(file):
            copy.write(piece)
    if not _is(target, sha256):
        remove(target)
        raise MoveError(f"The copy of {source} does not have its checksum, so the copy was removed. Run 'verify'.")


def _copy_index(source: Path, target: Path) -> None:
    """Copy the index of a segment, if there is one and none at the other place; it can be built again."""
    source, target = index_path(source), index_path(target)
    try:
        if source.exists() and not target.exists():
            with source.open("rb") as file, written_whole(target) as copy:
                for piece in _pieces(file):
                    copy.write(piece)
    except OSError:
        return


def _is(path: Path, sha256: str) -> bool:
    """Whether a file has a checksum, as far as possible read from the disk and not from memory."""
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for piece in _pieces(file):
            hashed.update(piece)
    return hashed.hexdigest() == sha256


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece
