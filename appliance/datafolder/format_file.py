"""``format.json``: the format of a data folder, and the version of the program that wrote it.

It stays JSON that every version reads, so that an older program refuses a later format in words. So its checksum is a
last field: ``,"checksum":"..."}``, computed over all that is before that comma (`appliance.datafolder.sealed.seal_of`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from appliance import __version__
from appliance.datafolder.sealed import SEAL_BYTES, SealError, seal_of
from appliance.datafolder.small_file import SmallFile, copy_path
from appliance.errors import SettingsError

FORMAT = 4
FORMAT_FILE = "format.json"
_CHECKSUMS_SINCE = 3
_BEFORE, _AFTER = b',"checksum":"', b'"}'


class FormatFile(msgspec.Struct, frozen=True):
    """``format.json``: the format, and the version of the program that wrote it."""

    format: int
    program: str


def format_of(path: Path) -> int:
    """The format of a data folder; 0 where there is no data yet.

    Raises:
        SettingsError: ``format.json`` cannot be read, or names a later format.
    """
    file = format_file(path)
    try:
        found = file.read()
        there = file.path.exists()
        if not there:
            # The copy is written first, after all steps of an upgrade; a power cut may leave it alone.
            found = SmallFile(copy_path(file.path), FormatFile, lost="", decode=decode_format).read()
    except OSError as error:
        raise SettingsError(f"{file.path} cannot be read: {error.strerror}.") from error
    if found is None and there and copy_path(file.path).exists():
        raise SettingsError(
            f'{file.path} and its copy are damaged. They should say {{"format":{FORMAT},"program":"..."}}: write that '
            "into the first, and remove the second, if this version wrote them; otherwise restore a backup."
        )
    if found is None and there:
        # Format 1 has no such file, and later ones have a copy of it.
        return 2
    if found is None:
        return 1 if (path / "archive").is_dir() or (path / "credentials.json").exists() else 0
    if found.format > FORMAT:
        raise SettingsError(
            f"The data folder {path} was written by version {found.program}, in a format that this version "
            f"({__version__}) does not know. Install the newer version again, or restore a backup."
        )
    if found.format >= _CHECKSUMS_SINCE:
        # A backup of an earlier format holds the files as they were.
        file.mend(found)
    return found.format


def write_format(path: Path) -> None:
    """Write the present format.

    Raises:
        OSError: it cannot be written.
    """
    file = format_file(path)
    # What is damaged is kept.
    file.read()
    file.write(FormatFile(FORMAT, __version__))


def format_file(path: Path) -> SmallFile[FormatFile]:
    """The file of a data folder."""
    return SmallFile(path / FORMAT_FILE, FormatFile, copied=True, lost="", encode=_encode, decode=decode_format)


def _encode(value: FormatFile) -> bytes:
    text = msgspec.json.encode(value).removesuffix(b"}")
    return text + _BEFORE + seal_of(text) + _AFTER + b"\n"


def decode_format(content: bytes, kind: Any) -> FormatFile:
    """Read the file.

    Raises:
        SealError: its checksum is wrong, or is missing and should be there.
        msgspec.DecodeError, UnicodeDecodeError: it is no JSON of this type.
    """
    found: FormatFile = msgspec.json.decode(content, type=kind)
    text = content.removesuffix(b"\n").removesuffix(_AFTER)
    text, checksum = text[:-SEAL_BYTES], text[-SEAL_BYTES:]
    if text.endswith(_BEFORE):
        if checksum != seal_of(text.removesuffix(_BEFORE)):
            raise SealError("The checksum is wrong.")
    elif _CHECKSUMS_SINCE <= found.format <= FORMAT:
        raise SealError("The checksum is missing.")
    return found
