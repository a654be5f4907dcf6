"""Small file: one JSON value with a checksum (`appliance.datafolder.sealed`), and a second copy where it matters.

A file that was damaged is restored from its copy, ``NAME-copy.json``; the damaged content is kept beside it
(`appliance.datafolder.damaged_lines`), and what happened is noted (`appliance.datafolder.notes`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from appliance.datafolder import files, notes, sealed
from appliance.datafolder.damaged_lines import put_aside

log = logging.getLogger(__name__)

T = TypeVar("T")

UNREADABLE = (sealed.SealError, msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Errors that say that a file is damaged."""


def copy_path(path: Path) -> Path:
    """The copy of a file."""
    return path.with_name(f"{path.stem}-copy{path.suffix}")


class SmallFile(Generic[T]):
    """A file that holds one value.

    Attributes:
        path: the file.
    """

    def __init__(
        self,
        path: Path,
        kind: type[T] | Any,
        *,
        copied: bool = False,
        lost: str = "datafolder.lost",
        encode: Callable[[T], bytes] = sealed.encode,
        decode: Callable[[bytes, Any], T] = sealed.decode,
    ) -> None:
        """Args:
        path: the file.
        kind: the type of its value.
        copied: whether there is a copy of it.
        lost: the code of the finding that it is damaged and has no copy that can be used; "" for none.
        encode: writes the value as the content of the file.
        decode: reads it; one of `UNREADABLE` is raised for what is damaged.
        """
        self.path = path
        self._kind = kind
        self._copied = copied
        self._lost = lost
        self._encode = encode
        self._decode = decode
        self._damaged: list[bytes] = []
        self._writing = threading.Lock()

    def read(self) -> T | None:
        """The value; None if there is no file, or neither it nor its copy can be used. Writes nothing.

        Raises:
            OSError: the file cannot be read.
        """
        self._damaged = []
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            # Somebody removed it to begin anew; a copy alone does not undo that.
            return None
        value = self._value(content)
        copy = self._read_copy() if self._copied else None
        if value is not None:
            return value
        self._damaged.append(content)
        if copy is not None:
            notes.note("datafolder.restored", self.path, self.path.name)
        elif self._lost:
            notes.note(self._lost, self.path, self.path.name)
        return copy

    def write(self, value: T) -> None:
        """Write the value durably, after its copy.

        Raises:
            OSError: it cannot be written; a start finds the earlier value, or this one.
        """
        content = self._encode(value)
        with self._writing:
            if self._damaged:
                put_aside(self.path, self._damaged)
                self._damaged = []
            if self._copied:
                files.write_private(copy_path(self.path), content)
            files.write_private(self.path, content)

    def mend(self, value: T) -> None:
        """Write the value if a file was damaged, or a copy is missing, when it was read. A full disk is no error."""
        if not self._damaged and self.path.exists() and (not self._copied or copy_path(self.path).exists()):
            return
        try:
            self.write(value)
        except OSError as error:
            log.warning("%s cannot be written: %s.", self.path, error.strerror)

    def remove(self) -> None:
        """Remove the file and its copy.

        Raises:
            OSError: it cannot be removed.
        """
        # Without its file a copy counts for nothing, so it goes first: no power cut leaves it alone.
        if self._copied:
            files.remove(copy_path(self.path))
        files.remove(self.path)

    def _read_copy(self) -> T | None:
        path = copy_path(self.path)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        value = self._value(content)
        if value is None:
            self._damaged.append(content)
            notes.note("datafolder.copy_damaged", path, path.name)
        return value

    def _value(self, content: bytes) -> T | None:
        try:
            return self._decode(content, self._kind)
        except UNREADABLE:
            return None
