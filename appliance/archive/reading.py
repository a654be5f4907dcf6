"""Reading lines of the archive: of a folder from a position on, or of single files, plain or compressed."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from appliance.archive.records import Damage, Line, Record, parse_line
from appliance.archive.segments import BEGINNING, Position, numbered_segments, open_segment, uncompressed_bytes
from appliance.errors import ArchiveError


class Reader:
    """Reads an archive folder from a position to its present end, and further when more was written.

    Attributes:
        position: the end of what was read.
        line: the line that was read last.
    """

    def __init__(self, folder: Path, start: Position = BEGINNING) -> None:
        self.folder = folder
        self.position = start
        self.line: Line | None = None

    def remaining_bytes(self) -> int:
        """How much text is still to come."""
        number, byte = self.position
        return sum(uncompressed_bytes(path) for n, path in numbered_segments(self.folder) if n >= number) - byte

    def records(self, end: Position | None = None) -> Iterator[Record | Damage]:
        """The lines up to `end`, which is the beginning of a line; without it, all there are.

        Raises:
            ArchiveError: a segment cannot be read.
        """
        for number, path in numbered_segments(self.folder):
            if number < self.position.segment:
                continue
            if end is not None and number > end.segment:
                return
            if number > self.position.segment:
                self.position = Position(number, 0)
            for line in lines(path, self.position.byte):
                if end is not None and (number, line.end) > end:
                    return
                self.position = Position(number, line.end)
                self.line = line
                yield line.record


def lines(path: Path, byte: int = 0) -> Iterator[Line]:
    """The lines of one archive file from a byte of its uncompressed text on; damaged ones come as `Damage`.

    Raises:
        ArchiveError: it is not there or cannot be read.
    """
    with open_segment(path) as file:
        yield from _lines(path, file, byte)


def read(paths: Iterable[Path]) -> Iterator[Record | Damage]:
    """The lines of archive files and of folders of segments, one after the other.

    Raises:
        ArchiveError: a file is not there or cannot be read.
    """
    for path in paths:
        if path.is_dir():
            yield from Reader(path).records()
        else:
            yield from (line.record for line in lines(path))


def _lines(path: Path, file: IO[bytes] | gzip.GzipFile, byte: int) -> Iterator[Line]:
    number = 0
    name = path.name

    def broken(error: Exception) -> Line:
        damage = Damage(name, number + 1, byte, f"the compressed file is damaged: {type(error).__name__}")
        return Line(damage, name, number + 1, byte, byte)

    try:
        file.seek(byte)
    except (EOFError, gzip.BadGzipFile, OSError, zlib.error) as error:
        yield broken(error)
        return
    while True:
        try:
            text = file.readline()
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            yield broken(error)
            return
        except OSError as error:
            raise ArchiveError(f"The archive file {path} cannot be read: {error.strerror or error}.") from error
        if not text:
            return
        number += 1
        start = byte
        byte += len(text)
        if text.strip():
            yield Line(parse_line(text, name, number, start), name, number, start, byte)
