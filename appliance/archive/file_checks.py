"""File checks: segments whose file alone shows that something is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from appliance.archive.accepted_gaps import read_accepted
from appliance.archive.checking import BrokenLink
from appliance.archive.ends import before_following, own_before
from appliance.archive.markers import read_markers
from appliance.archive.records import Damage
from appliance.archive.segments import (
    SEGMENT_NAME,
    disk_bytes,
    misplaced_folders,
    numbered_segments,
    uncompressed_bytes,
)
from appliance.health import Finding, finding

_SHOWN = 20


def file_findings(folder: Path) -> Iterator[Finding]:
    """Folders with a segment's name, empty segments, and numbers that two different files have."""
    if not folder.is_dir():
        return
    for path in misplaced_folders(folder):
        yield finding("archive.folder", path.name)
    there = numbered_segments(folder)
    erased = {one.number for marker in read_markers(folder)[0] for one in marker.segments if not one.new_head}
    for number, path in there[:-1] if there and there[-1][1].suffix != ".gz" else there:
        if not disk_bytes(path) and number not in erased:
            own = own_before(path)
            is_linked = own is not None and own == before_following(path)
            yield finding("archive.empty_linked" if is_linked else "archive.empty", path.name)
    for path, chosen in doubles(folder):
        if not is_copy(path, chosen):
            yield finding("archive.twice", path.name, other=chosen.name)


def doubles(folder: Path) -> list[tuple[Path, Path]]:
    """The segments that are not read because another file has their number, each with that file."""
    used = dict(numbered_segments(folder))
    found = []
    for path in sorted(folder.iterdir()):
        match = SEGMENT_NAME.fullmatch(path.name)
        chosen = used.get(int(match[2])) if match else None
        if chosen is not None and path != chosen and path.is_file():
            found.append((path, chosen))
    return found


def is_copy(path: Path, chosen: Path) -> bool:
    """Whether a segment is another form of one, as after a power cut, as far as its length shows."""
    same = path.name.removesuffix(".gz") == chosen.name.removesuffix(".gz")
    return same and uncompressed_bytes(path) == uncompressed_bytes(chosen)


class DamageTally:
    """Counts what a start cannot read, for one finding of each kind."""

    def __init__(self) -> None:
        self._lines = 0
        self._checksums = 0
        self._first_lines: Damage | None = None
        self._first_checksum: Damage | None = None

    def add(self, damage: Damage) -> None:
        """Count lines, or a checksum, that are damaged."""
        if damage.lines:
            self._lines += damage.lines
            self._first_lines = self._first_lines or damage
        else:
            self._checksums += 1
            self._first_checksum = self._first_checksum or damage

    def findings(self) -> Iterator[Finding]:
        """What was counted."""
        if first := self._first_lines:
            yield finding("archive.unreadable", count=self._lines, place=_place(first))
        if first := self._first_checksum:
            yield finding("archive.checksum", first.file, count=self._checksums, place=_place(first))


def link_findings(links: list[BrokenLink]) -> Iterator[Finding]:
    """A finding for each break of the chain; of very many for the first ones, and their number."""
    for link in links[:_SHOWN]:
        yield finding("archive.broken_link", link.file, place=_place(link), detail=link.reason)
    if len(links) > _SHOWN:
        yield finding("archive.broken_links", count=len(links) - _SHOWN)


def unaccepted(folder: Path, links: list[BrokenLink], *, accept: bool = False) -> list[BrokenLink]:
    """Breaks of the chain without those at missing segments, where gaps of the archive are or were accepted."""
    if not accept and not read_accepted(folder)[0]:
        return links
    numbers = [number for number, _ in numbered_segments(folder)]
    after_missing = {after for before, after in pairwise([0, *numbers]) if after != before + 1}

    def is_known(link: BrokenLink) -> bool:
        match = SEGMENT_NAME.fullmatch(link.file)
        return match is not None and link.byte == 0 and int(match[2]) in after_missing

    return [link for link in links if not is_known(link)]


def _place(found: Damage | BrokenLink) -> str:
    if not found.file:
        # An event that its reader refuses has no place here.
        return found.reason
    return f"{found.file}, line {found.line} (byte {found.byte})"
