"""Markers: each allowed change of the archive's past, so that what is not there any more is known.

``archive/markers.jsonl`` has a sealed line (`appliance.datafolder.sealed`) for each: segments that were moved to
another folder, returned from there, or deleted for their age, and segments that were rewritten without a student who
was erased. A marker is durable before a segment is removed, so one that it names may be there after a power cut.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from appliance.archive.segments import SEGMENT_NAME
from appliance.datafolder import files, sealed
from appliance.health import Finding, finding

MARKERS = "markers.jsonl"

Kind = Literal["moved", "returned", "deleted", "erased"]


class MarkedSegment(msgspec.Struct, frozen=True, omit_defaults=True):
    """A segment, as it was when it was marked.

    Attributes:
        name: of its file.
        number: the segment's number.
        events: number of its lines.
        bytes: length of its text.
        before: BEFORE of its first commit group; "" where it has no chain.
        head: OWN of its last commit group, likewise.
        new_before: for "erased", what `before` is after it.
        new_head: for "erased", what `head` is after it.
        first: the earliest receipt of a line, in seconds since the epoch; 0 if not known.
        last: the latest one.
        sha256: of the file's content, in hexadecimal digits; "" if not known.
    """

    name: str
    number: int
    events: int
    bytes: int
    before: str = ""
    head: str = ""
    new_before: str = ""
    new_head: str = ""
    first: float = 0.0
    last: float = 0.0
    sha256: str = ""


class Marker(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change.

    Attributes:
        kind: what was done.
        when: in seconds since the epoch.
        segments: to which segments.
        to: for "moved", the folder; for "returned", the one from which they came.
    """

    kind: Kind
    when: float
    segments: list[MarkedSegment]
    to: str | None = None


class Missing(msgspec.Struct, frozen=True):
    """A segment that may not be in the archive, and the marker that says why."""

    segment: MarkedSegment
    marker: Marker


def read_markers(folder: Path) -> tuple[list[Marker], list[Finding]]:
    """The markers of an archive folder, oldest first, and a finding for each line that cannot be read."""
    try:
        content = (folder / MARKERS).read_bytes()
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [finding("archive.marker", MARKERS, detail=error.strerror or type(error).__name__)]
    markers, findings = [], []
    for line in sealed.lines(content):
        where = f"{MARKERS}:{line.number}"
        try:
            if line.text is not None:
                markers.append(_decode(line.text))
            if not line.whole:
                findings.append(finding("archive.marker", where, detail="the line is damaged"))
        except (msgspec.DecodeError, UnicodeDecodeError):
            findings.append(finding("archive.marker", where, detail="it is no marker"))
    return markers, findings


def add_marker(folder: Path, marker: Marker) -> None:
    """Add a marker, durably.

    Raises:
        OSError: it cannot be written; the file has the markers that it had.
    """
    path = folder / MARKERS
    with files.append_to(path) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            # A power cut may have left half a line, which stays damaged for itself.
            files.write_all(file.fileno(), (b"" if _ends_a_line(path) else b"\n") + sealed.encode(marker))
            files.sync_file(file)
            # Also of a file that is there: what made it may have ended before its name was durable.
            files.sync_folder(folder)
        except OSError:
            file.truncate(size)
            raise


def _ends_a_line(path: Path) -> bool:
    """Whether a file is empty or ends in a line break."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in (b"", b"\n")


def last_markers(folder: Path) -> dict[int, Missing]:
    """By number of a segment, its last marker of another kind than "erased"; the segment may be there."""
    return {
        segment.number: Missing(segment, marker)
        for marker in read_markers(folder)[0]
        for segment in marker.segments
        if marker.kind != "erased"
    }


def known_missing(folder: Path) -> list[Missing]:
    """The segments that markers name as moved or deleted and that are not there, by number."""
    last = last_markers(folder)
    there = {int(match[2]) for path in _listed(folder) if (match := SEGMENT_NAME.fullmatch(path.name))}
    return [
        missing for number, missing in sorted(last.items()) if missing.marker.kind != "returned" and number not in there
    ]


def moved_to(folder: Path) -> list[str]:
    """The folders to which segments that are not there were moved."""
    return list(dict.fromkeys(one.marker.to or "" for one in known_missing(folder) if one.marker.kind == "moved"))


def missing_findings(folder: Path) -> Iterator[Finding]:
    """A finding for each folder to which segments were moved, and one for deleted segments."""
    groups: dict[tuple[Kind, str], list[MarkedSegment]] = {}
    for missing in known_missing(folder):
        marker = missing.marker
        to = (marker.to or "") if marker.kind == "moved" else ""
        groups.setdefault((marker.kind, to), []).append(missing.segment)
    for (kind, to), found in groups.items():
        yield finding(
            "archive.moved" if kind == "moved" else "archive.deleted",
            to,
            segments=len(found),
            events=sum(segment.events for segment in found),
            days=_days(found),
        )


def _days(found: Sequence[MarkedSegment]) -> str:
    """The UTC days on which the lines came, such as ``2026-09-01 to 2026-10-15``."""
    known = [segment for segment in found if segment.first]
    if not known:
        return "of unknown days"
    ends = min(segment.first for segment in known), max(segment.last for segment in known)
    first, last = (time.strftime("%Y-%m-%d", time.gmtime(end)) for end in ends)
    return first if first == last else f"{first} to {last}"


def _listed(folder: Path) -> list[Path]:
    # A segment that is renamed meanwhile, when it is compressed, may be missed by one of two listings.
    return [*folder.iterdir(), *folder.iterdir()] if folder.is_dir() else []


_decode = msgspec.json.Decoder(Marker).decode
