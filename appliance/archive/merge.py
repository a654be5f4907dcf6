"""Merge: the archives of one node or several as one sequence of lines, each event once and in its stream's order.

The given paths are grouped into sources. A source is the archive of one node: a folder of segments, or the segment
files that were named of one folder, in the order of their numbers; any other file is a source of its own.

One source is read in the order of its files, which is the order of receipt. Several are merged:

- Each source is in the order in which its node received the lines. They are merged by the time of receipt (of a node
  whose clock was set back, by the latest time so far), then by stream and number.
- A student may have moved from one node to another, so that numbers of one stream are in several sources, and clocks
  differ. So all sources are read twice: first for the numbers alone, kept as ranges (a stream without a gap takes two
  integers, however long it is), then for the lines. A line that comes before a lower number of its stream, which the
  first reading has seen, waits for it.
- A number that is in several sources counts once: the line that comes first in that order.

So memory grows with the number of streams, not of lines. Waiting lines, as many as clocks were apart, go to a temporary
file once they are larger than `WAITING_BYTES`. The order of the arguments does not matter.
"""

from __future__ import annotations

import heapq
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from appliance.archive.checking import BrokenLink
from appliance.archive.ends import complete_bytes
from appliance.archive.gaps import Acceptance, Gap, GapWatch, MissingFiles
from appliance.archive.markers import moved_to
from appliance.archive.merged_students import Owners
from appliance.archive.reading import FileLines
from appliance.archive.records import Damage, Line, Record, Rejection
from appliance.archive.segments import SEGMENT_NAME, numbered_segments, uncompressed_bytes
from appliance.datafolder import WORKERS
from appliance.errors import ArchiveError

WAITING_BYTES = 32 * 1024 * 1024
"""So many bytes of waiting lines are kept in memory."""
_PROGRESS_LINES = 5000
_REASONS = 1000

_Key = tuple[str, str]
"""A stream: ids of the student and of the stream."""
_Packed = tuple[float, float, str, str, str, str, int, bytes, bool, Rejection | None, str | None, str, int, int, int]
_Groups = dict[Path, dict[tuple[int, str], Path]]
"""By folder, or by file that is no segment: its files by number and name."""
_unpack = msgspec.msgpack.Decoder(_Packed).decode


class Source(NamedTuple):
    """The archive of one node.

    Attributes:
        label: its folder, for messages; "" where it is the only source.
        files: in the order in which they were written.
        end: the byte of the last file's text at which reading ends; None for its end.
    """

    label: str
    files: tuple[Path, ...]
    end: int | None


class Merged:
    """The lines of several sources in one order.

    Attributes:
        total_bytes: of the text to be read, for a progress bar; with several sources it is read twice.
        read_bytes: of the text that was read so far.
        repeated: number of lines that were left out because their stream had the number already.
        last: by stream, ids of the student and of the stream, the number of its last line.
        watch: has the missing numbers; see `gaps`.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        students: frozenset[str] | None = None,
        classes: frozenset[str] | None = None,
        acceptance: Acceptance | None = None,
    ) -> None:
        """Args:
        sources: see `sources`.
        students: whose lines are wanted, by id; None for all.
        classes: of which classes repeated lines are counted, by id; None for all. The lines of all are read.
        acceptance: which gaps are accepted; None for none.
        """
        self.repeated = 0
        self.last: dict[tuple[str, str], int] = {}
        self.watch = GapWatch(acceptance)
        self.read_bytes = 0
        passes = 2 if len(sources) > 1 else 1
        self.total_bytes = passes * sum(uncompressed_bytes(path) for source in sources for path in source.files)
        self._sources = sources
        self._students = students
        self._classes = classes
        self._read: list[tuple[str, FileLines]] = []

    @property
    def broken_links(self) -> list[BrokenLink]:
        """Where the chain of an archive is broken, as far as it was read."""
        found = {}
        for label, some in self._read:
            for link in some.broken_links:
                file = f"{label}/{link.file}" if label else link.file
                found[file, link.byte] = msgspec.structs.replace(link, file=file)
        return list(found.values())

    @property
    def gaps(self) -> list[Gap]:
        """The numbers that are missing before the lines that were read so far, in their order."""
        return self.watch.gaps

    def lines(self, progress: Callable[[float], None] = lambda share: None) -> Iterator[Line]:
        """The lines; those that cannot be read come as `Damage`. To be called once.

        Args:
            progress: called now and then with the share that was read, from 0 to 1.

        Raises:
            ArchiveError: a file cannot be read.
        """
        count = self._counter(progress)
        if len(self._sources) == 1:
            yield from self._in_file_order(self._wanted(self._sources[0], count))
        else:
            ranges: dict[_Key, list[int]] = {}
            for source in self._sources:
                for line in self._wanted(source, count):
                    if isinstance(line.record, Record):
                        _add(ranges.setdefault((line.record.student_id, line.record.stream), []), line.record.seq)
            ordered = [_by_receipt(rank, self._wanted(source, count)) for rank, source in enumerate(self._sources)]
            yield from self._in_stream_order((item[-1] for item in heapq.merge(*ordered)), ranges)
        self._find_reasons()
        progress(1.0)

    def _find_reasons(self) -> None:
        """Add to the first gaps why they are there, which the folder of a single source may show."""
        if len(self._sources) == 1 and self.gaps and self._sources[0].files:
            files = MissingFiles(self._sources[0].files[0].parent)
            for at, gap in enumerate(self.gaps[:_REASONS]):
                self.gaps[at] = msgspec.structs.replace(gap, reason=files.reason(gap))

    def _counter(self, progress: Callable[[float], None]) -> Callable[[int], None]:
        """A function that adds the bytes of a line to what was read, and reports the progress now and then."""
        left = 0

        def count(size: int) -> None:
            nonlocal left
            self.read_bytes += size
            left -= 1
            if left <= 0:
                left = _PROGRESS_LINES
                progress(min(1.0, self.read_bytes / max(1, self.total_bytes)))

        return count

    def _wanted(self, source: Source, count: Callable[[int], None]) -> Iterator[Line]:
        """The lines of the wanted students, and damaged ones, with the source's label before the name of the file."""
        students = self._students
        found = FileLines(source.files, source.end)
        if not source.files:
            return
        owners = Owners(source.files[0].parent)
        if students is not None:
            students = frozenset(owners.merged.get(student, student) for student in students)
        self._read.append((source.label, found))
        for line in found:
            count(line.end - line.byte)
            record = owners.of(line.record) if owners.merged else line.record
            if isinstance(record, Damage):
                file = f"{source.label}/{line.file}" if source.label else line.file
                yield line._replace(record=msgspec.structs.replace(record, file=file), file=file)
            elif students is None or record.student_id in students:
                if record is not line.record:
                    line = line._replace(record=record)
                yield line._replace(file=f"{source.label}/{line.file}") if source.label else line

    def _in_file_order(self, found: Iterable[Line]) -> Iterator[Line]:
        """The lines of the only source, without repeated numbers."""
        last = self.last
        recent = self.watch.recent
        for line in found:
            record = line.record
            if isinstance(record, Record):
                key = record.student_id, record.stream
                before = last.get(key, 0)
                if record.seq <= before:
                    self._count_repeated(record)
                    continue
                if record.seq != before + 1:
                    self.watch.missing(key, *key, (before + 1, record.seq - 1), line[1:4])
                last[key] = record.seq
                recent[key] = line[1:4]
            elif record.lines:
                self.watch.damaged()
            yield line

    def _in_stream_order(self, found: Iterable[Line], ranges: dict[_Key, list[int]]) -> Iterator[Line]:
        """The lines of several sources, without repeated numbers, each after the lower numbers of its stream.

        Args:
            found: the lines by time of receipt.
            ranges: the numbers of each stream, see `_add`.
        """
        for pairs in ranges.values():
            _sort_and_join(pairs)
        with tempfile.SpooledTemporaryFile(max_size=WAITING_BYTES) as file:
            waiting = _WaitingLines(file)
            for line in found:
                record = line.record
                if isinstance(record, Damage):
                    if record.lines:
                        self.watch.damaged()
                    yield line
                    continue
                key = record.student_id, record.stream
                awaited = _next(ranges[key], self.last.get(key, 0))
                if awaited is None or record.seq < awaited or waiting.has(key, record.seq):
                    self._count_repeated(record)
                elif record.seq > awaited:
                    waiting.put(key, line)
                else:
                    yield self._passed(key, record.seq, line)
                    while (following := _next(ranges[key], self.last[key])) is not None and waiting.has(key, following):
                        yield self._passed(key, following, waiting.take(key, following))

    def _count_repeated(self, record: Record) -> None:
        self.repeated += self._classes is None or record.class_id in self._classes

    def _passed(self, key: _Key, seq: int, line: Line) -> Line:
        """Note the next line of a stream, and the numbers that are missing before it."""
        before = self.last.get(key, 0)
        if seq != before + 1:
            self.watch.missing(key, *key, (before + 1, seq - 1), line[1:4])
        self.last[key] = seq
        self.watch.recent[key] = line[1:4]
        return line


def sources(paths: Iterable[Path], *, growing: bool = False) -> list[Source]:
    """Group files and folders into sources.

    Args:
        paths: files, folders of segments, and data folders (whose folder ``archive`` counts), in any order.
        growing: whether an appliance may be writing to them: a last line without its end is left out then.

    Raises:
        ArchiveError: something is not there, or is a folder without segments; or all segments were moved elsewhere.
    """
    groups: _Groups = {}
    for path in dict.fromkeys(paths):
        if path.is_dir():
            _add_folder(groups, path)
        elif not path.exists():
            raise ArchiveError(f"There is no archive file {path}.")
        elif match := SEGMENT_NAME.fullmatch(path.name):
            groups.setdefault(path.resolve().parent, {})[int(match[2]), path.name] = path
        else:
            groups.setdefault(path.resolve(), {})[0, path.name] = path
    if not any(groups.values()):
        for group in groups:
            _check_not_moved(group)
    found = []
    for group in sorted(group for group, files in groups.items() if files):
        ordered = [groups[group][key] for key in sorted(groups[group])]
        end = None
        if ordered[-1].suffix != ".gz":
            end = complete_bytes(ordered[-1]) if growing else uncompressed_bytes(ordered[-1])
        label = "" if len(groups) == 1 else str(ordered[0].parent)
        found.append(Source(label, tuple(ordered), end))
    return found


def _add_folder(groups: _Groups, path: Path) -> None:
    """Add the segments of a folder, or of a data folder and the workers in it."""
    folder = path / "archive" if not numbered_segments(path) and (path / "archive").is_dir() else path
    workers = list((folder.parent / WORKERS).glob("*/archive")) if folder.name == "archive" else []
    for worker in workers:
        groups.setdefault(worker.resolve(), {}).update(_by_number(worker))
    files = _by_number(folder)
    if workers and not files:
        return
    if not files and folder == path:
        _check_not_moved(folder)
        raise ArchiveError(f"The folder {path} holds no archive files; they are named events-DAY-NUMBER.jsonl.")
    groups.setdefault(folder.resolve(), {}).update(files)


def _check_not_moved(folder: Path) -> None:
    """Raises ArchiveError if an archive folder without segments had some that were moved elsewhere."""
    if elsewhere := moved_to(folder):
        raise ArchiveError(
            f"The files of the archive {folder} were moved to {', '.join(elsewhere)}. Put them back with "
            "'archive bring-back', or name that folder instead."
        )


def _by_number(folder: Path) -> dict[tuple[int, str], Path]:
    return {(number, file.name): file for number, file in numbered_segments(folder)}


def _by_receipt(rank: int, found: Iterable[Line]) -> Iterator[tuple[float, str, int, int, Line]]:
    """The lines of a source, each after what it is sorted by; `rank` is the source's, so that no two are equal."""
    latest = 0.0
    for line in found:
        record = line.record
        if isinstance(record, Damage):
            yield latest, "", 0, rank, line
        else:
            latest = max(latest, record.received)
            yield latest, record.stream, record.seq, rank, line


def _add(pairs: list[int], seq: int) -> None:
    """Add a number to ranges, a list of first, last, first, last ..."""
    if pairs and pairs[-1] == seq - 1:
        pairs[-1] = seq
    else:
        pairs += (seq, seq)


def _sort_and_join(pairs: list[int]) -> None:
    """Sort ranges, and join those that touch or overlap."""
    if len(pairs) == 2:
        return
    joined: list[int] = []
    for first, last in sorted(zip(pairs[::2], pairs[1::2], strict=True)):
        if joined and first <= joined[-1] + 1:
            joined[-1] = max(joined[-1], last)
        else:
            joined += (first, last)
    pairs[:] = joined


def _next(pairs: list[int], after: int) -> int | None:
    """The lowest number above another in sorted ranges; None where there is none."""
    at = bisect_right(pairs, after)
    if at % 2:
        return after + 1
    return pairs[at] if at < len(pairs) else None


class _WaitingLines:
    """Lines that wait for a lower number of their stream, kept in a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._end = 0
        self._places: dict[_Key, dict[int, tuple[int, int]]] = {}

    def has(self, key: _Key, seq: int) -> bool:
        return seq in self._places.get(key, ())

    def put(self, key: _Key, line: Line) -> None:
        record = line.record
        assert isinstance(record, Record)
        packed = msgspec.msgpack.encode(
            (
                record.received,
                record.at,
                record.student_id,
                record.class_id,
                record.source,
                record.stream,
                record.seq,
                bytes(record.event),
                record.paused,
                record.rejected,
                record.text,
                *line[1:],
            )
        )
        self._file.seek(self._end)
        self._file.write(packed)
        self._places.setdefault(key, {})[record.seq] = self._end, len(packed)
        self._end += len(packed)

    def take(self, key: _Key, seq: int) -> Line:
        start, size = self._places[key].pop(seq)
        if not self._places[key]:
            del self._places[key]
        self._file.seek(start)
        packed = _unpack(self._file.read(size))
        if not self._places:
            self._end = 0
            self._file.truncate(0)
        received, at, student_id, class_id, source, stream, _, event = packed[:8]
        paused, rejected, text = packed[8:11]
        record = Record(
            received, at, student_id, class_id, source, stream, seq, msgspec.Raw(event), paused, rejected, text
        )
        return Line(record, *packed[11:])
