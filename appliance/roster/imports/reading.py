"""Reading of a list from a file, whatever kind it is."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from appliance.roster.imports.model import Incoming, ReadOptions, RosterImportError
from appliance.roster.imports.packages import read_package
from appliance.roster.imports.plain import read_plain
from appliance.roster.limits import RosterLimits

_ZIP = b"PK\x03\x04"
_OLD_EXCEL = b"\xd0\xcf\x11\xe0"


def read_path(path: Path, options: ReadOptions, limits: RosterLimits) -> Incoming:
    """Read a list from a file, or a OneRoster export from a zip or folder. Blocks.

    Raises:
        RosterImportError: it cannot be read; the text says why and what to do.
    """
    try:
        if path.is_dir():
            return read_package(path, path.name, options, limits)
        with path.open("rb") as file:
            # A zip is read from the disk, a list from memory.
            content = file.read(limits.file_bytes + 1)
    except FileNotFoundError:
        raise RosterImportError(f"There is no file {path}.") from None
    except OSError as error:
        raise RosterImportError(f"{path} cannot be read: {error.strerror}.") from None
    if content.startswith(_ZIP):
        _check_is_no_spreadsheet(path, path.name)
        return read_package(path, path.name, options, limits)
    return read_bytes(content, path.name, options, limits)


def read_bytes(
    content: bytes | str, name: str, options: ReadOptions, limits: RosterLimits, *, pasted: bool = False
) -> Incoming:
    """Read a list that was sent, or text that was pasted. Blocks.

    Raises:
        RosterImportError: it cannot be read; the text says why and what to do.
    """
    if isinstance(content, bytes):
        if content.startswith(_OLD_EXCEL):
            raise _spreadsheet(name)
        if content.startswith(_ZIP):
            _check_is_no_spreadsheet(io.BytesIO(content), name)
            return read_package(content, name, options, limits)
    return read_plain(content, name, options, limits, pasted=pasted)


def _check_is_no_spreadsheet(file: Path | io.BytesIO, name: str) -> None:
    try:
        with zipfile.ZipFile(file) as packed:
            names = set(packed.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return
    if {"xl/workbook.xml", "content.xml"} & names:
        raise _spreadsheet(name)


def _spreadsheet(name: str) -> RosterImportError:
    return RosterImportError(f"{name} is a spreadsheet's own file. Save it as CSV (UTF-8) first.")
