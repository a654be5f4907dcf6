"""Backup: the whole data folder in one file, taken while the appliance runs, and put back.

A backup is a tar file (POSIX.1-2001) of the folder's files; its last member, ``manifest.json``, has the length and the
SHA-256 of each. Snapshots come first and the archive last, so that the archive holds all that a snapshot knows of.
A roster that is not in the data folder, and a key-value store on a server, are not in it.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from appliance import __version__
from appliance.config import Settings, redact
from appliance.datafolder import BACKUPS, LOCK, PASSING, DataFolder
from appliance.datafolder.files import last_line_end, replace, sync_folder
from appliance.errors import ObserverError
from appliance.kvs import kvs_facts
from appliance.roster import roster_facts

MANIFEST = "manifest.json"
_FIRST = ("snapshots", "classes.json")
_LAST = ("archive",)
_PIECE = 1 << 20


class BackupError(ObserverError):
    """A backup cannot be made, is damaged, or cannot be put back; the text says which."""


class Listed(msgspec.Struct, frozen=True):
    """One file of a backup: its length in bytes, and its SHA-256 in hexadecimal digits."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds.

    Attributes:
        program: the version of the program that wrote it.
        written: when, in seconds since the epoch.
        files: by name in the data folder, with ``/`` between its parts.
    """

    program: str
    written: float
    files: dict[str, Listed]


def back_up(data: Path, out: Path, *, force: bool = False) -> Manifest:
    """Write a backup of a data folder, which may be in use.

    Raises:
        BackupError: the folder is not there, or there is such a file already and `force` is not set.
        OSError: a file cannot be read or written.
    """
    if not data.is_dir():
        raise BackupError(f"There is no data folder {data}.")
    if out.exists() and not force:
        raise BackupError(f"{out} is there already; choose another name, or overwrite it with --force.")
    files: dict[str, Listed] = {}
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for path in _files(data):
                    content = _content(path)
                    if content is not None:
                        with content[1] as opened:
                            inside = content[0].relative_to(data).as_posix()
                            files[inside] = _add(tar, inside, opened, content[2])
                manifest = Manifest(__version__, round(time.time(), 3), files)
                described = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
                _add(tar, MANIFEST, io.BytesIO(described), len(described))
            file.flush()
            os.fsync(file.fileno())
        replace(Path(name), out)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(out.parent)
    return manifest


def not_included(settings: Settings) -> Iterator[tuple[str, str]]:
    """What of an installation is not in its data folder: what it is, and its URL without passwords."""
    folder = roster_facts(settings.roster_url).folder
    if folder is None or settings.data_path.resolve() not in folder.resolve().parents:
        yield "roster", redact(settings.roster_url)
    if kvs_facts(settings.kvs.url).shared:
        yield "key-value store", redact(settings.kvs.url)


def restore(backup: Path, data: Path, *, force: bool = False) -> tuple[Manifest, Path | None]:
    """Put a backup back, after each of its files was checked.

    Args:
        backup: the file.
        data: the data folder.
        force: whether a folder that holds data may be replaced; it is moved aside then.

    Returns:
        What was put back, and where the data that were there are now.

    Raises:
        BackupError: the backup is damaged, or data are in the way.
        SettingsError: an appliance uses the data folder.
        OSError: a file cannot be read or written.
    """
    used = data.is_dir() and any(path.name not in PASSING for path in data.iterdir())
    if used and not force:
        raise BackupError(
            f"The data folder {data} holds data. With --force they are moved aside and the backup takes their place."
        )
    data.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=data.parent, prefix=f".{data.name}.restore-"))
    aside = None
    try:
        manifest = _extract(backup, fresh)
        with DataFolder(data):
            if used:
                aside = data.with_name(f"{data.name}-before-{time.strftime('%Y%m%d-%H%M%S')}")
                if os.name == "nt":
                    # There a folder with an open file in it, as the lock is, cannot be renamed.
                    aside.mkdir()
                    for path in data.iterdir():
                        if path.name != LOCK:
                            path.replace(aside / path.name)
                else:
                    data.rename(aside)
        if data.is_dir():
            for name in PASSING:
                (data / name).unlink(missing_ok=True)
            data.rmdir()
        fresh.replace(data)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    sync_folder(data.parent)
    return manifest, aside


def check(backup: Path) -> Manifest:
    """Read a backup to its end and compare every checksum.

    Raises:
        BackupError: it is damaged.
    """
    return _extract(backup, None)


def _files(data: Path) -> Iterator[Path]:
    """The folder's files in the order in which a backup takes them. Looked up late, because segments are renamed."""
    names = sorted(path.name for path in data.iterdir() if path.name not in (*PASSING, BACKUPS))
    middle = [name for name in names if name not in _FIRST + _LAST]
    for name in (*_FIRST, *middle, *_LAST):
        path = data / name
        if path.is_dir():
            yield from _below(path)
        elif path.is_file() and _lasting(path):
            yield path


def _below(folder: Path) -> list[Path]:
    """The files below a folder in which segments are being compressed.

    A look at a folder may miss a file that is renamed meanwhile. A segment is compressed once, so of two looks one has
    it; whether it is still there under that name is seen when it is opened.
    """
    looks = (Path(parent, name) for _ in range(2) for parent, _, names in os.walk(folder) for name in names)
    found = {file for file in looks if _lasting(file)}
    return sorted(file for file in found if not (file.suffix == ".gz" and file.with_suffix("") in found))


def _lasting(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix != ".part"


def _content(path: Path) -> tuple[Path, io.BufferedReader, int] | None:
    """A file, opened, and how much of it counts: of a log that is being written, whole lines.

    None where it is gone: an older snapshot, or a segment whose compressed form takes its place.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        path = path.with_name(path.name + ".gz")
        if not path.exists():
            return None
        file = path.open("rb")
    size = file.seek(0, os.SEEK_END)
    if path.suffix == ".jsonl":
        # What is behind the last line break is being written now, or will be found torn; neither was acknowledged.
        size = last_line_end(file, size)
    file.seek(0)
    return path, file, size


def _add(tar: tarfile.TarFile, name: str, file: io.BufferedIOBase, size: int) -> Listed:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o600
    info.mtime = int(time.time())
    hashing = _Hashing(file, size)
    tar.addfile(info, hashing)
    return Listed(size, hashing.hash.hexdigest())


class _Hashing:
    """Reads so much of a file and keeps its checksum."""

    def __init__(self, file: io.BufferedIOBase, size: int) -> None:
        self.hash = hashlib.sha256()
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(min(self._left, size) if size >= 0 else self._left)
        self._left -= len(piece)
        self.hash.update(piece)
        return piece


def _extract(backup: Path, folder: Path | None) -> Manifest:
    """Read a backup, write its files to a folder, if one is given, and compare them with the manifest."""
    found: dict[str, Listed] = {}
    manifest: Manifest | None = None
    try:
        with tarfile.open(backup, "r:") as tar:
            _check_names(backup, tar)
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None
                if member.name == MANIFEST:
                    manifest = msgspec.json.decode(content.read(), type=Manifest)
                    continue
                found[member.name] = _write(content, None if folder is None else folder / PurePosixPath(member.name))
    except FileNotFoundError:
        raise BackupError(f"There is no backup {backup}.") from None
    except (tarfile.TarError, EOFError, msgspec.DecodeError, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise BackupError(f"{backup} is damaged or no backup: {error}. Nothing was changed.") from None
    if manifest is None:
        raise BackupError(f"{backup} is not complete: its manifest, which comes last, is missing. Nothing was changed.")
    wrong = sorted(name for name in {*found, *manifest.files} if found.get(name) != manifest.files.get(name))
    if wrong:
        raise BackupError(f"{backup} is damaged: {wrong[0]} does not have its checksum. Nothing was changed.")
    return manifest


def _check_names(backup: Path, tar: tarfile.TarFile) -> None:
    """Look at all members before the first is written: a backup of ours holds plain files with names of their own.

    Raises:
        BackupError: one is a link, a device or a folder, would lie outside the data folder, or is there twice.
    """
    names: set[str] = set()
    folders: set[str] = set()
    for member in tar:
        name = PurePosixPath(member.name)
        parents = {str(parent) for parent in name.parents} - {"."}
        strange = name.is_absolute() or ".." in name.parts or str(name) != member.name or not name.name
        # On Windows a colon begins a path on another drive, or a stream of another file.
        strange = strange or any(sign in member.name for sign in ("\\", "\0", *(":" if os.name == "nt" else "")))
        doubled = member.name in names or member.name in folders or not parents.isdisjoint(names)
        if not member.isreg() or member.issparse() or strange or doubled:
            raise BackupError(f"{backup} holds something that belongs to no data folder; nothing was changed.")
        names.add(member.name)
        folders |= parents


def _write(content: object, path: Path | None) -> Listed:
    hashing = hashlib.sha256()
    size = 0
    assert isinstance(content, io.BufferedReader | tarfile.ExFileObject)
    file = None
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600), "wb")
    try:
        while piece := content.read(_PIECE):
            hashing.update(piece)
            size += len(piece)
            if file:
                file.write(piece)
        if file:
            file.flush()
            os.fsync(file.fileno())
    finally:
        if file:
            file.close()
    return Listed(size, hashing.hexdigest())
