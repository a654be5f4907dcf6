"""Search: reads every byte of a data folder, and of what is packed in its files, for what identifies a student.

Sought are the student's id, the ids of the streams, and the names. A text is sought in the forms in which the program
and a spreadsheet write it (JSON with and without escapes, UTF-8, UTF-16, code page 1252). Gzip files, backups (tar) and
zip files are unpacked, also one within another; other packed forms are named, since nothing can be found in them.
"""

from __future__ import annotations

import gzip
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

import msgspec

from appliance.datafolder.traces import json_forms

ID_CHARACTERS = 8
"""A shorter id or stream id is not sought: it occurs in other texts by chance, which proves nothing."""
NAME_CHARACTERS = 4
"""Likewise for a name."""
_PIECE_BYTES = 1 << 20
_DEEPEST = 4
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
# bzip2, xz, zstd, 7z, Parquet: https://en.wikipedia.org/wiki/List_of_file_signatures
_OPAQUE = (b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"PAR1")
_TAR_MAGIC = slice(257, 262)
# Most streams have such an id; a student may have hundreds of them.
_UUID = re.compile(rb"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_UUID_BYTES = 36
_UNPACKING = (EOFError, OSError, zlib.error, tarfile.TarError, zipfile.BadZipFile, RuntimeError, NotImplementedError)

ID, STREAM, NAME = "id", "stream", "name"


class Sought(msgspec.Struct, frozen=True):
    """What identifies a student."""

    student_id: str
    streams: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def searchable(self) -> dict[str, list[str]]:
        """The texts of each kind that are long enough."""
        return {
            ID: [self.student_id] if len(self.student_id) >= ID_CHARACTERS else [],
            STREAM: [one for one in self.streams if len(one) >= ID_CHARACTERS],
            NAME: [one for one in self.names if len(one) >= NAME_CHARACTERS],
        }


class Searched(msgspec.Struct):
    """The result for one kind of place.

    Attributes:
        place: such as ``archive``; ``other files`` for files that no part of the program knows.
        files: number of its files.
        bytes: number of bytes that were read, those of unpacked content included.
        found: by kind of text, the number of files that hold one.
    """

    place: str
    files: int = 0
    bytes: int = 0
    found: dict[str, int] = msgspec.field(default_factory=lambda: {ID: 0, STREAM: 0, NAME: 0})


class Occurrence(msgspec.Struct, frozen=True):
    """A file that holds something of what was sought, in its content or its name.

    Attributes:
        file: its name; `masked` where the name holds something itself.
        kinds: of the texts that were found.
        path: where it is.
    """

    file: str
    kinds: list[str]
    path: str = ""


class Unread(msgspec.Struct, frozen=True):
    """A file of which not everything could be searched, and the reason."""

    file: str
    reason: str


class Search(msgspec.Struct):
    """The result of a search."""

    places: list[Searched] = []
    found: list[Occurrence] = []
    unread: list[Unread] = []


class Matcher:
    """Finds which kinds of text some bytes hold."""

    def __init__(self, sought: Sought) -> None:
        texts = sought.searchable
        streams = texts[STREAM]
        self._uuids = {one.encode().lower() for one in streams if _UUID.fullmatch(one.encode("utf-8", "replace"))}
        others = [one for one in streams if one.encode("utf-8", "replace").lower() not in self._uuids]
        self._forms = {
            ID: _forms(texts[ID]),
            STREAM: _forms(others),
            NAME: _forms(texts[NAME]),
        }
        lengths = [len(form) for forms in self._forms.values() for form in forms]
        self.longest = max([*lengths, _UUID_BYTES if self._uuids else 1])

    def kinds(self, content: bytes) -> set[str]:
        """The kinds of text that some bytes hold."""
        found = {kind for kind, forms in self._forms.items() if any(form in content for form in forms)}
        if self._uuids and any(match[0].lower() in self._uuids for match in _UUID.finditer(content)):
            found.add(STREAM)
        return found

    def kinds_of_text(self, text: str) -> set[str]:
        """Likewise, of a name of a file."""
        return self.kinds(text.encode("utf-8", "surrogateescape"))


def search(folders: Iterable[Path], sought: Sought, own: Iterable[str], ignored: Iterable[Path] = ()) -> Search:
    """Search all files of some folders.

    Args:
        folders: the data folder first; others are within or beside it. A file is searched alone.
        sought: what to find.
        own: the names of files and folders that the program gives at the top of a data folder.
        ignored: files that are left out.
    """
    return _Searching(sought, frozenset(own), frozenset(ignored)).run(folders)


class _Searching:
    def __init__(self, sought: Sought, own: frozenset[str], ignored: frozenset[Path]) -> None:
        self._matcher = Matcher(sought)
        self._own = own
        self._ignored = ignored
        self._places: dict[str, Searched] = {}
        self._result = Search()
        self._read = 0

    def run(self, folders: Iterable[Path]) -> Search:
        seen: set[Path] = set()
        for folder in folders:
            for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
                if path not in seen and path not in self._ignored and path.is_file():
                    self._file(folder if folder.is_dir() else folder.parent, path)
                seen.add(path)
        self._result.places = [self._places[name] for name in sorted(self._places)]
        return self._result

    def _file(self, folder: Path, path: Path) -> None:
        name = path.relative_to(folder).as_posix()
        in_name = self._matcher.kinds_of_text(name)
        shown = masked(name) if in_name else name
        place = self._places.setdefault(self._place_of(name), Searched(self._place_of(name)))
        place.files += 1
        kinds = set(in_name)
        read_before = self._read
        try:
            with path.open("rb") as file:
                for content in self._contents(file, shown, _DEEPEST):
                    kinds |= self._matcher.kinds(content)
        except OSError as error:
            self._result.unread.append(Unread(shown, error.strerror or type(error).__name__))
        place.bytes += self._read - read_before
        for kind in kinds:
            place.found[kind] += 1
        if kinds:
            self._result.found.append(Occurrence(shown, sorted(kinds), str(path)))

    def _place_of(self, name: str) -> str:
        first, *rest = PurePosixPath(name).parts
        if first in self._own:
            return first
        # The data folders of workers and of what a restore moved aside.
        nested = [part for part in rest if part in self._own]
        return nested[0] if nested else "other files"

    def _contents(self, file: IO[bytes], shown: str, depth: int) -> Iterator[bytes]:
        """The pieces of a file, and of what is packed in it; each overlaps the one before it."""
        before = head = b""
        for piece in iter(lambda: file.read(_PIECE_BYTES), b""):
            head = head or piece[:512]
            self._read += len(piece)
            yield before + piece
            before = (before + piece)[-self._matcher.longest :]
        if not depth:
            return
        if head.startswith(_OPAQUE):
            self._result.unread.append(Unread(shown, "it is packed in a form that cannot be searched"))
        file.seek(0)
        try:
            yield from self._unpacked(file, head, shown, depth)
        except _UNPACKING as error:
            self._result.unread.append(
                Unread(shown, f"it is damaged, and was searched as it is: {type(error).__name__}")
            )

    def _unpacked(self, file: IO[bytes], head: bytes, shown: str, depth: int) -> Iterator[bytes]:
        if head.startswith(_GZIP):
            with gzip.GzipFile(fileobj=file, mode="rb") as inner:
                yield from self._contents(cast(IO[bytes], inner), shown, depth - 1)
        elif head.startswith(_ZIP):
            with zipfile.ZipFile(file) as packed:
                for info in packed.infolist():
                    with packed.open(info) as inner:
                        yield from self._contents(inner, shown, depth - 1)
        elif head[_TAR_MAGIC] == b"ustar":
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    content = tar.extractfile(member) if member.isreg() else None
                    if content is not None:
                        yield from self._contents(content, shown, depth - 1)


def masked(name: str) -> str:
    """A name of a file in which something of the student was found, without it."""
    path = PurePosixPath(name)
    return f"(a name that holds the student's){path.suffix if len(path.suffix) <= 8 else ''}"


def _forms(texts: Iterable[str]) -> list[bytes]:
    found: dict[bytes, None] = {}
    for text in texts:
        utf16 = [text.encode(name, "surrogatepass") for name in ("utf-16-le", "utf-16-be")]
        for form in (*json_forms(text), *utf16, text.encode("cp1252", "ignore")):
            # What the code page does not have would leave a part, which may occur by chance.
            if len(form) >= len(text):
                found[form] = None
    return list(found)
