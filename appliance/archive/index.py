"""Index of a compressed segment: which students and times each of its blocks has, so that others need not be read.

The file ``events-DAY-NUMBER.index`` is beside its segment. It has a line ``classroom-observer-index FORMAT CHECKSUM``
(SHA-256 of all after the line, in hexadecimal digits), a sealed line (`appliance.datafolder.sealed`) with a `Summary`
as JSON, and an `Index` as MessagePack, structs as arrays. It holds ids and numbers, no texts. It follows from the
segment alone, so a missing or damaged one is built again.

An index belongs to one content of a file: it has the length, the last bytes and the SHA-256 of the file, which also
finds a change that the checksums of gzip do not cover, and a checksum for each block.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO

import msgspec

from appliance.datafolder import sealed
from appliance.datafolder.files import write_private

FORMAT = 1
_MAGIC = b"classroom-observer-index"
TAIL_BYTES = 64
CHECKSUM_BYTES = 8
_PIECE_BYTES = 1 << 20
_LINE_BYTES = 4096


class IndexedBlock(msgspec.Struct, array_like=True):
    """A block of a segment, see `appliance.archive.members`.

    Attributes:
        offset: where its compressed data begin in the file.
        length: of its compressed data, in bytes.
        byte: where its text begins in the segment's text.
        size: length of its text, in bytes.
        line: number of its first line, from 1.
        lines: number of its lines.
        first_received: the earliest receipt of a line, in seconds since the epoch.
        last_received: the latest one.
        first_at: the earliest time of an event, likewise.
        last_at: the latest one.
        checksum: the first 8 bytes of the SHA-256 of its compressed data.
        whole: whether all of its lines can be read and its commit groups have their checksums.
        before: BEFORE of its first group; "" where it has no chain.
        own: OWN of its last group.
    """

    offset: int
    length: int
    byte: int
    size: int
    line: int
    lines: int
    first_received: float
    last_received: float
    first_at: float
    last_at: float
    checksum: bytes
    whole: bool
    before: str
    own: str


class IndexedStream(msgspec.Struct, array_like=True):
    """The lowest and the highest number of a stream in a segment, and how many lines it has there."""

    first: int
    last: int
    lines: int


class IndexedStudent(msgspec.Struct, array_like=True):
    """A student in a segment.

    Attributes:
        lines: number of the student's lines.
        blocks: a bit for each block, set where it has a line of the student; the first block is the lowest bit of the
            first byte.
        streams: by id.
    """

    lines: int
    blocks: bytes
    streams: dict[str, IndexedStream]


class Content(msgspec.Struct, array_like=True, frozen=True):
    """The content of a file, to be recognised.

    Attributes:
        size: its length in bytes.
        tail: its last bytes.
        sha256: its SHA-256.
    """

    size: int
    tail: bytes
    sha256: bytes


class Summary(msgspec.Struct, frozen=True):
    """What is known of a segment without reading its whole index.

    Attributes:
        content: of the segment's file.
        damaged: see `Index`.
        first_at: the earliest time of an event, in seconds since the epoch.
        last_at: the latest one.
    """

    content: Content
    damaged: bool
    first_at: float
    last_at: float


class Index(msgspec.Struct, array_like=True):
    """The index of a segment.

    Attributes:
        content: of the segment's file.
        text_bytes: length of the segment's text.
        lines: number of its lines that can be read.
        damaged: whether a block is not `whole`.
        escaped: whether ids of students may be written with escape sequences, so that a search for their bytes does not
            find all of their lines.
        blocks: all blocks.
        students: by id, each an `IndexedStudent` that is still encoded: one of a thousand is wanted.
    """

    content: Content
    text_bytes: int
    lines: int
    damaged: bool
    escaped: bool
    blocks: list[IndexedBlock]
    students: dict[str, msgspec.Raw]

    def student(self, student_id: str) -> IndexedStudent | None:
        """What the index has of a student.

        Raises:
            DamagedIndexError: this cannot be decoded.
        """
        found = self.students.get(student_id)
        try:
            return None if found is None else msgspec.msgpack.decode(found, type=IndexedStudent)
        except msgspec.DecodeError as error:
            raise DamagedIndexError(f"its content is not as expected: {error}") from None

    @property
    def summary(self) -> Summary:
        """What may be read without the rest."""
        known = [block for block in self.blocks if block.last_received]
        first = min((block.first_at for block in known), default=0.0)
        return Summary(self.content, self.damaged, first, max((block.last_at for block in known), default=0.0))

    @property
    def before(self) -> str:
        """BEFORE of the first commit group; "" where the segment has no chain."""
        return self.blocks[0].before if self.blocks else ""

    @property
    def head(self) -> str:
        """OWN of the last commit group, likewise."""
        return self.blocks[-1].own if self.blocks else ""

    @property
    def first_received(self) -> float:
        """The earliest receipt of a line, in seconds since the epoch; 0 where no line can be read."""
        return min((block.first_received for block in self.blocks if block.last_received), default=0.0)

    @property
    def last_received(self) -> float:
        """The latest one."""
        return max((block.last_received for block in self.blocks), default=0.0)


class DamagedIndexError(Exception):
    """The file is no index, or damaged; the text says which."""


def index_path(segment: Path) -> Path:
    """The file of a segment's index, for the path of the segment, plain or compressed."""
    return segment.with_name(segment.name.partition(".")[0] + ".index")


def write_index(segment: Path, index: Index) -> None:
    """Write the index of a segment.

    Raises:
        OSError: it cannot be written.
    """
    content = sealed.encode(index.summary) + msgspec.msgpack.encode(index)
    head = b"%b %d %b\n" % (_MAGIC, FORMAT, hashlib.sha256(content).hexdigest().encode())
    write_private(index_path(segment), (head, content))


def read_index(segment: Path) -> Index | None:
    """The stored index of a segment, whether it is of its present content or not; None where there is none.

    Raises:
        DamagedIndexError: it is damaged, or of another format.
        OSError: it cannot be read.
    """
    try:
        head, _, content = index_path(segment).read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    if hashlib.sha256(content).hexdigest().encode() != _checksum(head):
        raise DamagedIndexError("its checksum is wrong")
    try:
        return msgspec.msgpack.decode(content.partition(b"\n")[2], type=Index)
    except msgspec.DecodeError as error:
        raise DamagedIndexError(f"its content is not as expected: {error}") from None


def read_summary(segment: Path) -> Summary | None:
    """The summary in the stored index of a segment; None where there is no index.

    Raises:
        DamagedIndexError: it is damaged, or of another format.
        OSError: it cannot be read.
    """
    try:
        with index_path(segment).open("rb") as file:
            _checksum(file.readline(_LINE_BYTES).rstrip(b"\n"))
            summary: Summary = sealed.decode(file.readline(_LINE_BYTES), Summary)
            return summary
    except FileNotFoundError:
        return None
    except (sealed.SealError, msgspec.DecodeError, UnicodeDecodeError):
        raise DamagedIndexError("its summary is damaged") from None


def _checksum(head: bytes) -> bytes:
    """The checksum in the first line of an index.

    Raises:
        DamagedIndexError: it is none, or of another format.
    """
    words = head.split(b" ")
    if len(words) != 3 or words[0] != _MAGIC:
        raise DamagedIndexError("it does not begin as an index does")
    if words[1] != b"%d" % FORMAT:
        raise DamagedIndexError(f"its format is not {FORMAT}, the one that this version knows")
    return words[2]


def block_checksum(data: bytes) -> bytes:
    """The checksum of the compressed data of a block."""
    return hashlib.sha256(data).digest()[:CHECKSUM_BYTES]


def is_of(index: Index | Summary, file: IO[bytes]) -> bool:
    """Whether an index seems to be of a file, by its length and its last bytes; the rest of the file is not read."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - TAIL_BYTES))
    return size == index.content.size and file.read() == index.content.tail


def content_of(file: IO[bytes]) -> Content:
    """The content of a file.

    Raises:
        OSError: it cannot be read.
    """
    writer = ContentHash()
    file.seek(0)
    while piece := file.read(_PIECE_BYTES):
        writer.add(piece)
    return writer.content()


class ContentHash:
    """Computes the `Content` of a file from its pieces."""

    def __init__(self) -> None:
        self._size = 0
        self._tail = b""
        self._sha256 = hashlib.sha256()

    def add(self, piece: bytes) -> None:
        """Add the next bytes of the file."""
        self._size += len(piece)
        self._tail = (self._tail + piece[-TAIL_BYTES:])[-TAIL_BYTES:]
        self._sha256.update(piece)

    def content(self) -> Content:
        """The content so far."""
        return Content(self._size, self._tail, self._sha256.digest())
