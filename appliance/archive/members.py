"""Members: parts of a compressed segment, each a gzip file of its own (RFC 1952) that can be read without the others.

A segment is cut into blocks of about `BLOCK_BYTES` of text, each of whole commit groups. A member has blocks of
about `MEMBER_BYTES`. All members one after the other are one gzip file, which every program reads. After each block the
compressor is flushed (``Z_FULL_FLUSH`` of zlib), so it can be decompressed without those before it. The last member is
`END`, without text: a file that does not end in it was cut off.

The header of a member has an extra field (RFC 1952, section 2.3.1.1) with the subfield ``CO``: for each block the
length of its compressed data and of its text, both as unsigned 32-bit numbers, little-endian. So members and blocks are
found by reading headers alone. A file without these fields, as earlier versions wrote it, is read from its beginning.
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple, Protocol

BLOCK_BYTES = 32 * 1024
MEMBER_BYTES = 1024 * 1024

# What blocks that stand alone cost in size, this level saves against level 3, which takes two thirds of the time.
_LEVEL = 5
_FIXED = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff"
"""The first bytes of each member: magic, deflate, an extra field, no time, no level, no system."""
_EXTRA = struct.Struct("<H2sH")
_LENGTHS = struct.Struct("<II")
_TRAILER = struct.Struct("<II")
_SUBFIELD = b"CO"
_HEAD_BYTES = len(_FIXED) + _EXTRA.size
_LAST = b"\x03\x00"
"""The end of the compressed data: an empty last block (RFC 1951, section 3.2.6)."""


def _header(lengths: bytes) -> bytes:
    return _FIXED + _EXTRA.pack(4 + len(lengths), _SUBFIELD, len(lengths)) + lengths


END = _header(b"") + _LAST + _TRAILER.pack(0, 0)
"""The last member."""


class Block(NamedTuple):
    """A part of a compressed segment that can be decompressed without the rest.

    Attributes:
        offset: where its compressed data begin in the file.
        length: of its compressed data, in bytes.
        byte: where its text begins in the segment's text.
        size: length of its text, in bytes.
    """

    offset: int
    length: int
    byte: int
    size: int


class Member(NamedTuple):
    """A member of a compressed segment.

    Attributes:
        offset: where it begins in the file.
        length: in bytes, with header and trailer.
        byte: where its text begins in the segment's text.
        size: length of its text, in bytes.
        blocks: its blocks.
    """

    offset: int
    length: int
    byte: int
    size: int
    blocks: tuple[Block, ...]


class Writable(Protocol):
    """A file that is open for writing."""

    def write(self, content: bytes, /) -> object:
        """Write all of it."""


class NoMembersError(Exception):
    """The file has no members with the lengths of their blocks, or a header is damaged."""


class MemberWriter:
    """Writes the members of one segment.

    Attributes:
        blocks: those that were written.
    """

    def __init__(self, file: Writable, member_bytes: int = MEMBER_BYTES) -> None:
        """Args:
        file: an empty file.
        member_bytes: a member ends with the block that reaches so many bytes of text.
        """
        self._member_bytes = member_bytes
        self.blocks: list[Block] = []
        self._file = file
        self._offset = self._byte = 0
        self._start()

    def _start(self) -> None:
        self._pieces: list[bytes] = []
        self._sizes: list[int] = []
        self._checksum = 0
        self._compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)

    def add(self, text: bytes) -> bytes:
        """Add a block; returns its compressed data.

        Raises:
            OSError: a member that is full cannot be written.
        """
        if sum(self._sizes) >= self._member_bytes:
            self._end_member()
        piece = self._compressor.compress(text) + self._compressor.flush(zlib.Z_FULL_FLUSH)
        self._pieces.append(piece)
        self._sizes.append(len(text))
        self._checksum = zlib.crc32(text, self._checksum)
        return piece

    def end(self) -> None:
        """Write the blocks that were added since the last member, and the end of the file.

        Raises:
            OSError: it cannot be written.
        """
        self._end_member()
        self._file.write(END)

    def _end_member(self) -> None:
        if not self._pieces:
            return
        lengths = b"".join(
            _LENGTHS.pack(len(piece), size) for piece, size in zip(self._pieces, self._sizes, strict=True)
        )
        header = _header(lengths)
        trailer = _LAST + _TRAILER.pack(self._checksum, sum(self._sizes) & 0xFFFFFFFF)
        self._file.write(b"".join((header, *self._pieces, trailer)))
        member = _member(self._offset, self._byte, len(header), lengths)
        self.blocks += member.blocks
        self._offset += member.length
        self._byte += member.size
        self._start()


def members(file: IO[bytes]) -> list[Member]:
    """The members of a compressed segment, found by their headers alone.

    Args:
        file: the segment, open for reading; its position changes.

    Raises:
        NoMembersError: an earlier version wrote it, or a header is damaged, or the file is cut off.
        OSError: it cannot be read.
    """
    found: list[Member] = []
    if not ends_well(file):
        raise NoMembersError
    end = file.seek(0, os.SEEK_END) - len(END)
    offset = byte = 0
    while offset < end:
        file.seek(offset)
        head = file.read(_HEAD_BYTES)
        if len(head) < _HEAD_BYTES or not head.startswith(_FIXED):
            raise NoMembersError
        extra, subfield, size = _EXTRA.unpack_from(head, len(_FIXED))
        lengths = file.read(size)
        if subfield != _SUBFIELD or extra != size + 4 or len(lengths) < size or size % _LENGTHS.size:
            raise NoMembersError
        member = _member(offset, byte, _HEAD_BYTES + size, lengths)
        found.append(member)
        offset += member.length
        byte += member.size
    if offset != end:
        raise NoMembersError
    return found


def has_members(file: IO[bytes]) -> bool:
    """Whether a compressed segment is one of members, as far as its first bytes show."""
    file.seek(0)
    return file.read(len(_FIXED)) == _FIXED


def ends_well(file: IO[bytes]) -> bool:
    """Whether a segment of members ends in `END`."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - len(END)))
    return file.read() == END


def text_bytes(path: Path) -> int:
    """Length of the text of a compressed segment; of one that an earlier version wrote, as its trailer has it.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    return _text_bytes(path, status.st_size, status.st_mtime_ns)


@lru_cache(4096)
def _text_bytes(path: Path, size: int, changed: int) -> int:
    with path.open("rb") as file:
        try:
            return sum(member.size for member in members(file))
        except NoMembersError:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4))
            trailer = file.read(4)
    return int.from_bytes(trailer, "little") if len(trailer) == 4 else 0


def blocks(file: IO[bytes]) -> Iterator[tuple[Block, bytes, bytes]]:
    """The blocks of a compressed segment, each with its compressed data and its text.

    Args:
        file: the segment, open for reading.

    Raises:
        NoMembersError: see `members`.
        zlib.error: it is damaged.
        OSError: it cannot be read.
    """
    for member in members(file):
        checksum = 0
        for block in member.blocks:
            file.seek(block.offset)
            data = file.read(block.length)
            text = block_text(data, block.size)
            checksum = zlib.crc32(text, checksum)
            if len(text) != block.size:
                raise zlib.error("a block has another length than the header says")
            yield block, data, text
        if file.read(len(_LAST) + _TRAILER.size) != _LAST + _TRAILER.pack(checksum, member.size & 0xFFFFFFFF):
            raise zlib.error("a member has another checksum than its text")


def block_text(data: bytes, size: int = BLOCK_BYTES) -> bytes:
    """The text of a block.

    Args:
        data: its compressed data.
        size: the expected length of the text, in bytes; another one is slower.

    Raises:
        zlib.error: they are damaged.
    """
    return zlib.decompress(data + _LAST, -zlib.MAX_WBITS, max(1, size))


class SegmentFile(gzip.GzipFile):
    """A compressed segment, open for reading its text from any byte. One that was cut off raises an EOFError there."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            OSError: it is not there or cannot be read.
        """
        self._file = _CompressedFile(path)
        self._members: list[Member] | None = None
        self._restart(0, 0)

    def _restart(self, offset: int, byte: int) -> None:
        """Read from a member on."""
        self._file.seek(offset)
        self._begins = byte
        super().__init__(fileobj=self._file, mode="rb")

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte of the text, without reading the members before the one that has it."""
        now = self._begins + super().seek(0, os.SEEK_CUR)
        if whence == os.SEEK_CUR and not offset:
            return now
        if whence != os.SEEK_SET:
            raise io.UnsupportedOperation
        if offset != now:
            if self._members is None:
                here = self._file.tell()
                self._members = _members_or_none(self._file)
                self._file.seek(here)
            begins, byte = max(((one.offset, one.byte) for one in self._members if one.byte <= offset), default=(0, 0))
            if offset < now or byte > now:
                self._restart(begins, byte)
        return self._begins + super().seek(offset - self._begins)

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._file.close()


class _CompressedFile(io.FileIO):
    """The bytes of a compressed segment; reading on at the end of one that was cut off raises an EOFError."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._cut_off = False
        self._cut_off = has_members(self) and not ends_well(self)
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(-1 if size is None else size)
        if not content and size and self._cut_off:
            raise EOFError("the end of the file is missing")
        return content


def _members_or_none(file: IO[bytes]) -> list[Member]:
    try:
        return members(file)
    except NoMembersError:
        return []


def _member(offset: int, byte: int, header: int, lengths: bytes) -> Member:
    blocks = tuple(_blocks(offset + header, byte, lengths))
    length = header + sum(block.length for block in blocks) + len(_LAST) + _TRAILER.size
    return Member(offset, length, byte, sum(block.size for block in blocks), blocks)


def _blocks(offset: int, byte: int, lengths: bytes) -> Iterator[Block]:
    for length, size in _LENGTHS.iter_unpack(lengths):
        yield Block(offset, length, byte, size)
        offset += length
        byte += size
