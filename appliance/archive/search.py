"""Searching the archive: the lines of some students or of a span of time, without reading the others.

Of a compressed segment the blocks are read that its index names; each has a checksum there, and its commit groups were
checked when the index was built. Blocks that were damaged then are always read. Of a plain segment, as the newest is,
the groups are checked and parsed that have a student's id in their bytes. What turns out to be damaged is read line by
line, as `Reader` reads it, and reported whoever's it is.
"""

from __future__ import annotations

import os
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO

import msgspec

from appliance.archive.chain import GROUP_BYTES, GROUP_END, checksum
from appliance.archive.ends import complete_bytes
from appliance.archive.index import DamagedIndexError, Index, IndexedBlock, block_checksum, is_of, read_summary
from appliance.archive.indexing import build_index, has_checksums, parsed, pieces, stored_index
from appliance.archive.members import block_text
from appliance.archive.merged_students import Owners
from appliance.archive.reading import Reader, lines
from appliance.archive.records import Damage, Line, Record, parse_line
from appliance.archive.segments import SEGMENT_NAME, compressed, numbered_segments, open_segment
from appliance.errors import ArchiveError

_SEARCHED_STUDENTS = 8
"""Of more students all lines of a block are parsed: searching its bytes for each would take longer."""
_BATCH = 16
_THREADS = 4
_AHEAD = 8
_PLAIN_ID = re.compile(r"[A-Za-z0-9 _.:@+-]+")
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
_PIECE_BYTES = 1 << 20
_SCANNED_BYTES = 1 << 16
"""Size of a piece of a plain segment; pieces that the processor's cache holds are searched faster than larger ones."""
_AT = re.compile(rb'\{"received":\d+\.\d{3},"at":(\d+\.\d{3}),"student_id":"')
"""The beginning of a line as the program writes it, with the event's time."""
_CHAIN = b',"chain":"'


class Selection(msgspec.Struct, frozen=True):
    """Which lines are wanted.

    Attributes:
        students: ids; None for all.
        since: events from this time on, by the time at which they were done (``at``), in seconds since the epoch.
        until: events before this time.
    """

    students: frozenset[str] | None = None
    since: float | None = None
    until: float | None = None

    def takes(self, record: Record | Damage) -> bool:
        """Whether a line is wanted; damage always is."""
        return isinstance(record, Damage) or (
            (self.students is None or record.student_id in self.students)
            and (self.since is None or record.at >= self.since)
            and (self.until is None or record.at < self.until)
        )

    def overlaps(self, first_at: float, last_at: float) -> bool:
        """Whether a span of times has some that are wanted."""
        return (self.since is None or last_at >= self.since) and (self.until is None or first_at < self.until)

    def needles(self) -> list[bytes] | None:
        """The bytes of the students' ids as lines have them; None where all lines are to be parsed."""
        if self.students is None or len(self.students) > _SEARCHED_STUDENTS:
            return None
        # Every writer of JSON leaves such an id as it is.
        if not all(_PLAIN_ID.fullmatch(student_id) for student_id in self.students):
            return None
        return [b'"%b"' % student_id.encode() for student_id in self.students]


def read(
    paths: Path | Iterable[Path],
    *,
    student: str | None = None,
    since: float | None = None,
    until: float | None = None,
) -> Iterator[Record | Damage]:
    """The lines of archive files and of folders of segments, in the order in which they were written.

    A line of a student who was merged has the id of the student who stays.

    Args:
        paths: files and folders, one after the other.
        student: the id of the student whose lines are wanted; None for all.
        since: events from this time on, by the time at which they were done (``at``), in seconds since the epoch.
        until: events before this time.

    Raises:
        ArchiveError: a file is not there or cannot be read.
    """
    for path in (paths,) if isinstance(paths, Path) else paths:
        owners = Owners(path if path.is_dir() else path.parent)
        selection = Selection(None if student is None else owners.ids_of(student), since, until)
        if selection == Selection():
            yield from Reader(path).records() if path.is_dir() else (owners.of(line.record) for line in lines(path))
        else:
            files = [file for _, file in numbered_segments(path)] if path.is_dir() else [path]
            for file in files:
                yield from (owners.of(line.record) for line in selected_lines(file, selection, numbered=False))


def selected_lines(path: Path, selection: Selection, *, numbered: bool = True) -> Iterator[Line]:
    """The wanted lines of one archive file, and its damaged ones as far as they are met.

    Args:
        path: the file.
        selection: what is wanted.
        numbered: whether the numbers of the lines are wanted, which have to be counted.

    Raises:
        ArchiveError: it is not there or cannot be read.
    """
    try:
        if path.suffix != ".gz" and path.exists():
            yield from _plain_lines(path, selection, numbered)
            return
        packed = path if path.suffix == ".gz" else compressed(path)
        with packed.open("rb") as file:
            if _is_past(packed, file, selection):
                return
            index = stored_index(packed) or build_index(packed)
            if index is None:
                yield from _filtered(packed, selection, 0, None)
            elif index.blocks and not index.blocks[0].offset:
                yield from _whole_file_lines(packed, index, selection, numbered)
            else:
                yield from _block_lines(packed, file, index, selection, numbered)
    except FileNotFoundError:
        raise ArchiveError(f"There is no archive file {path}.") from None
    except OSError as error:
        raise ArchiveError(f"The archive file {path} cannot be read: {error.strerror or error}.") from error


def _is_past(path: Path, file: IO[bytes], selection: Selection) -> bool:
    """Whether the summary of a segment's index says that none of its lines is wanted."""
    try:
        summary = read_summary(path)
    except DamagedIndexError:
        return False
    if summary is None or summary.damaged or not is_of(summary, file):
        return False
    return not selection.overlaps(summary.first_at, summary.last_at)


def _filtered(path: Path, selection: Selection, byte: int, end: int | None, number: int = 1) -> Iterator[Line]:
    """The lines from a byte on, read one by one."""
    for line in lines(path, byte):
        if end is not None and line.byte >= end:
            return
        if selection.takes(line.record):
            yield _renumbered(line, number - 1)


def _renumbered(line: Line, more: int) -> Line:
    if not more:
        return line
    record = line.record
    if isinstance(record, Damage):
        record = msgspec.structs.replace(record, line=record.line + more)
    return line._replace(record=record, number=line.number + more)


def _block_lines(path: Path, file: IO[bytes], index: Index, selection: Selection, numbered: bool) -> Iterator[Line]:
    needles = None if index.escaped else selection.needles()

    def found(block: IndexedBlock, data: bytes) -> list[Line] | None:
        text = _text(block, data)
        if text is None:
            return None
        piece = _Piece(path.name, text, block.line, block.byte, numbered)
        return list(piece.found(piece.lines(needles), selection))

    for block, lines_found in _in_threads(file, _wanted_blocks(index, selection), found):
        if lines_found is not None:
            yield from lines_found
            continue
        if block.whole and not block.own:
            # No chain shows which of its lines are right.
            reason = "the compressed lines have another checksum than the index says"
            damage = Damage(path.name, block.line, block.byte, reason)
            yield Line(damage, path.name, block.line, block.byte, block.byte)
        yield from _filtered(path, selection, block.byte, block.byte + block.size, block.line)


def _wanted_blocks(index: Index, selection: Selection) -> list[IndexedBlock]:
    """The blocks that may have wanted lines, damaged ones included."""
    wanted: set[int] | None = None
    if selection.students is not None:
        try:
            found = [index.student(student_id) for student_id in selection.students]
            wanted = {number for student in found if student for number in _bits(student.blocks)}
        except DamagedIndexError:
            # Reading all blocks takes longer, and gives the same lines.
            wanted = None
    return [
        block
        for number, block in enumerate(index.blocks)
        if (wanted is None or number in wanted or not block.whole)
        and (not block.last_received or selection.overlaps(block.first_at, block.last_at))
    ]


def _bits(bits: bytes) -> Iterator[int]:
    """The numbers of the bits that are set."""
    for number, byte in enumerate(bits):
        for bit in range(8) if byte else ():
            if byte >> bit & 1:
                yield 8 * number + bit


def _in_threads(
    file: IO[bytes], wanted: list[IndexedBlock], work: Callable[[IndexedBlock, bytes], list[Line] | None]
) -> Iterator[tuple[IndexedBlock, list[Line] | None]]:
    """The blocks, each with the result of some work on its compressed data.

    Most of the work runs without the lock of the interpreter. Threads that need it for short times each, and in turn,
    wait less for it than a thread that decompresses waits for one that parses.
    """

    def work_on(batch: list[tuple[IndexedBlock, bytes]]) -> list[tuple[IndexedBlock, list[Line] | None]]:
        return [(block, work(block, data)) for block, data in batch]

    batches = [wanted[start : start + _BATCH] for start in range(0, len(wanted), _BATCH)]
    if len(batches) < 2:
        for batch in batches:
            yield from work_on(_data(file, batch))
        return
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
        waiting: deque[Future[list[tuple[IndexedBlock, list[Line] | None]]]] = deque()
        for batch in batches:
            waiting.append(threads.submit(work_on, _data(file, batch)))
            if len(waiting) > _AHEAD:
                yield from waiting.popleft().result()
        for future in waiting:
            yield from future.result()


def _data(file: IO[bytes], batch: list[IndexedBlock]) -> list[tuple[IndexedBlock, bytes]]:
    """Some blocks, each with its compressed data."""
    found = []
    for block in batch:
        file.seek(block.offset)
        found.append((block, file.read(block.length)))
    return found


def _text(block: IndexedBlock, data: bytes) -> bytes | None:
    """The text of a block; None where it is damaged."""
    if not block.whole or block_checksum(data) != block.checksum:
        return None
    try:
        text = block_text(data, block.size)
    except zlib.error:
        return None
    return text if len(text) == block.size else None


def _whole_file_lines(path: Path, index: Index, selection: Selection, numbered: bool) -> Iterator[Line]:
    """The lines of a compressed segment that an earlier version wrote, and that cannot be read in parts."""
    if not _wanted_blocks(index, selection):
        return
    if index.damaged:
        yield from _filtered(path, selection, 0, None)
        return
    needles = None if index.escaped else selection.needles()
    with open_segment(path) as file:
        for piece in _pieces(path.name, pieces(file, size=_PIECE_BYTES), numbered):
            yield from piece.found(piece.lines(needles), selection)


def _plain_lines(path: Path, selection: Selection, numbered: bool) -> Iterator[Line]:
    needles = selection.needles()
    complete = complete_bytes(path)
    with path.open("rb") as file:
        for piece in _pieces(path.name, _plain_texts(file, complete), numbered):
            spans = piece.lines(needles)
            if _is_right(piece.text, None if needles is None else spans):
                yield from piece.found(spans, selection)
            else:
                end = piece.byte + len(piece.text)
                yield from _filtered(path, selection, piece.byte, end, _line_number(path, piece.byte))
    if complete < path.stat().st_size and not _is_newest(path):
        yield from _filtered(path, selection, complete, None, _line_number(path, complete))


def _line_number(path: Path, byte: int) -> int:
    """The number of the line of a plain segment that begins at a byte."""
    with path.open("rb") as file:
        return 1 + sum(text.count(b"\n") for text in pieces(file, byte, _PIECE_BYTES))


def _is_right(text: bytes, spans: list[tuple[int, int]] | None) -> bool:
    """Whether the groups of a piece, or those of some of its lines, have their checksums.

    In a piece of formats 1 and 2, whether all lines can be read.
    """
    if not GROUP_END.search(text):
        return parsed(text)[1]
    if spans is None:
        return has_checksums(text)
    end = 0
    for line, _ in spans:
        if line >= end:
            last = GROUP_END.search(text, line)
            if last is None or checksum(last[1], text[_group_start(text, line) : last.start()]) != last[2]:
                return False
            end = last.end()
    return True


def _group_start(text: bytes, byte: int) -> int:
    """Where the group begins that has the line at a byte."""
    while (byte := text.rfind(_CHAIN, 0, byte)) >= 0:
        if found := GROUP_END.match(text, byte):
            return found.end()
    return 0


def _is_newest(path: Path) -> bool:
    """Whether a segment is the last of its folder: what its last group lacks may be written in this moment."""
    match = SEGMENT_NAME.fullmatch(path.name)
    return match is not None and numbered_segments(path.parent)[-1][0] <= int(match[2])


class _Piece:
    """Whole lines of a file, without damage.

    Attributes:
        text: the lines.
        number: of the first line, from 1.
        byte: at which they begin in the file's text.
    """

    def __init__(self, name: str, text: bytes, number: int, byte: int, numbered: bool) -> None:
        self.text = text
        self.number = number
        self.byte = byte
        self._name = name
        self._numbered = numbered

    def lines(self, needles: list[bytes] | None) -> list[tuple[int, int]]:
        """Start and end of each line that has one of some bytes; of each line if there are none."""
        text = self.text
        if needles is None:
            return [found.span() for found in _LINE.finditer(text)]
        spans = set()
        for needle in needles:
            at = text.find(needle)
            while at >= 0:
                end = text.find(b"\n", at) + 1 or len(text)
                spans.add((text.rfind(b"\n", 0, at) + 1, end))
                at = text.find(needle, end)
        return sorted(spans)

    def found(self, spans: list[tuple[int, int]], selection: Selection) -> Iterator[Line]:
        """The wanted lines among some."""
        number, counted = self.number, 0
        timed = selection.since is not None or selection.until is not None
        for start, end in spans:
            # Most lines of a student are of another time, and reading it costs a fraction of parsing the line.
            if timed and (at := _AT.match(self.text, start)) and not selection.overlaps(when := float(at[1]), when):
                continue
            if self._numbered:
                number += self.text.count(b"\n", counted, start)
                counted = start
            raw = self.text[start:end]
            if raw.strip():
                record = parse_line(raw, self._name, number, self.byte + start)
                if selection.takes(record):
                    yield Line(record, self._name, number, self.byte + start, self.byte + end)


def _plain_texts(file: IO[bytes], end: int) -> Iterator[bytes]:
    """As `pieces`, in smaller ones where the text is of groups, which takes half of the time."""
    at, size = 0, min(_SCANNED_BYTES, _PIECE_BYTES)
    while at < end:
        file.seek(at)
        text = file.read(min(size, end - at))
        if at + len(text) < end:
            cut = _group_start(text, len(text))
            if not cut and size <= 2 * GROUP_BYTES:
                size *= 2
                continue
            if not cut:
                file.seek(at)
                yield from pieces(file, end, _PIECE_BYTES)
                return
            text = text[:cut]
        at += len(text)
        yield text


def _pieces(name: str, texts: Iterable[bytes], numbered: bool) -> Iterator[_Piece]:
    number, byte = 1, 0
    for text in texts:
        yield _Piece(name, text, number, byte, numbered)
        number += text.count(b"\n") if numbered else 0
        byte += len(text)
