"""An export as files: a zip or a folder, opened without unpacking it, with limits that hold before anything is read.

Files are found by name in any case, in a sub-folder too; several sub-folders with a ``users.csv`` or ``manifest.csv``
each are several exports. What macOS adds (``__MACOSX``, ``._*``) is passed over.
"""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from appliance.roster.oneroster.findings import OneRosterError
from appliance.roster.oneroster.tables import TABLES
from appliance.text import counted

_KNOWN = {name.casefold(): name for name in TABLES}
_RATIO_FROM = 1024 * 1024
_DEEP = 4
_ENCRYPTED = 0x1
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# All that reading a damaged zip raises; RuntimeError is a password, NotImplementedError an unknown compression.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError)


class ExportLimits(msgspec.Struct, frozen=True):
    """What an export may have at most.

    Attributes:
        members: files and folders of a zip or folder.
        file_bytes: bytes of one file, unpacked.
        ratio: unpacked bytes for each packed one, of files over 1 MiB unpacked. A list of names has 5 to 40.
        line_characters: characters of one line.
        columns: columns of a file.
        rows: rows of a file.
    """

    members: int = 2000
    file_bytes: int = 4 * 1024**3
    ratio: int = 250
    line_characters: int = 200_000
    columns: int = 500
    rows: int = 30_000_000


class Export:
    """An open zip or folder.

    Attributes:
        name: of the zip or folder, without its path.
        limits: what holds for it.
        folders: path of a folder within it ("" for its top) -> table -> paths of the files of that table. Of more than
            one path for a table none can be preferred.
        others: paths of files that belong to no table.
    """

    def __init__(self, name: str, limits: ExportLimits, files: dict[str, int]) -> None:
        self.name = name
        self.limits = limits
        self.folders: dict[str, dict[str, list[str]]] = {}
        self.others: list[str] = []
        self.sizes = files
        for path in sorted(files):
            folder, _, file = path.rpartition("/")
            table = _table_of(file)
            if table is None:
                self.others.append(path)
            else:
                self.folders.setdefault(folder, {}).setdefault(table, []).append(path)

    @property
    def exports(self) -> list[str]:
        """The folders that are exports: those with a ``users.csv`` or ``manifest.csv``."""
        return [folder for folder, tables in self.folders.items() if "users" in tables or "manifest" in tables]

    def has(self, folder: str, table: str) -> bool:
        return table in self.folders.get(folder, {})

    def path(self, folder: str, table: str) -> str:
        """The path of a table's file.

        Raises:
            OneRosterError: the folder has two files of this table, with names in different case.
        """
        paths = self.folders[folder][table]
        if len(paths) > 1:
            raise OneRosterError(f"{self.name} has {' and '.join(paths)}. Remove all but one of them.")
        return paths[0]

    def open(self, path: str) -> IO[bytes]:
        """Open one of the files for reading.

        Raises:
            OneRosterError: it cannot be opened.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the zip."""

    def failure(self, path: str, error: Exception) -> OneRosterError:
        """The error of a file whose reading failed."""
        if isinstance(error, OneRosterError):
            return error
        if isinstance(error, OSError):
            return OneRosterError(f"{path} in {self.name} cannot be read: {error.strerror or 'input/output error'}.")
        return OneRosterError(
            f"{path} in {self.name} is damaged. Export it again, or copy the zip again from where it came."
        )


class _Zip(Export):
    def __init__(self, packed: zipfile.ZipFile, name: str, limits: ExportLimits) -> None:
        self._packed = packed
        self._members = _members(packed, name, limits)
        super().__init__(name, limits, {path: member.file_size for path, member in self._members.items()})

    def open(self, path: str) -> IO[bytes]:
        member = self._members[path]
        if member.file_size > self.limits.file_bytes:
            raise OneRosterError(f"{path} in {self.name} is larger than {self.limits.file_bytes:,} bytes.")
        if member.file_size > max(_RATIO_FROM, self.limits.ratio * member.compress_size):
            raise OneRosterError(
                f"{path} in {self.name} would unpack to {member.file_size:,} bytes from {member.compress_size:,}; "
                "no list is packed so small. It was not read."
            )
        try:
            return self._packed.open(member)
        except (*_DAMAGE, OSError) as error:
            raise self.failure(path, error) from None

    def close(self) -> None:
        self._packed.close()


class _Folder(Export):
    def __init__(self, root: Path, limits: ExportLimits) -> None:
        self._root = root
        super().__init__(root.name or str(root), limits, _files_of(root, limits))

    def open(self, path: str) -> IO[bytes]:
        try:
            file = (self._root / path).open("rb")
        except OSError as error:
            raise self.failure(path, error) from None
        if self.sizes[path] > self.limits.file_bytes:
            file.close()
            raise OneRosterError(f"{path} in {self.name} is larger than {self.limits.file_bytes:,} bytes.")
        return file


@contextmanager
def open_export(source: Path | IO[bytes], limits: ExportLimits | None = None, name: str = "") -> Iterator[Export]:
    """Open an export for as long as the context lasts.

    Args:
        source: path of a zip or folder; or the bytes of a zip, as a file that can seek.
        limits: what it may have at most.
        name: what sentences call it; by default the name of the file.

    Raises:
        OneRosterError: it is not there, no export, damaged, has a password, leads outside, or is over a limit.
    """
    export = _opened(source, limits or ExportLimits(), name)
    try:
        yield export
    finally:
        export.close()


def _opened(source: Path | IO[bytes], limits: ExportLimits, name: str) -> Export:
    if isinstance(source, Path):
        name = name or source.name
        try:
            if source.is_dir():
                return _checked(_Folder(source, limits))
            mode = source.stat().st_mode
        except FileNotFoundError:
            raise OneRosterError(f"There is no file or folder {source}.") from None
        except OSError as error:
            raise OneRosterError(f"{source} cannot be read: {error.strerror}.") from None
        if not stat.S_ISREG(mode):
            raise OneRosterError(f"{source} is neither a file nor a folder.")
    name = name or "The file"
    try:
        packed = zipfile.ZipFile(source)
    except OSError as error:
        raise OneRosterError(f"{name} cannot be read: {error.strerror or 'input/output error'}.") from None
    except _DAMAGE:
        raise OneRosterError(
            f"{name} is not a zip file, or it is damaged. A OneRoster export is a zip or a folder of CSV files; export "
            "it again."
        ) from None
    try:
        return _checked(_Zip(packed, name, limits))
    except BaseException:
        packed.close()
        raise


def _checked(export: Export) -> Export:
    if not export.folders:
        raise OneRosterError(
            f"{export.name} has none of OneRoster's files, such as users.csv. Name the zip or folder of the export."
        )
    return export


def _members(packed: zipfile.ZipFile, name: str, limits: ExportLimits) -> dict[str, zipfile.ZipInfo]:
    members = packed.infolist()
    if len(members) > limits.members:
        raise OneRosterError(
            f"{name} has {counted(len(members), 'file')}; a OneRoster export has at most {limits.members:,}."
        )
    found: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        path = member.filename.replace("\\", "/")
        parts = path.split("/")
        if ".." in parts or path.startswith("/") or ":" in parts[0]:
            raise OneRosterError(f"{name} has a file whose path leads outside of it. It was not read.")
        if member.is_dir() or _ignored(parts):
            continue
        if path in found:
            raise OneRosterError(f"{name} has {path} twice. Export it again.")
        if _table_of(parts[-1]) and member.flag_bits & _ENCRYPTED:
            raise OneRosterError(f"{name} has a password. Export it without one, or unpack it and name the folder.")
        if _table_of(parts[-1]) and member.compress_type not in _COMPRESSIONS:
            # The others have no bound on what a few bytes unpack to.
            raise OneRosterError(f"{name} is compressed in an unusual way. Unpack it and name the folder.")
        found[path] = member
    return found


def _files_of(root: Path, limits: ExportLimits) -> dict[str, int]:
    found: dict[str, int] = {}
    waiting = [root]
    seen = 0
    while waiting:
        folder = waiting.pop()
        for path in sorted(folder.iterdir()):
            seen += 1
            if seen > limits.members:
                raise OneRosterError(
                    f"{root} has more than {counted(limits.members, 'file')}. Name the folder of the export."
                )
            parts = path.relative_to(root).parts
            if _ignored(parts):
                continue
            try:
                status = path.stat()
            except OSError:
                continue
            # A named pipe or device would keep the reader waiting; a linked folder could be a circle.
            if stat.S_ISREG(status.st_mode):
                found["/".join(parts)] = status.st_size
            elif stat.S_ISDIR(status.st_mode) and len(parts) < _DEEP and not path.is_symlink():
                waiting.append(path)
    return found


def _ignored(parts: tuple[str, ...] | list[str]) -> bool:
    return "__MACOSX" in parts or parts[-1].startswith("._") or parts[-1] in (".DS_Store", "Thumbs.db")


def _table_of(file: str) -> str | None:
    stem, _, ending = file.casefold().rpartition(".")
    return _KNOWN.get(stem) if ending == "csv" else None


@contextmanager
def text_of(export: Export, path: str, encoding: str | None) -> Iterator[tuple[IO[str], str, bool]]:
    """Open a file as text; line ends stay as they are, and what cannot be decoded becomes U+FFFD.

    Args:
        export: has the file.
        path: of the file.
        encoding: its encoding; None stands for UTF-8, or UTF-16 if it begins with that mark.

    Yields:
        The text, the encoding, and whether it begins with a byte order mark.
    """
    with export.open(path) as start:
        try:
            first = start.read(4)
        except (*_DAMAGE, OSError) as error:
            raise export.failure(path, error) from None
    utf8_mark = first.startswith(b"\xef\xbb\xbf")
    wide = first.startswith((b"\xff\xfe", b"\xfe\xff"))
    used = "utf-16" if wide else "utf-8-sig" if utf8_mark else encoding or "utf-8"
    with export.open(path) as file:
        try:
            text = io.TextIOWrapper(file, encoding=used, errors="replace", newline="")
        except LookupError:
            raise OneRosterError(f"There is no encoding {encoding!r}.") from None
        yield text, "utf-8" if utf8_mark else used, utf8_mark or wide


def lines_of(export: Export, path: str, text: IO[str]) -> Iterator[str]:
    """The lines of a file, each with its line end.

    Raises:
        OneRosterError: a line is too long, or the file is damaged.
    """
    limit = export.limits.line_characters
    number = 0
    try:
        while line := text.readline(limit):
            number += 1
            if len(line) >= limit and not line.endswith(("\n", "\r")):
                raise OneRosterError(
                    f"{path} in {export.name}, line {number}: it has more than {counted(limit, 'character')}. Export it again."
                )
            yield line
    except (*_DAMAGE, OSError) as error:
        raise export.failure(path, error) from None


def sample_of(export: Export, path: str, at_most: int = 65_536) -> bytes:
    """Lines of a file that have letters beyond ASCII, by which an encoding is recognised; the first `at_most` bytes."""
    found = bytearray()
    with export.open(path) as file:
        try:
            while len(found) < at_most and (line := file.readline(export.limits.line_characters)):
                if not line.isascii():
                    found += line
        except (*_DAMAGE, OSError) as error:
            raise export.failure(path, error) from None
    return bytes(found[:at_most])
