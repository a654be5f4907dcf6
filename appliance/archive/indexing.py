"""Indexing: builds the index of a segment while it is compressed, or from its file."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import msgspec

from appliance.archive.chain import GROUP_BYTES, GROUP_END, SUFFIX_BYTES, checksum
from appliance.archive.index import (
    Content,
    DamagedIndexError,
    Index,
    IndexedBlock,
    IndexedStream,
    IndexedStudent,
    block_checksum,
    content_of,
    is_of,
    read_index,
)
from appliance.archive.members import BLOCK_BYTES, Block, NoMembersError, blocks, has_members
from appliance.archive.records import Damage, Record, parse_line

_READ_BYTES = 256 * 1024
_GROUP_LIMIT = 2 * GROUP_BYTES
_ESCAPED = re.compile(rb'"student_id"\s*:\s*"[^"\\]*\\')
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
_NEVER = float("inf")
_NO_EVENT = msgspec.Raw()
_decode_lines = msgspec.json.Decoder(Record).decode_lines


def pieces(file: IO[bytes] | gzip.GzipFile, end: int | None = None, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The text of a segment in pieces, each of whole groups, or of whole lines where it has no groups.

    Args:
        file: the text, at its beginning.
        end: the byte at which it ends; by default the end of the file.
        size: a piece ends with the group or line that reaches so many bytes.

    Raises:
        OSError, EOFError, zlib.error: it cannot be read.
    """
    text = b""
    grouped: bool | None = None
    while True:
        most = max(_READ_BYTES, size)
        more = file.read(most if end is None else max(0, min(most, end - file.tell())))
        text += more
        while len(text) >= size and (cut := _cut(text, size, grouped is not False)):
            if grouped is None:
                # The first piece shows whether it is a segment of an earlier format.
                grouped = GROUP_END.search(text, 0, cut) is not None
            yield text[:cut]
            text = text[cut:]
        if not more:
            if text:
                yield text
            return


def _cut(text: bytes, size: int, grouped: bool) -> int:
    """Where the first piece ends; 0 if that is not known yet."""
    if grouped:
        if found := GROUP_END.search(text, size - SUFFIX_BYTES):
            return found.end()
        if len(text) < size + _GROUP_LIMIT:
            return 0
    return text.find(b"\n", size - 1) + 1


def parsed(text: bytes) -> tuple[list[Record], bool]:
    """The records of some whole lines, and whether all lines can be read."""
    try:
        if not text.isascii():
            text.decode()
        records = _decode_lines(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    else:
        if all(record.rejected is not None or record.event != _NO_EVENT for record in records):
            return records, text.endswith(b"\n") or not text
    found = [parse_line(line, "", 0, 0) for line in _LINE.findall(text) if line.strip()]
    records = [record for record in found if not isinstance(record, Damage)]
    return records, len(records) == len(found) and text.endswith(b"\n")


def has_checksums(text: bytes) -> bool:
    """Whether a text is nothing but groups that have their checksums."""
    start = 0
    view = memoryview(text)
    for found in GROUP_END.finditer(text):
        if checksum(found[1], view[start : found.start()]) != found[2]:
            return False
        start = found.end()
    return start == len(text)


class IndexBuilder:
    """Builds an index, block by block."""

    def __init__(self) -> None:
        self._blocks: list[IndexedBlock] = []
        self._students: dict[str, tuple[list[int], dict[str, IndexedStream]]] = {}
        self._lines = 0
        self._escaped = False
        self._next_line = 1
        self._start_block()

    def _start_block(self) -> None:
        self._received: list[float] = []
        self._at: list[float] = []
        self._first_line = self._next_line
        self._before = self._own = ""
        self._whole = True

    def add_text(self, text: bytes) -> None:
        """Add a piece of the present block's text.

        Args:
            text: whole groups, or whole lines of an earlier format.
        """
        records, whole = parsed(text)
        self._next_line += text.count(b"\n")
        self._lines += len(records)
        if first := GROUP_END.search(text):
            whole = whole and has_checksums(text)
            self._before = self._before or first[1].decode("ascii", "replace")
            self._own = _last_group(text)[2].decode("ascii", "replace")
        self._whole = self._whole and whole
        self._escaped = self._escaped or _ESCAPED.search(text) is not None
        if records:
            received, at = [record.received for record in records], [record.at for record in records]
            self._received += (min(received), max(received))
            self._at += (min(at), max(at))
            self._add(records)

    def _add(self, records: list[Record]) -> None:
        students, block = self._students, len(self._blocks)
        for record in records:
            found = students.get(record.student_id)
            if found is None:
                found = students[record.student_id] = ([block], {})
            elif found[0][-1] != block:
                found[0].append(block)
            stream = found[1].get(record.stream)
            if stream is None:
                found[1][record.stream] = IndexedStream(record.seq, record.seq, 1)
                continue
            stream.lines += 1
            if record.seq > stream.last:
                stream.last = record.seq
            elif record.seq < stream.first:
                stream.first = record.seq

    def end_block(self, data: bytes) -> None:
        """End the present block.

        Args:
            data: its compressed data; of a file that cannot be read in blocks none.
        """
        lines = self._next_line - self._first_line
        times = *_ends(self._received), *_ends(self._at)
        self._blocks.append(
            IndexedBlock(
                0, 0, 0, 0, self._first_line, lines, *times, block_checksum(data), self._whole, self._before, self._own
            )
        )
        self._start_block()

    def finish(self, content: Content, places: Iterable[Block]) -> Index:
        """The index.

        Args:
            content: of the segment's file.
            places: the blocks' places.
        """
        indexed = self._blocks
        grouped = any(block.own for block in indexed)
        for block, place in zip(indexed, places, strict=True):
            block.offset, block.length, block.byte, block.size = place
            block.whole = block.whole and (bool(block.own) or not grouped)
        return Index(
            content,
            sum(block.size for block in indexed),
            self._lines,
            not all(block.whole for block in indexed),
            self._escaped,
            indexed,
            {
                student_id: msgspec.Raw(msgspec.msgpack.encode(_student(*found)))
                for student_id, found in sorted(self._students.items())
            },
        )


def _last_group(text: bytes) -> re.Match[bytes]:
    """The end of the last group of a text that has one."""
    if found := GROUP_END.search(text, len(text) - SUFFIX_BYTES):
        return found
    *_, found = GROUP_END.finditer(text)
    return found


def _ends(times: list[float]) -> tuple[float, float]:
    return (min(times), max(times)) if times else (0.0, 0.0)


def _student(blocks: list[int], streams: dict[str, IndexedStream]) -> IndexedStudent:
    bits = bytearray(1 + blocks[-1] // 8)
    for block in blocks:
        bits[block // 8] |= 1 << block % 8
    return IndexedStudent(sum(stream.lines for stream in streams.values()), bytes(bits), streams)


def build_index(path: Path) -> Index | None:
    """The index of a segment, from its file; None where the file is damaged as a whole.

    Args:
        path: the file. A plain one, and one that an earlier version compressed, is one block.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = content_of(file)
        try:
            if path.suffix != ".gz":
                return _index_of_whole(file, content)
            try:
                return _index_of_blocks(file, content)
            except NoMembersError:
                if has_members(file) or not content.size:
                    return None
                file.seek(0)
                with gzip.GzipFile(fileobj=file) as unpacked:
                    return _index_of_whole(unpacked, content)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return None


def _index_of_blocks(file: IO[bytes], content: Content) -> Index:
    builder = IndexBuilder()
    places: list[Block] = []
    for block, data, text in blocks(file):
        builder.add_text(text)
        builder.end_block(data)
        places.append(block)
    return builder.finish(content, places)


def _index_of_whole(text: IO[bytes] | gzip.GzipFile, content: Content) -> Index:
    """The index of a file that cannot be read in blocks."""
    builder = IndexBuilder()
    size = 0
    text.seek(0)
    for piece in pieces(text):
        builder.add_text(piece)
        size += len(piece)
    builder.end_block(b"")
    return builder.finish(content, [Block(0, content.size, 0, size)])


def stored_index(path: Path) -> Index | None:
    """The index beside a compressed segment; None where there is none, or it is damaged or of another content."""
    if path.suffix != ".gz":
        return None
    try:
        index = read_index(path)
        with path.open("rb") as file:
            return index if index and is_of(index, file) else None
    except (DamagedIndexError, OSError):
        return None
