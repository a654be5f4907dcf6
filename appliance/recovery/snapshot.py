"""Snapshot: the in-memory store on the disk, so that a start need not read the whole archive.

A snapshot is a *base*, the whole store, and *deltas*, what changed since the file before. All of them are one
generation. A start reads the newest base and its deltas in order, up to one that is damaged or missing; what came later
is in the archive. The newest `KEPT` generations are kept, for the day on which a base cannot be read.

A base is a file ``snapshot-NUMBER.bin``: a line ``classroom-observer-snapshot FORMAT SHA256`` whose checksum covers all
bytes after it, then a line of JSON (`Head`), then the rows as one MessagePack array of ``[key, version, fields]``.

A delta is a file ``snapshot-NUMBER-DELTA.bin``, with the number of its base and its own, from 1 up. It has a line
``classroom-observer-snapshot-delta FORMAT SHA256``, a line of JSON (`DeltaHead`), which names the checksum of the file
before, then the changed rows as one MessagePack array of ``[key, version, fields]``: version 0 removes the row, fields
that did not change are left out, and nil removes a field. So a flipped bit, a file that is missing and one of another
generation are all noticed.

Rows have states whole or in parts (`appliance.states.parts`). Each file is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from appliance import __version__
from appliance.archive import Position
from appliance.datafolder.files import make_folder, remove_if_unused, write_private
from appliance.health import Finding, finding
from appliance.kvs import Row, Value

log = logging.getLogger(__name__)

FOLDER = "snapshots"
FORMAT = 1
DELTA_FORMAT = 1
KEPT = 2

_NAME = re.compile(r"snapshot-(\d{6,})\.bin")
_DELTA_NAME = re.compile(r"snapshot-(\d{6,})-(\d{4,})\.bin")
_MAGIC = b"classroom-observer-snapshot"
_DELTA_MAGIC = b"classroom-observer-snapshot-delta"

Reducers = Mapping[str, int] | Callable[[], Mapping[str, int]]
"""By name, the versions of the reducers whose states are in the rows; a function is called after encoding."""
EncodedRow = tuple[str, int, Mapping[str, bytes | None]]
"""Key, version and fields of a row; in a delta None removes a field."""
_Rows = list[tuple[str, int, dict[str, bytes]]]
_Changes = list[tuple[str, int, dict[str, bytes | None]]]


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


_H = TypeVar("_H", bound=Head)


class DeltaHead(Head, frozen=True, kw_only=True):
    """The first part of a delta. The other attributes are those of the store after it.

    Attributes:
        after: the checksum of the file that it follows, in hexadecimal digits.
    """

    after: str


class Snapshot(msgspec.Struct, frozen=True):
    """A snapshot that was read.

    Attributes:
        head: that of its newest delta; of the base where it has none.
        rows: the rows.
    """

    head: Head
    rows: list[Row]


class Written(msgspec.Struct, frozen=True):
    """A file that was written.

    Attributes:
        path: the file.
        checksum: of its content, in hexadecimal digits.
        bytes: its size.
    """

    path: Path
    checksum: str
    bytes: int


class UnreadableError(Exception):
    """The file is no snapshot, or damaged; the text says which."""


def write(
    folder: Path, position: Position, reducers: Reducers, rows: Sequence[tuple[str, int, Mapping[str, Value]]]
) -> Path:
    """Write a base, durably, and remove all but the newest generations; returns its file.

    Args:
        folder: the folder of snapshots.
        position: all lines of the archive before it are in the rows.
        reducers: see `Reducers`.
        rows: key, version and fields of each row.

    Raises:
        OSError: it cannot be written; the earlier ones are left.
    """
    encoded = ((key, version, {name: value.encode() for name, value in row.items()}) for key, version, row in rows)
    return write_base(folder, position, reducers, encoded).path


def write_base(folder: Path, position: Position, reducers: Reducers, rows: Iterable[EncodedRow]) -> Written:
    """As `write`, with rows that are encoded, one after the other."""
    pieces = _array(rows)
    known = reducers() if callable(reducers) else reducers
    head = Head(position, dict(known), round(time.time(), 3), __version__)
    make_folder(folder)
    there = snapshots(folder)
    number = max(map(_number, files(folder)), default=0) + 1
    written = _write(folder / f"snapshot-{number:06d}.bin", b"%b %d" % (_MAGIC, FORMAT), head, pieces)
    # A folder of such a name is not removed.
    kept = [path for path in there if not path.is_dir()][1 - KEPT :]
    _remove_before(folder, _number(kept[0]) if kept else number)
    return written


def write_delta(
    base: Path, number: int, after: str, position: Position, reducers: Reducers, rows: Iterable[EncodedRow]
) -> Written:
    """Write what changed since the file before, durably.

    Args:
        base: the base of its generation.
        number: its own number, from 1 up.
        after: the checksum of the file before.
        position: all lines of the archive before it are in the rows.
        reducers: see `Reducers`.
        rows: the changed rows.

    Raises:
        OSError: it cannot be written.
    """
    pieces = _array(rows)
    known = reducers() if callable(reducers) else reducers
    head = DeltaHead(position, dict(known), round(time.time(), 3), __version__, after=after)
    path = base.with_name(f"{base.stem}-{number:04d}.bin")
    return _write(path, b"%b %d" % (_DELTA_MAGIC, DELTA_FORMAT), head, pieces)


def _array(rows: Iterable[EncodedRow]) -> list[bytes]:
    """Rows as a MessagePack array.

    Source: https://github.com/msgpack/msgpack/blob/master/spec.md, array 32.
    """
    # One copy of the store, in pieces: it may take a good part of the memory.
    pieces = [b""]
    pieces += map(msgspec.msgpack.encode, rows)
    pieces[0] = b"\xdd" + (len(pieces) - 1).to_bytes(4, "big")
    return pieces


def _write(path: Path, magic: bytes, head: Head, pieces: list[bytes]) -> Written:
    pieces.insert(0, msgspec.json.encode(head) + b"\n")
    checksum = hashlib.sha256()
    for piece in pieces:
        checksum.update(piece)
    digits = checksum.hexdigest()
    pieces.insert(0, b"%b %b\n" % (magic, digits.encode()))
    write_private(path, pieces)
    return Written(path, digits, sum(map(len, pieces)))


def _number(path: Path) -> int:
    """The number of a base, or of a delta's base."""
    return int(path.stem.split("-")[1])


def _remove_before(folder: Path, number: int) -> None:
    """Remove the generations before a number."""
    for path in files(folder):
        if _number(path) < number and not path.is_dir():
            # On Windows one that a backup is reading is removed the next time.
            remove_if_unused(path)


def snapshots(folder: Path) -> list[Path]:
    """The files of bases, oldest first."""
    if not folder.is_dir():
        return []
    found = [(int(match[1]), file) for file in folder.iterdir() if (match := _NAME.fullmatch(file.name))]
    return [file for _, file in sorted(found)]


def deltas(base: Path) -> list[Path]:
    """The files of a base's deltas, oldest first."""
    return [path for path in _all_deltas(base.parent) if _number(path) == _number(base)]


def _all_deltas(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [
        (int(match[1]), int(match[2]), file) for file in folder.iterdir() if (match := _DELTA_NAME.fullmatch(file.name))
    ]
    return [file for _, _, file in sorted(found)]


def files(folder: Path) -> list[Path]:
    """All files of snapshots, deltas before their bases, so that they can be removed in this order."""
    return [*reversed(_all_deltas(folder)), *snapshots(folder)]


def without_base(folder: Path) -> list[Path]:
    """The files of deltas whose base is not there; they are of no use."""
    bases = {_number(path) for path in snapshots(folder)}
    return [path for path in _all_deltas(folder) if _number(path) not in bases]


def read(path: Path) -> Snapshot:
    """Read one base, without its deltas.

    Raises:
        UnreadableError: it is damaged, or of a later format.
        OSError: it cannot be read.
    """
    head, rows, _ = _read(path, _MAGIC, FORMAT, Head, _Rows)
    return Snapshot(head, [Row(*row) for row in rows])


def _read(path: Path, magic: bytes, format: int, head_type: type[_H], rows_type: Any) -> tuple[_H, Any, str]:
    """Head and rows of a file, and its checksum."""
    first, _, body = path.read_bytes().partition(b"\n")
    words = first.split(b" ")
    if len(words) != 3 or words[0] != magic:
        raise UnreadableError("it does not begin as a snapshot does")
    if words[1] != b"%d" % format:
        raise UnreadableError(f"its format is not {format}, the one that this version knows")
    digits = hashlib.sha256(body).hexdigest()
    if digits.encode() != words[2]:
        raise UnreadableError("its checksum is wrong")
    head, _, rows = body.partition(b"\n")
    try:
        return msgspec.json.decode(head, type=head_type), msgspec.msgpack.decode(rows, type=rows_type), digits
    except msgspec.DecodeError as error:
        raise UnreadableError(f"its content is not as expected: {error}") from None


def read_generation(base: Path) -> tuple[Snapshot, list[Finding]]:
    """Read a base and its deltas; a delta that cannot be used is a finding, and ends the reading.

    Raises:
        UnreadableError: the base is damaged, or of a later format.
        OSError: the base cannot be read.
    """
    head: Head
    head, rows, checksum = _read(base, _MAGIC, FORMAT, Head, _Rows)
    there: dict[str, tuple[int, dict[str, bytes]]] = {key: (version, fields) for key, version, fields in rows}
    unusable = []
    for number, path in enumerate(deltas(base), 1):
        try:
            if path.name != f"{base.stem}-{number:04d}.bin":
                raise UnreadableError("the one before it is missing")
            delta_head, changes, digits = _read(path, _DELTA_MAGIC, DELTA_FORMAT, DeltaHead, _Changes)
            if delta_head.after != checksum:
                raise UnreadableError("it does not follow the one before it")
        except (UnreadableError, OSError) as error:
            unusable.append(_unusable(path, error))
            break
        _apply(there, changes)
        head, checksum = delta_head, digits
    return Snapshot(head, [Row(key, version, fields) for key, (version, fields) in there.items()]), unusable


def _apply(rows: dict[str, tuple[int, dict[str, bytes]]], changes: _Changes) -> None:
    for key, version, fields in changes:
        if not version:
            rows.pop(key, None)
            continue
        _, known = rows.get(key, (0, {}))
        for name, value in fields.items():
            if value is None:
                known.pop(name, None)
            else:
                known[name] = value
        rows[key] = (version, known)


def newest(bases: Sequence[Path]) -> tuple[Snapshot | None, list[Finding]]:
    """The newest snapshot that can be read, and a finding for each later file that cannot."""
    unusable: list[Finding] = []
    for path in reversed(bases):
        try:
            found, damaged = read_generation(path)
        except (UnreadableError, OSError) as error:
            unusable.append(_unusable(path, error))
        else:
            return found, unusable + damaged
    return None, unusable


def _unusable(path: Path, error: Exception) -> Finding:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return finding("snapshot.unusable", path.name, detail=reason or type(error).__name__)
