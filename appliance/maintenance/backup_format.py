"""The form of a backup: writing one, reading one, and comparing its checksums.

A backup is a tar file (POSIX.1-2001) of a data folder's files; its last member, ``manifest.json``, has the length and
the SHA-256 of each. After the tar there is a checksum of the whole file.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import IO, cast

import msgspec

from appliance import __version__
from appliance.datafolder import PASSING
from appliance.datafolder.files import create, make_folder, sync_file, written_whole
from appliance.datafolder.stored_files import StoredFiles
from appliance.errors import ObserverError

MANIFEST = "manifest.json"
_PIECE_BYTES = 1 << 20
_TRAILER = b"classroom-observer-backup sha256 %b\n"
"""After the end of the tar, which readers of tar files pass over: the SHA-256 of all before it."""
_TRAILER_BYTES = len(_TRAILER % (b"0" * 64))
# A header may hold any bytes, and headers may be nested.
_DAMAGES = (
    tarfile.TarError,
    EOFError,
    msgspec.DecodeError,
    ValueError,
    OverflowError,
    KeyError,
    AttributeError,
    RecursionError,
    struct.error,
)


class BackupError(ObserverError):
    """A backup cannot be made, is damaged, or cannot be restored; the text says which."""


class Listed(msgspec.Struct, frozen=True):
    """One file of a backup: its length in bytes, and its SHA-256 in hexadecimal digits."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """The contents of a backup.

    Attributes:
        program: the version of the program that wrote it.
        written: when, in seconds since the epoch.
        files: by name in the data folder, with ``/`` between its parts.
        summed: whether the backup ends with a checksum of all of it.
    """

    program: str
    written: float
    files: dict[str, Listed]
    summed: bool = False


def write(out: Path, data: Path, files: Iterable[tuple[StoredFiles, Path]], *, inherit: bool) -> Manifest:
    """Write a backup, whole or not at all, readable by its owner alone.

    Args:
        out: the backup; an existing one is replaced.
        data: the folder to which names in the backup are relative.
        files: the files with the parts that own them, in order; one that has disappeared meanwhile is left out.
        inherit: whether the backup is in a data folder, so that it gets the owner of its folder.

    Raises:
        OSError: a file cannot be read or written.
    """
    listed: dict[str, Listed] = {}
    with written_whole(out, inherit=inherit) as file:
        summed = _Summed(file)
        with tarfile.open(fileobj=cast(IO[bytes], summed), mode="w", format=tarfile.PAX_FORMAT) as tar:
            for owner, path in files:
                opened = owner.open(path)
                if opened is not None:
                    with opened.content:
                        inside = opened.path.relative_to(data).as_posix()
                        listed[inside] = _add(tar, inside, opened.content, opened.size)
            manifest = Manifest(__version__, round(time.time(), 3), listed, summed=True)
            described = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
            _add(tar, MANIFEST, io.BytesIO(described), len(described))
        file.write(_TRAILER % summed.hash.hexdigest().encode())
    return manifest


class _Summed:
    """Writes to a file, and computes the checksum of all that was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.hash = hashlib.sha256()
        self._file = file

    def write(self, content: bytes) -> int:
        self.hash.update(content)
        return self._file.write(content)

    def tell(self) -> int:
        return self._file.tell()


def check(backup: Path) -> Manifest:
    """Read a backup to its end and compare every checksum, also that of what is between the files.

    Raises:
        BackupError: it is damaged.
    """
    manifest = extract(backup, None)
    if not _is_whole(backup, manifest):
        raise BackupError(
            f"{backup} is damaged between its files. The files are whole and can be restored; make another backup."
        )
    return manifest


def _add(tar: tarfile.TarFile, name: str, file: io.BufferedIOBase, size: int) -> Listed:
    hashing = _Hashing(file, size)
    tar.addfile(_member(name, size, int(time.time())), hashing)
    return Listed(size, hashing.hash.hexdigest())


def _member(name: str, size: int, written: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o600
    info.mtime = written
    return info


class _Hashing:
    """Reads the first bytes of a file, and computes their checksum."""

    def __init__(self, file: io.BufferedIOBase, size: int) -> None:
        self.hash = hashlib.sha256()
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(min(self._left, size) if size >= 0 else self._left)
        self._left -= len(piece)
        self.hash.update(piece)
        return piece


def extract(backup: Path, folder: Path | None, wanted: Callable[[str], bool] = lambda name: True) -> Manifest:
    """Read a backup, write its files to a folder, and compare them with the manifest.

    Damage between the files, which `check` reports, does not prevent that.

    Args:
        backup: the file.
        folder: an empty folder; None where the files are only compared.
        wanted: whether a file of this name is written; the others are only compared.

    Raises:
        BackupError: it is damaged; the folder may hold a part of it.
        OSError: a file cannot be written.
    """
    found: dict[str, Listed] = {}
    manifest: Manifest | None = None
    check_names(backup)
    with _opened(backup) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            if member.name == MANIFEST:
                manifest = msgspec.json.decode(content.read(), type=Manifest)
                continue
            path = folder / PurePosixPath(member.name) if folder is not None and wanted(member.name) else None
            found[member.name] = _write_member(content, path)
    if manifest is None:
        raise BackupError(f"{backup} is not complete: its manifest, which comes last, is missing. Nothing was changed.")
    wrong = sorted(name for name in {*found, *manifest.files} if found.get(name) != manifest.files.get(name))
    if wrong:
        raise BackupError(f"{backup} is damaged: {wrong[0]} does not have its checksum. Nothing was changed.")
    return manifest


def _is_whole(backup: Path, manifest: Manifest) -> bool:
    """Whether a backup has the checksum of all its bytes; one of an earlier version ends in zeros and has none."""
    summed = hashlib.sha256()
    with backup.open("rb") as file:
        left = max(0, file.seek(0, os.SEEK_END) - _TRAILER_BYTES)
        file.seek(left)
        trailer = file.read()
        if not trailer.strip(b"\0"):
            return not manifest.summed
        file.seek(0)
        while left and (piece := file.read(min(left, _PIECE_BYTES))):
            summed.update(piece)
            left -= len(piece)
    return trailer == _TRAILER % summed.hexdigest().encode()


def check_names(backup: Path) -> None:
    """Check all members before the first is written: a backup holds plain files alone, each with a name of its own.

    Raises:
        BackupError: one is a link, a device or a folder, would be outside the data folder, or occurs twice; or there
            is no such backup, or it is damaged.
        OSError: it cannot be read.
    """
    names: set[str] = set()
    folders: set[str] = set()
    with _opened(backup) as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            parents = {str(parent) for parent in name.parents} - {"."}
            strange = name.is_absolute() or ".." in name.parts or str(name) != member.name or not name.name
            # On Windows a colon begins a path on another drive, or a stream of another file.
            strange = strange or any(sign in member.name for sign in ("\\", "\0", *(":" if os.name == "nt" else "")))
            doubled = member.name in names or member.name in folders or not parents.isdisjoint(names)
            if not member.isreg() or member.issparse() or strange or doubled or name.parts[0] in PASSING:
                raise BackupError(f"{backup} holds something that belongs to no data folder; nothing was changed.")
            names.add(member.name)
            folders |= parents


@contextmanager
def _opened(backup: Path) -> Iterator[tarfile.TarFile]:
    """A backup, open for reading.

    Raises:
        BackupError: there is none, or it is damaged.
        OSError: it cannot be read.
    """
    try:
        file = backup.open("rb")
    except FileNotFoundError:
        raise BackupError(f"There is no backup {backup}.") from None
    with file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                yield tar
        except _DAMAGES as error:
            reason = str(error) or type(error).__name__
            raise BackupError(f"{backup} is damaged or no backup: {reason}. Nothing was changed.") from None


def _write_member(content: IO[bytes], path: Path | None) -> Listed:
    """Read a member to its end, and write it to a new file if a path is given."""
    hashing = hashlib.sha256()
    size = 0
    with nullcontext() if path is None else _new_file(path) as file:
        while piece := content.read(_PIECE_BYTES):
            hashing.update(piece)
            size += len(piece)
            if file:
                file.write(piece)
    return Listed(size, hashing.hexdigest())


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    make_folder(path.parent)
    with create(path) as raw, io.BufferedWriter(cast(io.RawIOBase, raw)) as file:
        yield file
        file.flush()
        sync_file(raw)
