"""Checking: the lines of a segment, each proved by the checksum of its group, and the links between groups.

A group with a wrong checksum is damaged. If lines of it cannot be parsed, they explain that, and the others are used,
unless the compressed file is damaged.
If all can be parsed, nobody knows which is wrong, and all are left out. What is known to be damaged in the checksum's
field alone costs nothing: the group before, or the one after it, has the same checksum.

Lines without an end are of format 1 or 2, or they are an unfinished group, as a power cut or a failed write leaves it;
these were never acknowledged, and the next segment's chain continues before them.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from appliance.archive.chain import GROUP_BYTES, NOTHING, field
from appliance.archive.ends import before_following, first_group, is_in_segment_before, last_group, own_before
from appliance.archive.groups import Group, parts_of, split
from appliance.archive.links import explained
from appliance.archive.records import Damage, Line, parse_line
from appliance.archive.segments import open_segment
from appliance.errors import ArchiveError
from appliance.text import counted

BAD = "their checksum is wrong, and which of them is damaged is not known"
UNFINISHED = "their commit was not finished, so they were never acknowledged"
EMPTY = "the file is empty, which a compressed one never is"
FLAW = "the checksum itself is damaged; the lines of its commit are whole and were used"


class BrokenLink(msgspec.Struct, frozen=True):
    """A group whose BEFORE does not name the group before it: its file, its first line and byte, and a sentence."""

    file: str
    line: int
    byte: int
    reason: str


class SegmentCheck(msgspec.Struct):
    """The result of reading a segment.

    Attributes:
        file: its name.
        groups: number of groups that are right.
        damaged: number of places that are damaged.
    """

    file: str
    groups: int = 0
    damaged: int = 0


class ChainState:
    """What is known of the chain where reading is.

    Attributes:
        own: OWN of the last group; None where it is not known, so that any BEFORE is right.
        seen: whether a group was read. None where earlier segments may have groups.
        broken: links that are broken.
        checks: by file, the result of each segment that was read.
    """

    def __init__(self, *, from_beginning: bool) -> None:
        """Args:
        from_beginning: whether the archive's first segment is read first.
        """
        self.own: bytes | None = NOTHING if from_beginning else None
        self.seen: bool | None = False if from_beginning else None
        self.checks: dict[str, SegmentCheck] = {}
        self.broken: list[BrokenLink] = []


class SegmentLines:
    """Reads one segment.

    Attributes:
        byte: the end of the groups, or lines without one, that were used.
    """

    def __init__(
        self,
        path: Path,
        state: ChainState,
        later: Sequence[Path] = (),
        *,
        reports_unfinished: bool,
    ) -> None:
        """Args:
        path: the segment.
        state: goes on from segment to segment.
        later: the segments after it; if none are given they are looked for in its folder.
        reports_unfinished: whether an unfinished group at the end of the last segment is damage. It is none where
            somebody may be writing it.
        """
        self.byte = 0
        self._starts_inside = False
        self._path = path
        self._name = path.name
        self._state = state
        self._later = later
        self._reports_unfinished = reports_unfinished
        self._has_groups = False
        self._is_right: bool | None = None
        self._check = state.checks.setdefault(path.name.removesuffix(".gz"), SegmentCheck(path.name))

    def read(self, file: IO[bytes] | gzip.GzipFile, byte: int, end: int | None) -> Iterator[Iterator[Line]]:
        """The lines, of some groups at once; each of these is to be used up before the next.

        Args:
            file: the segment's text, of which `byte` is the next one.
            byte: the byte at which a group begins.
            end: the byte at which reading ends; None for the end of the segment.

        Raises:
            ArchiveError: it cannot be read.
        """
        self.byte = byte
        self._starts_inside = byte > 0
        waiting: Group | None = None
        failure = ""
        groups = split(file, byte, end)
        while True:
            try:
                group = next(groups, None)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                failure = type(error).__name__
                group = None
            except OSError as error:
                raise ArchiveError(
                    f"The archive file {self._path} cannot be read: {error.strerror or error}."
                ) from error
            if group is None:
                break
            if waiting:
                yield self._middle(waiting, group)
                self.byte = waiting.end
            waiting = group
        if failure:
            yield self._before_failure(waiting, byte, failure)
        elif waiting:
            yield self._last(waiting)

    def unreadable(self, byte: int, reason: str) -> list[Line]:
        """A segment that cannot be read from a byte on."""
        self._state.own = None
        self._check.damaged += 1
        self.byte = byte
        return [Line(Damage(self._name, 1, byte, reason), self._name, 1, byte, byte)]

    def empty(self) -> None:
        """The file of a compressed segment is empty. What it held is missing, as if the file were."""
        self._state.broken.append(BrokenLink(self._name, 1, 0, EMPTY))

    def _middle(self, group: Group, next_one: Group) -> Iterator[Line]:
        if group.own is not None:
            return self._with_end(group, next_one.before)
        if self._is_old():
            return self._lines(group)
        return self._bad_parts(group, next_one.before)

    def _last(self, group: Group) -> Iterator[Line]:
        following = before_following(self._path, self._later)
        if group.own is not None:
            *others, group = group.apart()
            for other in others:
                yield from self._with_end(other, group.before)
            if following == group.before and following not in (None, NOTHING):
                # A failed write that could not be cut off: its lines were written again, to the next segment.
                pass
            else:
                yield from self._with_end(group, following)
            self.byte = group.end
        elif self._is_old():
            yield from self._lines(group)
            self.byte = group.end
        else:
            *finished, rest = parts_of(group)
            for part in finished if rest.own is None else (*finished, rest):
                yield from self._bad_parts(part, None)
                self.byte = part.end
            if rest.own is None:
                yield from self._unfinished(rest, following)

    def _unfinished(self, group: Group, following: bytes | None) -> Iterator[Line]:
        """The lines after the last group."""
        if following is not None and following == self._own():
            # A failed write that could not be cut off.
            self.byte = group.end
        elif following is not None:
            yield from self._bad(group)
            self.byte = group.end
        elif self._reports_unfinished:
            yield self._damage(group, UNFINISHED)

    def _before_failure(self, group: Group | None, byte: int, failure: str) -> Iterator[Line]:
        """The lines before a damaged place of a compressed file; those that no checksum proves are left out."""
        reason = f"the compressed file is damaged: {failure}"
        lost = None
        line = 1
        if group is not None:
            byte, line = group.end, group.line + group.text.count(b"\n")
            if group.own is not None:
                yield from self._with_end(group, None)
            elif self._is_old():
                *whole, half = group.text.rpartition(b"\n")
                byte -= len(half)
                if whole[0]:
                    yield from self._lines(group._replace(text=b"".join(whole)))
            else:
                lost = group
                byte, line = group.byte, group.line
        self._state.own = None
        self._check.damaged += 1
        lines = lost.text.count(b"\n") + (not lost.text.endswith(b"\n")) if lost else 1
        if lines > 1:
            reason += f"; {counted(lines, 'line')} before that have no checksum and were left out"
        yield Line(Damage(self._name, line, byte, reason, lines), self._name, line, byte, byte)

    def _with_end(self, group: Group, next_before: bytes | None) -> Iterator[Line]:
        """The lines of groups that are proved, or what is known of them.

        Args:
            group: has its end.
            next_before: BEFORE of the group after it, None where it is not known.
        """
        state = self._state
        self._has_groups = state.seen = True
        if not group.proved:
            return self._flawed(group, next_before)
        self._check.groups += group.proved
        if state.own is not None and state.own != group.before:
            self._check_link(group)
        state.own = group.own
        return self._lines(group)

    def _flawed(self, group: Group, next_before: bytes | None) -> Iterator[Line]:
        """The lines of a group whose checksum is wrong."""
        state = self._state
        own = group.own_after(group.before or NOTHING)
        if state.own is not None and group.own_after(state.own) == group.own:
            own = group.own or NOTHING
        elif own == next_before:
            if state.own is not None and state.own != group.before:
                self._check_link(group)
        else:
            yield from self._bad_parts(group, next_before)
            return
        self._check.groups += 1
        state.own = own
        yield self._damage(group, FLAW, lines=0)
        yield from self._lines(group)

    def _bad_parts(self, group: Group, next_before: bytes | None) -> Iterator[Line]:
        """The lines of a group that may be several, because the form of a field is damaged."""
        waiting: Group | None = None
        for part in parts_of(group):
            whole = part
            if waiting:
                whole = part._replace(text=waiting.text + part.text, byte=waiting.byte, line=waiting.line)
            if not whole.is_whole():
                waiting = whole
                continue
            waiting = None
            mended = field(whole.before or NOTHING, whole.own or NOTHING)
            if not whole.text.endswith(mended):
                # The form of the field is damaged, and what it covers is proved.
                yield self._damage(whole, FLAW, lines=0)
                whole = whole._replace(text=whole.text[: -len(mended)] + mended)
            yield from self._with_end(whole._replace(proved=1), next_before)
        if waiting:
            yield from self._bad(waiting)

    def _bad(self, group: Group) -> Iterator[Line]:
        """The lines of a group of which some are damaged."""
        self._state.own = None
        found = list(self._lines(group))
        # One changed bit of compressed data changes several places of the text, in lines that can be parsed too.
        if any(isinstance(line.record, Damage) for line in found) and self._is_decompressed_right():
            yield from found
        elif found:
            yield self._damage(group, BAD)

    def _is_decompressed_right(self) -> bool:
        """Whether the segment is plain, or its compressed data have the checksums of gzip."""
        if self._is_right is None:
            self._is_right = True
            try:
                with open_segment(self._path) as file:
                    while isinstance(file, gzip.GzipFile) and file.read(GROUP_BYTES):
                        pass
            except (EOFError, OSError, zlib.error):
                self._is_right = False
        return self._is_right

    def _lines(self, group: Group) -> Iterator[Line]:
        """The lines of a group, parsed."""
        name = self._name
        at, number = group.byte, group.line
        *rows, half = group.text.split(b"\n")
        for row in rows:
            end = at + len(row) + 1
            record = parse_line(row, name, number, at)
            if record.__class__ is Damage:
                if not row or row.isspace():
                    at = end
                    number += 1
                    continue
                record = parse_line(row + b"\n", name, number, at)
                self._check.damaged += 1
            yield Line(record, name, number, at, end)
            at = end
            number += 1
        if half and not half.isspace():
            self._check.damaged += 1
            yield Line(parse_line(half, name, number, at), name, number, at, group.end)

    def _damage(self, group: Group, reason: str, lines: int | None = None) -> Line:
        self._check.damaged += 1
        if lines is None:
            lines = group.text.count(b"\n") + (not group.text.endswith(b"\n"))
            reason = f"{counted(lines, 'line')} were left out: {reason}"
        return Line(
            Damage(self._name, group.line, group.byte, reason, lines), self._name, group.line, group.byte, group.byte
        )

    def _check_link(self, group: Group) -> None:
        own, before = self._state.own or NOTHING, group.before or NOTHING
        # What a failed sync may have lost is written again from an earlier group on; see `appliance.archive.unsynced`.
        if explained(self._path.parent, own, before) or (not group.byte and is_in_segment_before(self._path, before)):
            return
        if before == NOTHING:
            reason = "its checksum names no commit before it, though there is one"
        elif own == NOTHING:
            reason = "it is the first, and the commits before it are missing"
        else:
            reason = "its checksum does not name the commit before it, which is missing, added or changed"
        self._state.broken.append(BrokenLink(self._name, group.line, group.byte, reason))

    def _is_old(self) -> bool:
        """Whether lines without an end are of format 1 or 2."""
        if self._has_groups:
            return False
        if self._state.seen is None:
            # Groups of this segment before the byte at which reading began count too.
            has_groups = self._starts_inside and first_group(self._path) is not None
            self._state.seen = has_groups or own_before(self._path) is not None
        return not self._state.seen

    def _own(self) -> bytes | None:
        """OWN of the last group before the end of the segment."""
        if self._state.own is not None:
            return self._state.own
        last = last_group(self._path)
        return last.own if last else own_before(self._path)
