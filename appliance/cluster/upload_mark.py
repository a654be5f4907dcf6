"""``store.json`` in the data folder: how much of this node's archive the shared store has for sure."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from appliance.archive import BEGINNING, Position
from appliance.datafolder.small_file import SmallFile

log = logging.getLogger(__name__)

FILE = "store.json"


class UploadMark(msgspec.Struct, frozen=True):
    """How much of the archive is in the store.

    Attributes:
        generation: the store's generation to which this node has uploaded its archive; "" before the first time.
        position: the position in the archive up to which the store has everything for sure.
        nodes: names of the other nodes that were there.
    """

    generation: str = ""
    position: Position = BEGINNING
    nodes: list[str] = []


class UploadMarkFile:
    """The mark, and its file.

    Attributes:
        path: the file.
        mark: the last mark that was read or written.
    """

    def __init__(self, folder: Path) -> None:
        """Args:
        folder: the data folder.
        """
        self.path = folder / FILE
        self._file: SmallFile[UploadMark] = SmallFile(self.path, UploadMark)
        self.mark = UploadMark()
        self._noted: Position | None = None

    def load(self) -> None:
        """Read the file. A file that is damaged counts as none, so the whole archive is compared with the store."""
        try:
            found = self._file.read()
        except OSError:
            found = None
        if found is not None:
            self.mark = found
        elif self.path.exists():
            log.warning("%s cannot be read; the whole archive is compared with the store.", self.path)

    def save(self, mark: UploadMark) -> None:
        """Write a mark, if it is another one.

        Raises:
            OSError: it cannot be written.
        """
        if mark != self.mark:
            self._file.write(mark)
            self.mark = mark

    def note(self, position: Position) -> None:
        """Save the position that was noted before this one: a store may lose its last seconds, but not more.

        Raises:
            OSError: it cannot be written.
        """
        before, self._noted = self._noted, position
        if before is not None:
            self.save(msgspec.structs.replace(self.mark, position=before))

    def add_nodes(self, names: Iterable[str]) -> None:
        """Save the names of other nodes.

        Raises:
            OSError: they cannot be written.
        """
        known = set(self.mark.nodes)
        if new := set(names) - known:
            self.save(msgspec.structs.replace(self.mark, nodes=sorted(known | new)))
