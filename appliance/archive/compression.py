"""Compression of a closed segment into a gzip file of members (`appliance.archive.members`), with its index."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from appliance.archive.chain import GROUP_BYTES, GROUP_END, SUFFIX_BYTES
from appliance.archive.index import ContentHash, DamagedIndexError, Index, is_of, read_index, write_index
from appliance.archive.indexing import IndexBuilder, build_index, pieces
from appliance.archive.members import (
    BLOCK_BYTES,
    MEMBER_BYTES,
    MemberWriter,
    NoMembersError,
    SegmentFile,
    blocks,
    has_members,
)
from appliance.archive.segments import SEGMENT_NAME, compressed, segments
from appliance.counters import Counters
from appliance.datafolder.files import PART, change, remove_if_unused, sync_file, written_whole

log = logging.getLogger(__name__)


class _StoppedError(Exception):
    """The program ends; the segment is compressed after its next start."""


def compress(
    path: Path, stop: Callable[[], bool], block_bytes: int = BLOCK_BYTES, member_bytes: int = MEMBER_BYTES
) -> None:
    """Replace a segment by its compressed form; a power cut leaves the one or the other, or both whole.

    Args:
        path: the segment. One that an earlier version compressed is compressed again, in blocks.
        stop: asked before each block; when it returns true the segment is left as it is.
        block_bytes: see `appliance.archive.members`.
        member_bytes: likewise.

    Raises:
        OSError: it could not be read or written; the segment is as it was.
        EOFError, zlib.error: it was compressed, and is damaged; likewise.
    """
    packed = path if path.suffix == ".gz" else compressed(path)
    part = path.with_name(path.name + PART)
    if path != packed:
        # A failed write may have left lines that are not on the disk; a power cut must not leave two different forms.
        with change(path) as unsynced:
            sync_file(unsynced)
    try:
        opened: IO[bytes] | SegmentFile = SegmentFile(path) if path == packed else path.open("rb")
        with opened as plain, written_whole(packed, part) as file:
            writer = PackedWriter(file, block_bytes, member_bytes)
            text = hashlib.sha256()
            for piece in pieces(plain, size=block_bytes):
                if stop():
                    raise _StoppedError
                text.update(piece)
                writer.write(piece)
            writer.close()
            file.flush()
            _check(part, text.digest())
    except _StoppedError:
        return
    save_index(packed, writer.index)
    if packed != path:
        # A segment that is being read on Windows stays beside its compressed form, and is compressed again later.
        remove_if_unused(path)


class PackedWriter:
    """Writes the compressed form of a segment, line by line.

    Attributes:
        index: its index, once the writer is closed.
    """

    def __init__(self, file: IO[bytes], block_bytes: int = BLOCK_BYTES, member_bytes: int = MEMBER_BYTES) -> None:
        """Args:
        file: an empty file, which is not closed.
        block_bytes: see `appliance.archive.members`.
        member_bytes: likewise.
        """
        self.index: Index | None = None
        self._block_bytes = block_bytes
        self._content = ContentHash()
        self._members = MemberWriter(_Tee(file, self._content), member_bytes)
        self._builder = IndexBuilder()
        self._lines: list[bytes] = []
        self._size = 0
        self._grouped = False

    def write(self, lines: bytes) -> None:
        """Add lines, or one; a block ends only where the lines of a call do.

        Raises:
            OSError: they cannot be written.
        """
        self._lines.append(lines)
        self._size += len(lines)
        ends_group = GROUP_END.search(lines, max(0, len(lines) - SUFFIX_BYTES)) is not None
        self._grouped = self._grouped or ends_group
        if self._size >= (self._block_bytes if ends_group or not self._grouped else 2 * GROUP_BYTES):
            self._end_block()

    def _end_block(self) -> None:
        text = b"".join(self._lines)
        self._lines, self._size = [], 0
        self._builder.add_text(text)
        self._builder.end_block(self._members.add(text))

    def close(self) -> None:
        """Write what is left.

        Raises:
            OSError: it cannot be written.
        """
        if self._lines:
            self._end_block()
        self._members.end()
        self.index = self._builder.finish(self._content.content(), self._members.blocks)


class _Tee:
    """Writes to a file, and adds what is written to a hash."""

    def __init__(self, file: IO[bytes], content: ContentHash) -> None:
        self._file = file
        self._content = content

    def write(self, piece: bytes) -> None:
        self._content.add(piece)
        self._file.write(piece)


def _check(path: Path, expected: bytes) -> None:
    """Read a compressed segment again, since the plain one is removed.

    Raises:
        OSError: its text has another SHA-256.
    """
    text = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for _, _, piece in blocks(file):
                text.update(piece)
    except (NoMembersError, zlib.error):
        pass
    if text.digest() != expected:
        raise OSError(errno.EIO, f"{os.strerror(errno.EIO)}: what was read back differs from what was written", path)


def save_index(path: Path, index: Index | None) -> None:
    """Write the index of a compressed segment. Without it reading is slower; so a failure is logged alone.

    Args:
        path: the segment. A conflict copy of one gets no index.
        index: None where there is none.
    """
    if index is None or not SEGMENT_NAME.fullmatch(path.name):
        return
    try:
        write_index(path, index)
    except OSError as error:
        log.warning("The index of the segment %s could not be written: %s.", path.name, error.strerror or error)


class Renewing:
    """Gives compressed segments what they lack: a good index, and blocks to those of an earlier version."""

    def __init__(self, folder: Path, counters: Counters) -> None:
        """Args:
        folder: the archive.
        counters: counts failures.
        """
        self._folder = folder
        self._counters = counters
        self._done: set[tuple[str, int, int]] = set()

    def renew_next(self, stop: Callable[[], bool]) -> None:
        """Do this for the first segment that lacks something; one that fails is left until the next start.

        Args:
            stop: asked now and then; when it returns true the segment is left as it is.
        """
        for path in segments(self._folder):
            if stop():
                return
            try:
                if path.suffix != ".gz" or self._key(path) in self._done:
                    continue
                lacking = _lacks_something(path)
                if lacking:
                    _renew(path, stop)
                self._done.add(self._key(path))
                if lacking:
                    return
            except FileNotFoundError:
                # It was moved elsewhere meanwhile.
                continue
            except (EOFError, OSError, zlib.error) as error:
                self._counters.add("archive_compress_failures")
                reason = error.strerror if isinstance(error, OSError) else "it is damaged"
                log.warning("The segment %s could not be indexed: %s.", path.name, reason or error)
                self._done.add(self._key(path))

    @staticmethod
    def _key(path: Path) -> tuple[str, int, int]:
        try:
            status = path.stat()
        except OSError:
            return path.name, 0, 0
        return path.name, status.st_size, status.st_mtime_ns


def _lacks_something(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            index = read_index(path)
        except DamagedIndexError:
            return True
        return index is None or not is_of(index, file) or not has_members(file)


def _renew(path: Path, stop: Callable[[], bool]) -> None:
    with path.open("rb") as file:
        has_blocks = has_members(file)
    if not has_blocks:
        compress(path, stop)
        return
    index = build_index(path)
    if index is None:
        raise EOFError("the segment is damaged")
    write_index(path, index)
