"""Archive: the append-only log of every event that was taken, as it came. Replaying it gives every state.

One event is one line of UTF-8 JSON. Lines go to segments, files named ``events-DAY-NUMBER.jsonl`` by UTC day,
a new one for each day, each size limit reached, each start of the program and each failed write; so a file
that was torn by a power cut is never written to again. A line counts as archived when `Archive.sync` returns.

Three kinds of line:

- ``{"received":S,"at":S,"student_id":I,"class_id":C,"source":N,"stream":U,"seq":K,"event":{...}}``
- the same with ``"paused":true``: it came while the class was paused, and is not reduced.
- with ``"rejected":{"code","message"}`` and ``"text"`` (the raw text as a string) in place of ``event``.

Times are seconds since the epoch with milliseconds.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from appliance.counters import Counters
from appliance.errors import ArchiveError
from appliance.files import sync_folder, write_all

log = logging.getLogger(__name__)

_SEGMENT = re.compile(r"events-(\d{8})-(\d{4,})\.jsonl(\.gz)?")


class Rejection(msgspec.Struct, frozen=True):
    """Why an event was not used: a stable code, and a sentence."""

    code: str
    message: str


class Record(msgspec.Struct, frozen=True):
    """One line of the archive. `event` is the event's JSON text, empty where it was rejected."""

    received: float
    at: float
    student_id: str
    class_id: str
    source: str
    stream: str
    seq: int
    event: msgspec.Raw = msgspec.Raw()
    paused: bool = False
    rejected: Rejection | None = None
    text: str | None = None


_decode_record = msgspec.json.Decoder(Record).decode


class Damage(msgspec.Struct, frozen=True):
    """A line that cannot be read: which file, its line number from 1, the byte it starts at, and why."""

    file: str
    line: int
    byte: int
    reason: str


class StreamLines:
    """Makes the lines of one stream; all that stays the same is formatted once."""

    __slots__ = ("_middle",)

    def __init__(self, student_id: str, class_id: str, source: str, stream: str) -> None:
        same = {"student_id": student_id, "class_id": class_id, "source": source, "stream": stream}
        self._middle = b"," + msgspec.json.encode(same)[1:-1] + b',"seq":'

    @staticmethod
    def head(received: int) -> bytes:
        """The start that all lines of one frame share; `received` is in milliseconds."""
        return b'{"received":%.3f,"at":' % (received / 1000)

    def event(self, head: bytes, at: float, seq: int, text: bytes) -> bytes:
        """The line of an event. Its text may span lines; white space is all that a raw line break can be in JSON."""
        if b"\n" in text:
            text = text.replace(b"\n", b" ")
        return b'%b%.3f%b%d,"event":%b}\n' % (head, at, self._middle, seq, text)

    def paused(self, head: bytes, at: float, seq: int, text: bytes) -> bytes:
        """The line of an event that came while the class was paused."""
        return self.event(head, at, seq, text)[:-2] + b',"paused":true}\n'

    def rejected(self, head: bytes, at: float, seq: int, text: bytes, rejection: Rejection) -> bytes:
        """The line of an event that was refused."""
        more = {"rejected": rejection, "text": text.decode("utf-8", "replace")}
        return b"%b%.3f%b%d,%b\n" % (head, at, self._middle, seq, msgspec.json.encode(more)[1:])


class Archive:
    """Appends lines to segments and makes them durable in groups.

    Attributes:
        folder: where the segments are.
    """

    def __init__(self, folder: Path, counters: Counters, *, segment_bytes: int = 64 * 1024 * 1024) -> None:
        """Open the archive for appending.

        Raises:
            ArchiveError: the folder cannot be made or written to.
        """
        self.folder = folder
        self._counters = counters
        self._segment_bytes = segment_bytes
        self._lines: list[bytes] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._day = ""
        self._size = 0
        self._writing = asyncio.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise ArchiveError(f"The archive folder {folder} cannot be written: {error.strerror}.") from error

    @property
    def waiting_bytes(self) -> int:
        """How many bytes were appended and are not written yet."""
        return self._bytes

    def append(self, line: bytes) -> None:
        """Take a line; it is durable once a later `sync` has returned."""
        self._lines.append(line)
        self._bytes += len(line)

    async def sync(self) -> None:
        """Write and fsync all that was appended before this call, off the event loop.

        Raises:
            ArchiveError: it could not be written, as when the disk is full. Nothing is lost: the lines wait,
                and the next call tries again.
        """
        async with self._writing:
            if not self._lines:
                return
            lines, size = self._lines, self._bytes
            self._lines, self._bytes = [], 0
            try:
                await asyncio.get_running_loop().run_in_executor(None, self._write, b"".join(lines))
            except OSError as error:
                self._lines, self._bytes = lines + self._lines, size + self._bytes
                self._counters.add("archive_write_failures")
                raise ArchiveError(f"The archive in {self.folder} cannot be written: {error.strerror}.") from error

    async def close(self) -> None:
        """Sync and close the segment."""
        try:
            await self.sync()
        finally:
            if self._file:
                self._file.close()
                self._file = None

    def _write(self, text: bytes) -> None:
        day = time.strftime("%Y%m%d", time.gmtime())
        if self._file is None or day != self._day or self._size >= self._segment_bytes:
            self._open(day)
        file = self._file
        assert file is not None
        try:
            write_all(file.fileno(), text)
            os.fsync(file.fileno())
        except OSError:
            # What was half written, or written and not surely on disk, must not stand there twice.
            self._abandon(file)
            raise
        self._size += len(text)

    def _open(self, day: str) -> None:
        if self._file:
            self._file.close()
            self._file = None
        number = 1 + max((int(m[2]) for f in self.folder.iterdir() if (m := _SEGMENT.fullmatch(f.name))), default=0)
        self._file = (self.folder / f"events-{day}-{number:04d}.jsonl").open("xb", buffering=0)
        self._day, self._size = day, 0
        sync_folder(self.folder)

    def _abandon(self, file: IO[bytes]) -> None:
        self._file = None
        try:
            os.ftruncate(file.fileno(), self._size)
            os.fsync(file.fileno())
        except OSError:
            log.exception("The archive's segment %s could not be cut back after a failed write.", file.name)
        finally:
            file.close()


def segments(folder: Path) -> list[Path]:
    """The archive's segments, oldest first."""
    found = [(int(m[2]), file) for file in folder.iterdir() if (m := _SEGMENT.fullmatch(file.name))]
    return [file for _, file in sorted(found)]


def read(files: Sequence[Path]) -> Iterator[Record | Damage]:
    """Read archive files, plain or gzip, line by line; a line that cannot be read comes as `Damage`.

    Args:
        files: files and folders of segments, read in the order given.

    Raises:
        ArchiveError: a file is not there or cannot be opened.
    """
    for path in files:
        try:
            if path.is_dir():
                yield from read(segments(path))
                continue
            with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
                yield from _lines(path, file)
        except FileNotFoundError:
            raise ArchiveError(f"There is no archive file {path}.") from None
        except OSError as error:
            raise ArchiveError(f"The archive file {path} cannot be read: {error.strerror or error}.") from error


def _lines(path: Path, file: IO[bytes] | gzip.GzipFile) -> Iterator[Record | Damage]:
    byte = 0
    number = 0
    while True:
        try:
            line = file.readline()
        except (EOFError, gzip.BadGzipFile, OSError) as error:
            yield Damage(path.name, number + 1, byte, f"the compressed file is damaged: {type(error).__name__}")
            return
        if not line:
            return
        number += 1
        if line.strip():
            yield _record(path, line, number, byte)
        byte += len(line)


def _record(path: Path, line: bytes, number: int, byte: int) -> Record | Damage:
    try:
        record = _decode_record(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if b"\\u" in line and (record_or_none := _with_half_pairs(line)):
            return record_or_none
        if not line.endswith(b"\n"):
            return Damage(path.name, number, byte, "the line is cut off")
        # A validation error names the field; the text of a syntax error holds nothing of the line either.
        return Damage(path.name, number, byte, str(error))
    if not bytes(record.event) and record.rejected is None:
        return Damage(path.name, number, byte, "the line has neither an event nor a rejection")
    return record


def _with_half_pairs(line: bytes) -> Record | None:
    """A line whose event holds half of a surrogate pair, which the fast decoder refuses; None where it is damaged."""
    try:
        fields = json.loads(line)
        event = json.dumps(fields.pop("event"), allow_nan=False).encode()
        return msgspec.convert({**fields, "event": msgspec.Raw(event)}, Record)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
