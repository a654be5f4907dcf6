"""Earlier head: whether the archive up to a commit is as it was when its head was one that somebody noted.

A head covers the last OWN and the markers of its time. Markers are only ever added, so each number of the first ones is
tried with each OWN that is known: those of the groups that are there, those that markers name of segments that were
moved, deleted or rewritten, and those that the next group names.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from appliance.archive import Damage, Reader
from appliance.archive.chain import GROUP_END, NOTHING
from appliance.archive.checking import BrokenLink
from appliance.archive.groups import split
from appliance.archive.head import Head, SoughtHead, marker_texts
from appliance.archive.links import explained
from appliance.archive.markers import Marker, read_markers
from appliance.archive.records import Record, parse_line
from appliance.archive.segments import SEGMENT_NAME, numbered_segments, open_segment
from appliance.health import Finding, finding
from appliance.maintenance.segment_tails import tail


class _Commit(NamedTuple):
    """The commit that a head names.

    Attributes:
        markers: how many markers there were.
        head: the whole head.
        own: its OWN.
        file: the segment.
        number: the segment's number.
        line: the commit's last line.
        byte: the byte after that; infinite for the end of the segment.
        received: of the last line, in seconds since the epoch; 0 if not known.
        there: whether its lines are there; False where only the next commit names it.
    """

    markers: int
    head: Head
    own: bytes
    file: str
    number: int
    line: int
    byte: float
    received: float
    there: bool = True


def earlier_head_findings(folder: Path, sought: SoughtHead) -> Iterator[Finding]:
    """What is known of the archive up to an earlier head. The appliance may be writing it meanwhile.

    Args:
        folder: the archive.
        sought: the head.

    Raises:
        ArchiveError: a segment cannot be read.
    """
    markers = read_markers(folder)[0]
    texts = marker_texts(markers)
    if sought.found(NOTHING, texts):
        yield finding("archive.earlier_nothing", head=str(sought))
        return
    groups = _Groups(folder, sought, texts)
    commit = groups.commit
    if commit is None or not commit.there:
        commit = _in_markers(sought, markers, texts) or commit
    if commit is None:
        gone = sum(len(marker.segments) for marker in markers if marker.kind != "returned")
        yield finding("archive.earlier_rewritten" if gone else "archive.earlier_unknown", head=str(sought))
        return
    reader = Reader(folder) if folder.is_dir() else None
    changed = _changed(reader, commit) if reader else None
    if changed is None and not _reaches(folder, groups.owns, commit):
        changed = f"{commit.file}: the commits that are there do not lead to it"
    for repeat in groups.repeats if changed is None else ():
        if repeat.number <= commit.number and repeat.adds():
            changed = f"{repeat.earlier.name}: commits were added at its end"
            break
    if changed is not None:
        words = commit.head.words
        yield finding("archive.earlier_changed", file=commit.file, line=commit.line, words=words, place=changed)
        return
    yield finding(
        "archive.earlier_kept",
        file=commit.file,
        line=commit.line,
        received=_shown(commit.received),
        words=commit.head.words,
        checksum=commit.head.checksum,
    )
    old = [one for one in reader.checks if not one.groups and _number(one.file) <= commit.number] if reader else []
    # A segment that was emptied, or is empty, has no lines that could be unproved.
    if unproved := sum(1 for one in old if _has_text(folder / one.file)):
        yield finding("archive.earlier_unproved", segments=unproved)
    if since := len(markers) - commit.markers:
        yield finding("archive.earlier_since", changes=since, first=_shown(markers[commit.markers].when))


class _Repeat(NamedTuple):
    """A segment that goes on from an earlier commit of the segment before it than the last one.

    After a failed sync, lines are written again (`appliance.archive.unsynced`), so both have the same ones. One commit
    alone may be of a failed write, which was never acknowledged; readers leave it out.
    """

    earlier: Path
    later: Path
    number: int

    def adds(self) -> bool:
        """Whether the earlier segment has other lines at its end than the later one repeats."""
        found = tail(self.earlier, self.later)
        return found is not None and found.commits > 1 and not found.is_repeated


class _Groups:
    """The groups of all segments.

    Attributes:
        commit: the one that was sought, if a segment has it or names it as the one before.
        owns: by number, the last OWN of each segment.
        repeats: segments that do not go on from the last commit before them.
    """

    def __init__(self, folder: Path, sought: SoughtHead, markers: Sequence[bytes]) -> None:
        self.commit: _Commit | None = None
        self.owns: dict[int, bytes] = {}
        self.repeats: list[_Repeat] = []
        own = NOTHING
        earlier: Path | None = None
        for number, path in numbered_segments(folder) if folder.is_dir() else []:
            for text, byte, line in _texts(path):
                for at, found in enumerate(GROUP_END.finditer(text)):
                    before, this = found.groups()
                    # Within the text of several groups each names the one before it.
                    if not at and before not in (own, NOTHING):
                        if not byte and earlier:
                            self.repeats.append(_Repeat(earlier, path, number))
                        if self._seeks() and (hit := sought.found(before, markers)):
                            self.commit = _Commit(*hit, before, path.name, number, line, byte, 0.0, there=False)
                    if self._seeks() and (hit := sought.found(this, markers)):
                        last, received = line + text.count(b"\n", 0, found.end()) - 1, _received(text, found.end())
                        self.commit = _Commit(*hit, this, path.name, number, last, byte + found.end(), received)
                    self.owns[number] = own = this
            earlier = path

    def _seeks(self) -> bool:
        return self.commit is None or not self.commit.there


def _texts(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """The text of whole groups of a segment, with the byte and the line at which each begins."""
    with open_segment(path) as file:
        try:
            for group in split(file, 0, None):
                if group.own is not None:
                    yield group.text, group.byte, group.line
        except (EOFError, gzip.BadGzipFile, OSError, zlib.error):
            # Reading the segment for its lines reports it.
            return


def _received(text: bytes, end: int) -> float:
    line = text[text.rfind(b"\n", 0, end - 1) + 1 : end]
    record = parse_line(line, "", 0, 0)
    return record.received if isinstance(record, Record) else 0.0


def _in_markers(sought: SoughtHead, markers: Sequence[Marker], texts: Sequence[bytes]) -> _Commit | None:
    """The commit, if it was the last one of a segment that was moved, deleted or rewritten."""
    for marker in markers:
        for segment in marker.segments:
            own = segment.head.encode()
            if own and (hit := sought.found(own, texts)):
                return _Commit(*hit, own, segment.name, segment.number, segment.events, math.inf, segment.last)
    return None


def _changed(reader: Reader, commit: _Commit) -> str | None:
    """The first place up to a commit that is damaged or breaks the chain; None if there is none."""
    first: Damage | BrokenLink | None = None
    for record in reader.records():
        if isinstance(record, Damage):
            first = first or record
    for link in reader.broken_links[:1]:
        if first is None or _place(link) <= _place(first):
            first = link
    # Where only the next commit names it, the chain breaks at the beginning of that.
    if first is None or (*_place(first), commit.there) >= (commit.number, commit.byte, True):
        return None
    return f"{first.file}, line {first.line}: {first.reason}"


def _place(found: Damage | BrokenLink) -> tuple[int, int]:
    return _number(found.file), found.byte


def _reaches(folder: Path, owns: dict[int, bytes], commit: _Commit) -> bool:
    """Whether the groups that are there, and the markers, lead to a commit that only a marker names."""
    if commit.byte != math.inf:
        return commit.there
    own = _own_up_to(owns, commit.number)
    return own == commit.own or explained(folder, own, commit.own)


def _own_up_to(owns: dict[int, bytes], number: int) -> bytes:
    return owns[max(there)] if (there := [one for one in owns if one <= number]) else NOTHING


def _number(file: str) -> int:
    match = SEGMENT_NAME.fullmatch(file)
    return int(match[2]) if match else 0


def _has_text(path: Path) -> bool:
    with open_segment(path) as file:
        return bool(file.read(1))


def _shown(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if when else "at an unknown time"
