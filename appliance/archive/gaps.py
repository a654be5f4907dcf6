"""Gaps: numbers of a stream that are missing in an archive.

Each stream numbers its events from 1, and every number leaves a line, also of an event that was rejected or came while
the class was paused. So a number that is left out is an event that was archived once and is not there any more.

A gap is *explained* if a line that cannot be read was between the stream's line before it and the one after it, in the
order of reading: that damage is reported where it is. Any other gap is unexplained, and no state may be folded over
it unless somebody accepted it (`appliance.archive.accepted_gaps`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Protocol

import msgspec

from appliance.archive.chain import NOTHING
from appliance.archive.ends import first_group, last_group
from appliance.archive.markers import MarkedSegment, known_missing
from appliance.archive.segments import SEGMENT_NAME, disk_bytes, numbered_segments
from appliance.errors import ArchiveError
from appliance.health import Finding, finding

GAPS_SHOWN = 20
"""How many students with gaps are named; further ones are counted."""
_MORE = {
    "archive.gap": "archive.gap_more",
    "archive.gap_stored": "archive.gap_stored_more",
    "reducer.gap": "reducer.gap_more",
    "refill.gap": "refill.gap_more",
    "store.gap": "store.gap_more",
}
_RANGES_SHOWN = 3
_NO_END = 1 << 62


class Place(msgspec.Struct, frozen=True):
    """A line of the archive: its file, its number from 1, and the byte at which it begins, as in `Damage`.

    Attributes:
        line: 0 where it is not known, because reading began within the file.
    """

    file: str
    line: int
    byte: int

    @property
    def text(self) -> str:
        return f"{self.file}, line {self.line} (byte {self.byte})" if self.line else f"{self.file}, byte {self.byte}"


class Gap(msgspec.Struct, frozen=True):
    """Numbers of a stream, from `first` to `last`, that are in none of the archives.

    Attributes:
        after: the stream's line before them; None for the beginning, or where it was not read.
        before: the stream's line after them; None where they were the last ones.
        explained: whether a line that cannot be read was between the two.
        accepted: whether somebody accepted to go on without these events.
        reason: why they are not there, as far as the archive's folder shows it; "" where nobody asked for it.
    """

    student_id: str
    stream: str
    first: int
    last: int
    after: Place | None = None
    before: Place | None = None
    explained: bool = False
    accepted: bool = False
    reason: str = ""

    @property
    def events(self) -> int:
        """How many events are missing."""
        return self.last - self.first + 1

    @property
    def where(self) -> str:
        """Between which lines they are missing, in words; "" if none is known."""
        if self.before is None:
            return f"after {self.after.text}" if self.after else ""
        return f"between {self.after.text} and {self.before.text}" if self.after else f"before {self.before.text}"

    @property
    def blocks(self) -> bool:
        """Whether no state may be folded over it."""
        return not (self.explained or self.accepted)


class Acceptance(Protocol):
    """Decides which gaps are accepted."""

    def accepts(self, gap: Gap) -> bool:
        """Whether a gap that nothing explains was accepted; may keep that it is now."""


class GapWatch:
    """Notices gaps while lines are read in order.

    Whoever reads calls `passed` with each line that counts, `damaged` for each line that cannot be read, and `missing`
    where a number does not follow the one before.

    Attributes:
        gaps: those that were found, in the order of reading.
        recent: by stream, the place of its last line since the last damage: ``line[1:4]`` of a `Line`.
    """

    def __init__(self, acceptance: Acceptance | None = None, *, counts_lines: bool = True) -> None:
        """Args:
        acceptance: which gaps are accepted; None for none.
        counts_lines: whether the numbers of lines are those of the files, since each is read from its beginning.
        """
        self.gaps: list[Gap] = []
        self.recent: dict[Hashable, tuple[str, int, int]] = {}
        self._earlier: dict[Hashable, tuple[str, int, int]] = {}
        self._damaged = False
        self._acceptance = acceptance
        self._counts_lines = counts_lines

    def damaged(self) -> None:
        """Note a line that cannot be read: it may be of any stream."""
        self._damaged = True
        # Each place moves once, so this costs no more than reading the lines did.
        self._earlier.update(self.recent)
        self.recent.clear()

    def missing(
        self, key: Hashable, student_id: str, stream: str, numbers: tuple[int, int], now: tuple[str, int, int] | None
    ) -> Gap:
        """Note missing numbers of a stream; returns the gap.

        Args:
            key: the stream, as in `recent`.
            student_id: the student.
            stream: the stream's id.
            numbers: the first and the last one that is missing.
            now: the place of the line after them; None at the end of the archive.
        """
        explained = self._damaged and key not in self.recent
        after = self.recent.get(key) or self._earlier.get(key)
        gap = Gap(student_id, stream, *numbers, self._place(after), self._place(now), explained)
        if not explained and self._acceptance is not None and self._acceptance.accepts(gap):
            gap = msgspec.structs.replace(gap, accepted=True)
        self.gaps.append(gap)
        return gap

    def _place(self, found: tuple[str, int, int] | None) -> Place | None:
        if found is None:
            return None
        file, line, byte = found
        return Place(file, line if self._counts_lines else 0, byte)


class StudentGaps(msgspec.Struct):
    """The gaps of one student.

    Attributes:
        first: one of them, for its place.
        events: how many events are missing in all.
        numbers: of the first few gaps, in words.
        gaps: how many there are.
    """

    first: Gap
    events: int
    numbers: list[str]
    gaps: int = 1

    @property
    def text(self) -> str:
        """The missing numbers and the place of the first ones, such as "numbers 6 to 10 of a stream, between …"."""
        more = self.gaps - len(self.numbers)
        numbers = ", ".join(self.numbers) + (f" and {more:,} more" if more else "")
        word = "number" if self.events == 1 else "numbers"
        return f"{word} {numbers} of a stream{', ' if self.first.where else ''}{self.first.where}"


def by_student(gaps: Iterable[Gap]) -> dict[str, StudentGaps]:
    """Gaps by the student's id."""
    found: dict[str, StudentGaps] = {}
    for gap in gaps:
        numbers = f"{gap.first:,}" if gap.first == gap.last else f"{gap.first:,} to {gap.last:,}"
        known = found.get(gap.student_id)
        if known is None:
            found[gap.student_id] = StudentGaps(gap, gap.events, [numbers])
            continue
        known.events += gap.events
        known.gaps += 1
        if len(known.numbers) < _RANGES_SHOWN:
            known.numbers.append(numbers)
    return found


def gap_findings(
    gaps: Iterable[Gap], folder: Path, code: str, *, reducers: str = "", stored: bool = False
) -> Iterator[Finding]:
    """A finding for each student with gaps that block, of the first few students, and one for all others.

    Args:
        gaps: of any students.
        folder: the archive folder, which may show the reason.
        code: of the findings; with ``_more`` of the one for all others.
        reducers: names of the reducers that are concerned, for the sentence.
        stored: whether stored states have the events. Then students whose missing files are all named by markers share
            one finding, as nothing is wrong.
    """
    blocking = [gap for gap in gaps if gap.blocks]
    if not blocking:
        return
    students = by_student(blocking)
    files = MissingFiles(folder)
    if stored:
        unknown = {gap.student_id for gap in blocking if not files.are_known(gap)}
        if elsewhere := [students.pop(student_id) for student_id in students.keys() - unknown]:
            count = sum(one.events for one in elsewhere)
            yield finding("archive.gaps_elsewhere", students=len(elsewhere), count=count)
    for student_id, found in islice(students.items(), GAPS_SHOWN):
        yield finding(
            code,
            student_id,
            count=found.events,
            where=found.text,
            reason=files.reason(found.first),
            reducers=reducers,
        )
    if others := dict(islice(students.items(), GAPS_SHOWN, None)):
        count = sum(one.events for one in others.values())
        yield finding(_MORE[code], students=len(others), count=count, reducers=reducers)


class MissingFiles:
    """Why lines are not there, as far as an archive folder shows it."""

    def __init__(self, folder: Path) -> None:
        self._marked = known_missing(folder)
        self._there = dict(numbered_segments(folder)) if folder.is_dir() else {}

    def reason(self, gap: Gap) -> str:
        """Why the lines of a gap in this folder are not there; "" where that is not known."""
        between = self._between(gap)
        if between is None:
            return ""
        begin, end = between
        reasons = [
            f"in files that were moved to {missing.marker.to}"
            if missing.marker.kind == "moved"
            else "in files that were deleted for their age"
            for missing in self._marked
            if begin < missing.segment.number < end
        ]
        if empty := self._empty(begin, end):
            reasons.append(f"the archive file {empty[0]} is empty")
        if absent := self._absent(begin, end):
            reasons.append(f"no archive file with the {_named(absent)} is there")
        return "; ".join(dict.fromkeys(reasons))

    def are_known(self, gap: Gap) -> bool:
        """Whether markers name files that may hold a gap, and no other file is missing there."""
        between = self._between(gap)
        if between is None:
            return False
        begin, end = between
        marked = sum(one.segment.events for one in self._marked if begin < one.segment.number < end)
        return marked >= gap.events and not self._empty(begin, end) and not self._absent(begin, end, surely=True)

    def absent(self) -> str:
        """The numbers of all files that are not there and that no marker names, such as ``number 7``; "" for none."""
        absent = self._absent(0, _NO_END, surely=True)
        return _named(absent) if absent else ""

    @staticmethod
    def _between(gap: Gap) -> tuple[int, int] | None:
        begin, end = _number(gap.after, 0), _number(gap.before, _NO_END)
        return None if begin is None or end is None else (begin, end)

    def _empty(self, begin: int, end: int) -> list[str]:
        return [path.name for number, path in self._there.items() if begin <= number <= end and not disk_bytes(path)]

    def _absent(self, begin: int, end: int, *, surely: bool = False) -> list[int]:
        """Numbers that no file has and no marker names.

        In earlier versions a start that wrote nothing used up a number: where the chain goes on, no file is missing.

        Args:
            begin: the numbers after this one.
            end: the numbers before this one.
            surely: whether numbers of which the chain does not show it are left out.
        """
        marked = {missing.segment.number: missing.segment for missing in self._marked}
        found: list[int] = []
        for before, after in pairwise([0, *sorted(self._there.keys() | marked.keys())]):
            numbers = range(max(begin, before) + 1, min(end, after))
            if numbers:
                left, right = self._end(before, marked.get(before)), self._beginning(after, marked.get(after))
                is_known = bool(left and right)
                if left != right if is_known else not surely:
                    found += numbers
        return found

    def _end(self, number: int, marked: MarkedSegment | None) -> bytes:
        """OWN of a segment's last group, or what the first group of an archive names; empty where it is not known."""
        if marked or not number:
            return marked.head.encode() if marked else NOTHING
        try:
            last = last_group(self._there[number])
        except ArchiveError:
            return b""
        return last.own if last else b""

    def _beginning(self, number: int, marked: MarkedSegment | None) -> bytes:
        """BEFORE of a segment's first group; empty where it is not known."""
        if marked:
            return marked.before.encode()
        try:
            first = first_group(self._there[number])
        except ArchiveError:
            return b""
        return first.before if first else b""


def _named(numbers: list[int]) -> str:
    """Numbers in order, such as ``numbers 2, 5 to 7``."""
    joined: list[list[int]] = []
    for number in numbers:
        if joined and number == joined[-1][-1] + 1:
            joined[-1][1:] = [number]
        else:
            joined.append([number])
    word = "number" if len(numbers) == 1 else "numbers"
    return f"{word} {', '.join(' to '.join(map(str, ends)) for ends in joined)}"


def _number(place: Place | None, otherwise: int) -> int | None:
    """The number of the segment in which a place is; None where it is no segment."""
    if place is None:
        return otherwise
    match = SEGMENT_NAME.fullmatch(place.file)
    return int(match[2]) if match else None
