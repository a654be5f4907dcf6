"""Snapshot: the in-memory store on the disk, so that a start need not read the whole archive.

A snapshot is a file ``snapshot-NUMBER.bin``: a line ``classroom-observer-snapshot FORMAT SHA256`` whose checksum covers
all bytes after it, then a line of JSON (`Head`), then the rows as one MessagePack array of ``[key, version, fields]``.
It is written whole or not at all. The newest `KEPT` are kept, for the day on which one of them cannot be read.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from appliance import __version__
from appliance.archive import Position
from appliance.datafolder.files import make_folder, remove_if_unused, write_private
from appliance.health import Finding, finding
from appliance.kvs import Row, Value

log = logging.getLogger(__name__)

FOLDER = "snapshots"
FORMAT = 1
KEPT = 2

_NAME = re.compile(r"snapshot-(\d{6,})\.bin")
_MAGIC = b"classroom-observer-snapshot"

_Rows = list[tuple[str, int, dict[str, bytes]]]


class Head(msgspec.Struct, frozen=True):
    """The first part of a snapshot.

    Attributes:
        position: all lines of the archive before it are in the rows.
        reducers: by name, the versions of the reducers whose states are in the rows.
        written: when, in seconds since the epoch.
        program: the program's version.
    """

    position: Position
    reducers: dict[str, int]
    written: float
    program: str


class Snapshot(msgspec.Struct, frozen=True):
    """A snapshot that was read."""

    head: Head
    rows: list[Row]


class UnreadableError(Exception):
    """The file is no snapshot, or damaged; the text says which."""


def write(
    folder: Path,
    position: Position,
    reducers: Mapping[str, int] | Callable[[], Mapping[str, int]],
    rows: Sequence[tuple[str, int, Mapping[str, Value]]],
) -> Path:
    """Write a snapshot, durably, and remove all but the newest; returns its file.

    Args:
        folder: the folder of snapshots.
        position: all lines of the archive before it are in the rows.
        reducers: by name, the versions of those whose states are in the rows; a function is called after encoding.
        rows: key, version and fields of each row.

    Raises:
        OSError: it cannot be written; the earlier ones are left.
    """
    # One copy of the store, in pieces: it may take a good part of the memory.
    pieces = [_array_head(len(rows))]
    for key, version, fields in rows:
        pieces.append(msgspec.msgpack.encode((key, version, {name: value.encode() for name, value in fields.items()})))
    known = reducers() if callable(reducers) else reducers
    pieces.insert(0, msgspec.json.encode(Head(position, dict(known), round(time.time(), 3), __version__)) + b"\n")
    checksum = hashlib.sha256()
    for piece in pieces:
        checksum.update(piece)
    pieces.insert(0, b"%b %d %b\n" % (_MAGIC, FORMAT, checksum.hexdigest().encode()))
    make_folder(folder)
    there = snapshots(folder)
    number = int(_NAME.fullmatch(there[-1].name)[1]) + 1 if there else 1  # type: ignore[index]
    path = folder / f"snapshot-{number:06d}.bin"
    write_private(path, pieces)
    # A folder of such a name is not removed.
    files = [file for file in there if not file.is_dir()]
    for old in files[: 1 - KEPT]:
        # On Windows one that a backup is reading is removed the next time.
        remove_if_unused(old)
    return path


def _array_head(length: int) -> bytes:
    """The first bytes of a MessagePack array of a length.

    Source: https://github.com/msgpack/msgpack/blob/master/spec.md, array 32.
    """
    return b"\xdd" + length.to_bytes(4, "big")


def snapshots(folder: Path) -> list[Path]:
    """The files of snapshots, oldest first."""
    if not folder.is_dir():
        return []
    found = [(int(match[1]), file) for file in folder.iterdir() if (match := _NAME.fullmatch(file.name))]
    return [file for _, file in sorted(found)]


def read(path: Path) -> Snapshot:
    """Read one snapshot.

    Raises:
        UnreadableError: it is damaged, or of a later format.
        OSError: it cannot be read.
    """
    magic, _, body = path.read_bytes().partition(b"\n")
    words = magic.split(b" ")
    if len(words) != 3 or words[0] != _MAGIC:
        raise UnreadableError("it does not begin as a snapshot does")
    if words[1] != b"%d" % FORMAT:
        raise UnreadableError(f"its format is not {FORMAT}, the one that this version knows")
    if hashlib.sha256(body).hexdigest().encode() != words[2]:
        raise UnreadableError("its checksum is wrong")
    head, _, rows = body.partition(b"\n")
    try:
        return Snapshot(
            msgspec.json.decode(head, type=Head),
            [Row(key, version, fields) for key, version, fields in msgspec.msgpack.decode(rows, type=_Rows)],
        )
    except msgspec.DecodeError as error:
        raise UnreadableError(f"its content is not as expected: {error}") from None


def newest(files: Sequence[Path]) -> tuple[Snapshot | None, list[Finding]]:
    """The newest snapshot that can be read, and a finding for each later one that cannot."""
    unusable: list[Finding] = []
    for path in reversed(files):
        try:
            return read(path), unusable
        except (UnreadableError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            unusable.append(finding("snapshot.unusable", path.name, detail=reason or type(error).__name__))
    return None, unusable
