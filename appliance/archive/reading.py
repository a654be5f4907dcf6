"""Reading lines of the archive: of a folder from a position on, or of single files, plain or compressed."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from appliance.archive.chain import GROUP_END, SUFFIX_BYTES
from appliance.archive.checking import EMPTY, BrokenLink, ChainState, SegmentCheck, SegmentLines
from appliance.archive.ends import first_group
from appliance.archive.merged_students import Owners
from appliance.archive.records import Damage, Line, Record
from appliance.archive.segments import (
    BEGINNING,
    Position,
    numbered_segments,
    open_segment,
    segments,
    uncompressed_bytes,
)


class Reader:
    """Reads an archive folder from a position to its present end, and further when more was written.

    An unfinished group at the end of the last segment is left for the next time. A line of a student who was merged has
    the id of the student who stays.

    Attributes:
        position: the end of the last group of which all lines were read.
        line: the line that was read last.
    """

    def __init__(self, folder: Path, start: Position = BEGINNING) -> None:
        """Args:
        folder: the archive.
        start: where a group begins, in formats 1 and 2 a line. Where none does, the segment is read from its
            beginning: lines that come again are skipped by who applies them.
        """
        self.folder = folder
        self.position = start
        self.line: Line | None = None
        self._owners = Owners(folder)
        self._segment = start.segment
        self._state = ChainState(from_beginning=start == BEGINNING)

    @property
    def broken_links(self) -> list[BrokenLink]:
        """The breaks of the chain that were found so far, without empty files (`appliance.archive.file_checks`)."""
        return [link for link in self._state.broken if link.reason != EMPTY]

    @property
    def checks(self) -> list[SegmentCheck]:
        """The result of each segment that was read."""
        return list(self._state.checks.values())

    def remaining_bytes(self) -> int:
        """How much text is still to come."""
        number, byte = self.position
        if self.line is not None and self._segment == number:
            byte = max(byte, self.line.end)
        return sum(uncompressed_bytes(path) for n, path in numbered_segments(self.folder) if n >= number) - byte

    def records(self, end: Position | None = None) -> Iterator[Record | Damage]:
        """The lines up to `end`, which is the beginning of a group; without it, all there are.

        Raises:
            ArchiveError: a segment cannot be read.
        """
        merged = bool(self._owners.merged)
        there = numbered_segments(self.folder)
        paths = [path for _, path in there]
        for at, (number, path) in enumerate(there, 1):
            if number < self.position.segment:
                continue
            if end is not None and number > end.segment:
                return
            if number > self.position.segment:
                self.position = Position(number, 0)
            elif self.position.byte and self.line is None:
                self._find_place(path)
            reading = SegmentLines(path, self._state, paths[at:], reports_unfinished=False)
            last = end.byte if end is not None and number == end.segment else None
            for some in _lines(path, reading, self.position.byte, last):
                self._segment = number
                for line in some:
                    self.line = line
                    yield self._owners.of(line.record) if merged else line.record
                self.position = Position(number, reading.byte)

    def _find_place(self, path: Path) -> None:
        """Begin with the whole segment if no group begins at the position, as after the segment was rewritten."""
        byte = self.position.byte
        try:
            with open_segment(path) as file:
                file.seek(max(0, byte - SUFFIX_BYTES))
                before = file.read(min(byte, SUFFIX_BYTES))
        except (EOFError, gzip.BadGzipFile, OSError, zlib.error):
            # Reading reports it.
            return
        if found := GROUP_END.fullmatch(before):
            self._state.own = found[2]
        elif len(before) < min(byte, SUFFIX_BYTES) or not before.endswith(b"\n") or first_group(path) is not None:
            self.position = Position(self.position.segment, 0)


def lines(path: Path, byte: int = 0) -> Iterator[Line]:
    """The lines of one archive file from a byte of its uncompressed text on; damaged ones come as `Damage`.

    Raises:
        ArchiveError: it is not there or cannot be read.
    """
    state = ChainState(from_beginning=False)
    for some in _lines(path, SegmentLines(path, state, reports_unfinished=True), byte, None):
        yield from some


class FileLines:
    """The lines of archive files that follow each other.

    Attributes:
        broken_links: breaks of the chain between files of one folder that follow each other there.
    """

    def __init__(self, files: Iterable[Path], end: int | None = None) -> None:
        """Args:
        files: in their order.
        end: the byte of the last file's text at which reading ends; None for its end.
        """
        self._files = list(files)
        self._end = end
        self.broken_links: list[BrokenLink] = []

    def __iter__(self) -> Iterator[Line]:
        """Read them.

        Raises:
            ArchiveError: a file is not there or cannot be read.
        """
        state: ChainState | None = None
        before: Path | None = None
        there: list[Path] = []
        listed: list[str] = []
        for path in self._files:
            if before is None or path.parent != before.parent:
                there = segments(path.parent)
                listed = [_plain_name(other) for other in there]
            name = _plain_name(path)
            earlier = listed[listed.index(name) - 1] if name in listed[1:] else None
            if state is None or before is None or earlier != _plain_name(before):
                state = ChainState(from_beginning=name == listed[0] if listed else False)
                state.broken = self.broken_links
            before = path
            later = there[listed.index(name) + 1 :] if name in listed else []
            reading = SegmentLines(path, state, later, reports_unfinished=True)
            for some in _lines(path, reading, 0, self._end if path == self._files[-1] else None):
                yield from some


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


def _plain_name(path: Path) -> str:
    """A segment's name without ``.gz``: it may have been compressed since it was listed."""
    return path.name.removesuffix(".gz")


def _lines(path: Path, reading: SegmentLines, byte: int, end: int | None) -> Iterator[Iterable[Line]]:
    with open_segment(path) as file:
        try:
            file.seek(byte)
            empty = isinstance(file, gzip.GzipFile) and not byte and not file.peek(1) and not path.stat().st_size
        except (EOFError, gzip.BadGzipFile, OSError, zlib.error) as error:
            yield reading.unreadable(byte, f"the compressed file is damaged: {type(error).__name__}")
            return
        if empty:
            reading.empty()
            return
        yield from reading.read(file, byte, end)
