"""Archive: the append-only log of every event that was taken, as it came. Replaying it gives every state.

One event is one line of UTF-8 JSON. Lines go to segments, files named ``events-DAY-NUMBER.jsonl`` by UTC day,
a new one for each day, each size limit reached, each start of the program and each failed write; so a file
that was torn by a power cut is never written to again. A line counts as archived when `Archive.sync` returns.
Closed segments are compressed: the same name with ``.gz`` after it (RFC 1952).

Three kinds of line:

- ``{"received":S,"at":S,"student_id":I,"class_id":C,"source":N,"stream":U,"seq":K,"event":{...}}``
- the same with ``"paused":true``: it came while the class was paused, and is not reduced.
- with ``"rejected":{"code","message"}`` and ``"text"`` (the raw text as a string) in place of ``event``.

Times are seconds since the epoch with milliseconds.
"""

from __future__ import annotations

import asyncio
import errno
import gzip
import logging
import os
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Literal, NamedTuple

import msgspec

from appliance.counters import Counters
from appliance.datafolder.files import last_line_end, remove_if_unused, replace, sync_folder, write_all, write_private
from appliance.errors import ArchiveError
from appliance.jsontext import loads, masked, may_hold_halves, unmasked
from appliance.text import counted

log = logging.getLogger(__name__)

SEGMENT_NAME = re.compile(r"events-(\d{8})-(\d{4,})\.jsonl(\.gz)?")
_TORN = "torn"

# Lines of JSON shrink to 6 % at this level and to 4.5 % at the highest, which takes seven times as long: longer than
# everything else that is done with an event.
_LEVEL = 3

Sync = Literal["strict", "relaxed", "none"]
"""When a line counts as archived: once it is on the disk; once the system has it, and on the disk within
`RELAXED_SECONDS`; once the system has it, and on the disk when the system likes."""

RELAXED_SECONDS = 0.5


class Position(NamedTuple):
    """A place in the archive: number of a segment, and a byte of its text as it is uncompressed."""

    segment: int
    byte: int


BEGINNING = Position(0, 0)


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


class Line(NamedTuple):
    """A line of a file: what it holds, the file's name, its number from 1, the byte it starts at, and the one after it.

    Numbers of lines are counted from where reading began.
    """

    record: Record | Damage
    file: str
    number: int
    byte: int
    end: int


_FRACTIONS = [b".%03d" % milliseconds for milliseconds in range(1000)]
"""The part of a time in seconds after its full seconds."""


class StreamLines:
    """Makes the lines of one stream; all that stays the same is formatted once.

    A line is a handful of pieces that go to a list, because joining all pieces of a commit at once is several times
    faster than formatting each line.
    """

    __slots__ = ("_middle",)

    def __init__(self, student_id: str, class_id: str, source: str, stream: str) -> None:
        same = {"student_id": student_id, "class_id": class_id, "source": source, "stream": stream}
        self._middle = b"," + msgspec.json.encode(same)[1:-1] + b',"seq":'

    @staticmethod
    def head(received: int) -> bytes:
        """The start that all lines of one frame share; `received` is in milliseconds since the epoch."""
        return b'{"received":%.3f,"at":' % (received / 1000)

    def events(
        self, pieces: list[bytes], first: int, received: Sequence[int], at: Sequence[int], texts: Sequence[bytes]
    ) -> None:
        """Add the lines of events.

        Args:
            pieces: what they are added to.
            first: number of the first event; the others follow it.
            received: when each came, in milliseconds since the epoch.
            at: the time of each, likewise.
            texts: the JSON text of each, without line breaks.
        """
        middle = self._middle
        came = second = -1
        head = b""
        for seq, (now, when, text) in enumerate(zip(received, at, texts, strict=True), first):
            after = when - second
            # Writing a number costs as much as all else of a line, and most events are of the same second.
            if now != came or not 0 <= after < 1000:
                came = now
                second = when // 1000 * 1000
                after = when - second
                head = b"%b%d" % (self.head(now), when // 1000)
            pieces += (head, _FRACTIONS[after], middle, b"%d" % seq, b',"event":', text, b"}\n")

    def paused(self, pieces: list[bytes], head: bytes, at: int, seq: int, text: bytes) -> None:
        """Add the line of an event that came while the class was paused."""
        pieces.append(b'%b%.3f%b%d,"event":%b,"paused":true}\n' % (head, at / 1000, self._middle, seq, text))

    def rejected(self, pieces: list[bytes], head: bytes, at: int, seq: int, text: bytes, rejection: Rejection) -> None:
        """Add the line of an event that was refused."""
        more = {"rejected": rejection, "text": text.decode("utf-8", "replace")}
        pieces.append(b"%b%.3f%b%d,%b\n" % (head, at / 1000, self._middle, seq, msgspec.json.encode(more)[1:]))


class Archive:
    """Appends lines to segments and makes them durable in groups.

    Attributes:
        folder: where the segments are.
        torn: what a power cut left of last lines; it was moved to the folder ``torn`` when the archive was opened.
    """

    def __init__(
        self, folder: Path, counters: Counters, *, segment_bytes: int = 64 * 1024 * 1024, sync: Sync = "strict"
    ) -> None:
        """Open the archive for appending.

        Raises:
            ArchiveError: the folder cannot be made or written to.
        """
        self.folder = folder
        self._counters = counters
        self._segment_bytes = segment_bytes
        self._sync: Sync = sync
        self._pieces: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._day = ""
        self._size = 0
        self._writing = asyncio.Lock()
        self._syncing: asyncio.TimerHandle | None = None
        self._closing = False
        self._compressing: asyncio.Future[None] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(13, "Permission denied")
            self.torn, self._torn_still = _mend(folder)
        except OSError as error:
            raise ArchiveError(f"The archive folder {folder} cannot be written: {error.strerror}.") from error
        counters.add("archive_torn_lines", len(self.torn))
        self._number = max(_named(folder), default=0)

    @property
    def position(self) -> Position:
        """Where the next line goes; all that `sync` has made durable is before it. Not while `sync` is under way."""
        return Position(self._number, self._size) if self._file else Position(self._number + 1, 0)

    def continue_after(self, position: Position) -> None:
        """Give new segments later numbers than a position's, even where segments before it are missing."""
        self._number = max(self._number, position.segment)

    def append(self, pieces: list[bytes]) -> None:
        """Take lines, as pieces that are joined; they are durable once a later `sync` has returned."""
        self._pieces += pieces

    async def sync(self) -> None:
        """Write and fsync all that was appended before this call, off the event loop.

        Raises:
            ArchiveError: it could not be written, as when the disk is full. Nothing is lost: the lines wait,
                and the next call tries again.
        """
        async with self._writing:
            if not self._pieces:
                return
            pieces, self._pieces = self._pieces, []
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(None, self._write, b"".join(pieces))
            except BaseException as error:
                self._pieces = pieces + self._pieces
                self._counters.add("archive_write_failures")
                if isinstance(error, OSError):
                    raise ArchiveError(f"The archive cannot be written: {error.strerror}.") from error
                raise
            if self._sync == "relaxed" and self._syncing is None:
                self._syncing = loop.call_later(RELAXED_SECONDS, self._sync_later)

    def discard(self) -> None:
        """Forget the lines that were taken and are not durable; whoever appended them appends them again, or others.

        Not while `sync` is under way.
        """
        self._pieces = []

    async def compress(self) -> None:
        """Compress closed segments, off the event loop; one that cannot be compressed now stays as it is."""
        loop = asyncio.get_running_loop()
        for number, path in numbered(self.folder):
            if path.suffix == ".gz" or path in self._torn_still or (number == self._number and self._file):
                continue
            self._compressing = loop.run_in_executor(None, _compress, path, lambda: self._closing)
            try:
                # Who waits for it may be cancelled; the thread goes on until `close` has told it to stop.
                await asyncio.shield(self._compressing)
            except OSError as error:
                self._counters.add("archive_compress_failures")
                log.warning("The segment %s could not be compressed: %s.", path.name, error.strerror or error)
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    return

    def used_bytes(self) -> int:
        """How much disk the segments take."""
        return sum(path.stat().st_size for path in segments(self.folder))

    async def close(self) -> None:
        """Sync and close the segment. Nothing changes files after that."""
        self._closing = True
        if self._compressing:
            await asyncio.wait([self._compressing])
        if self._syncing:
            self._syncing.cancel()
            self._syncing = None
        try:
            await self.sync()
        finally:
            if self._file:
                if self._sync != "strict":
                    os.fsync(self._file.fileno())
                self._file.close()
                self._file = None

    def _sync_later(self) -> None:
        self._syncing = None
        asyncio.get_running_loop().run_in_executor(None, self._sync_file)

    def _sync_file(self) -> None:
        """In the relaxed mode: bring to the disk what was acknowledged in the meantime."""
        try:
            if self._file:
                os.fsync(self._file.fileno())
        except (OSError, ValueError) as error:
            # A ValueError says that the segment was closed meanwhile, which synced it.
            if isinstance(error, OSError):
                self._counters.add("archive_sync_failures")
                log.error("The archive could not be brought to the disk: %s.", error.strerror)

    def _write(self, text: bytes) -> None:
        day = time.strftime("%Y%m%d", time.gmtime())
        if self._file is None or day != self._day or self._size >= self._segment_bytes:
            self._open(day)
        file = self._file
        assert file is not None
        try:
            write_all(file.fileno(), text)
            if self._sync == "strict":
                os.fsync(file.fileno())
        except BaseException:
            # What was half written, or written and not surely on disk, must not stand there twice.
            self._abandon(file)
            raise
        self._size += len(text)

    def _open(self, day: str) -> None:
        if self._file:
            if self._sync != "strict":
                os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
        self._number = 1 + max([self._number, *_named(self.folder)])
        self._file = (self.folder / f"events-{day}-{self._number:04d}.jsonl").open("xb", buffering=0)
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
    return [path for _, path in numbered(folder)]


def numbered(folder: Path) -> list[tuple[int, Path]]:
    """The archive's segments with their numbers, oldest first.

    One that was being compressed when the power went is there twice; the plain one counts. One that is being compressed
    now may be missed by a look at the folder, but not by two. A folder of such a name is none; see `misplaced`.
    """
    return sorted((number, path) for number, path in _named(folder).items() if not path.is_dir())


def misplaced(folder: Path) -> list[Path]:
    """Folders that have the name of a segment; what they hold belongs to no archive."""
    return sorted(path for path in folder.iterdir() if SEGMENT_NAME.fullmatch(path.name) and path.is_dir())


def _named(folder: Path) -> dict[int, Path]:
    """What has the name of a segment, by number; a file rather than a folder."""
    earlier, now = sorted(folder.iterdir()), sorted(folder.iterdir())
    found: dict[int, Path] = {}
    for path in now + earlier:
        match = SEGMENT_NAME.fullmatch(path.name)
        if match and (int(match[2]) not in found or found[int(match[2])].is_dir()):
            found[int(match[2])] = path
    return found


def text_bytes(path: Path) -> int:
    """Length of a segment's text, uncompressed; of one that a gzip file holds, as its trailer says (RFC 1952)."""
    if path.suffix != ".gz":
        return path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4))
        trailer = file.read(4)
    return int(struct.unpack("<I", trailer)[0]) if len(trailer) == 4 else 0


def whole_bytes(path: Path) -> int:
    """Length of a segment's text up to its last line break; what follows is being written, or was cut off."""
    if path.suffix == ".gz":
        return text_bytes(path)
    with path.open("rb") as file:
        return last_line_end(file, file.seek(0, os.SEEK_END))


class Reader:
    """Reads an archive folder from a place on, as far as it goes, and later further.

    Attributes:
        position: up to where it was read.
        line: the line that was read last.
    """

    def __init__(self, folder: Path, start: Position = BEGINNING) -> None:
        self.folder = folder
        self.position = start
        self.line: Line | None = None

    def remaining_bytes(self) -> int:
        """How much text is still to come."""
        number, byte = self.position
        return sum(text_bytes(path) for n, path in numbered(self.folder) if n >= number) - byte

    def records(self, end: Position | None = None) -> Iterator[Record | Damage]:
        """The lines up to `end`, which is the beginning of a line; without it, all there are.

        Raises:
            ArchiveError: a segment cannot be read.
        """
        for number, path in numbered(self.folder):
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
    """The lines of one archive file, plain or gzip, from a byte of its text on; damaged ones come as `Damage`.

    Raises:
        ArchiveError: it is not there or cannot be read.
    """
    with opened(path) as file:
        yield from _lines(path, file, byte)


def read(files: Iterable[Path]) -> Iterator[Record | Damage]:
    """What archive files, and folders of segments, hold, one after the other.

    Raises:
        ArchiveError: a file is not there or cannot be read.
    """
    for path in files:
        if path.is_dir():
            yield from Reader(path).records()
        else:
            yield from (line.record for line in lines(path))


def opened(path: Path) -> IO[bytes] | gzip.GzipFile:
    """An archive file, plain or gzip, for reading its lines.

    Raises:
        ArchiveError: it is not there or cannot be opened.
    """
    try:
        try:
            return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
        except FileNotFoundError:
            # A segment may have been compressed since the folder was listed.
            return gzip.open(path.with_name(path.name + ".gz"), "rb")
    except FileNotFoundError:
        raise ArchiveError(f"There is no archive file {path}.") from None
    except OSError as error:
        raise ArchiveError(f"The archive file {path} cannot be read: {error.strerror or error}.") from error


def _lines(path: Path, file: IO[bytes] | gzip.GzipFile, byte: int) -> Iterator[Line]:
    number = 0

    def broken(error: Exception) -> Line:
        damage = Damage(path.name, number + 1, byte, f"the compressed file is damaged: {type(error).__name__}")
        return Line(damage, path.name, number + 1, byte, byte)

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
            yield Line(parsed(path, text, number, start), path.name, number, start, byte)


def _mend(folder: Path) -> tuple[list[Damage], set[Path]]:
    """Move what a power cut left of last lines out of the segments: those bytes were never acknowledged.

    Returns:
        What was found, and the segments where it still stands, since the disk has no room to put it aside. They are
        read up to it, and nothing is ever added to them.
    """
    torn = []
    still = set()
    for _, path in numbered(folder):
        if path.suffix == ".gz":
            continue
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = last_line_end(file, size)
            if start == size:
                continue
            file.seek(start)
            rest = file.read()
        aside = folder / _TORN
        try:
            aside.mkdir(exist_ok=True)
            write_private(aside / f"{path.stem}-{start}.txt", rest)
            with path.open("r+b") as file:
                file.truncate(start)
                os.fsync(file.fileno())
        except OSError as error:
            still.add(path)
            where = f"stays where it is, since it cannot be put aside: {error.strerror}"
        else:
            where = f"is in {_TORN}"
        came = counted(len(rest), "byte")
        torn.append(Damage(path.name, 0, start, f"the last line was cut off; what came of it ({came}) {where}"))
        log.warning("The archive's segment %s ended in half a line. Its bytes %s.", path.name, where)
    return torn, still


def _compress(path: Path, stop: Callable[[], bool]) -> None:
    """Replace a segment by its compressed form; a power cut leaves the one or the other, or both whole.

    Args:
        path: the segment.
        stop: asked now and then whether to leave it for the next time.
    """
    part = path.with_name(path.name + ".part")
    try:
        with path.open("rb") as plain, part.open("wb") as file:
            with gzip.GzipFile("", "wb", _LEVEL, fileobj=file, mtime=0) as compressed:
                while not (stopped := stop()) and (piece := plain.read(1 << 20)):
                    compressed.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if stopped:
            part.unlink()
            return
        replace(part, path.with_name(path.name + ".gz"))
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    # One that somebody reads on Windows stays beside its compressed form, and is compressed once more another time.
    remove_if_unused(path)


def parsed(path: Path, line: bytes, number: int, byte: int) -> Record | Damage:
    """What a line of an archive file holds; `number` and `byte` say where it stands."""
    try:
        if not line.isascii():
            # The decoder does not look into the event, which it leaves as it is.
            line.decode()
        record = _decode_record(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if may_hold_halves(line) and (found := _with_halves(line)):
            return found
        if not line.endswith(b"\n"):
            return Damage(path.name, number, byte, "the line is cut off")
        # A validation error names the field; the text of a syntax error holds nothing of the line either.
        return Damage(path.name, number, byte, str(error))
    if not bytes(record.event) and record.rejected is None:
        return Damage(path.name, number, byte, "the line has neither an event nor a rejection")
    return record


def _with_halves(line: bytes) -> Record | None:
    """A line whose event holds half of a surrogate pair, which the fast decoder refuses; None where it is damaged."""
    try:
        record = _decode_record(masked(line))
        event = unmasked(bytes(record.event))
        # The fast decoder has not seen what was masked.
        loads(event)
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
        return None
    return msgspec.structs.replace(record, event=msgspec.Raw(event))
