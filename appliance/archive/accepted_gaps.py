"""Accepted gaps: the decision that states go on without events that are lost for good.

``archive/accepted-gaps.jsonl`` has a sealed line (`appliance.datafolder.sealed`) for each gap that was accepted. It is
beside the segments, so that a replay of them gives the states of the live class. A gap is accepted if its numbers are
among accepted ones of its stream.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from appliance.archive.gaps import Gap
from appliance.datafolder import sealed
from appliance.datafolder.files import write_private
from appliance.health import Finding, finding

ACCEPTED_GAPS = "accepted-gaps.jsonl"


class AcceptedGap(msgspec.Struct, frozen=True):
    """A line of the file: numbers of a stream, and when they were accepted, in seconds since the epoch."""

    student_id: str
    stream: str
    first: int
    last: int
    accepted: float


class AcceptedGaps:
    """The accepted gaps of some archive folders.

    Attributes:
        new: those that were accepted since `save`.
        accept: whether every gap is accepted from now on.
    """

    def __init__(self, folders: Iterable[Path] = (), *, accept: bool = False) -> None:
        """Args:
        folders: archive folders; `save` writes to the first.
        accept: see above.
        """
        self.accept = accept
        self.new: list[Gap] = []
        self._folders = list(folders)
        self._ranges: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for folder in self._folders:
            for gap in read_accepted(folder)[0]:
                self._ranges.setdefault((gap.student_id, gap.stream), []).append((gap.first, gap.last))

    def accepts(self, gap: Gap) -> bool:
        """Whether a gap is accepted; with `accept` it is from now on."""
        ranges = self._ranges.get((gap.student_id, gap.stream), ())
        if any(first <= gap.first and gap.last <= last for first, last in ranges):
            return True
        if self.accept:
            self._ranges.setdefault((gap.student_id, gap.stream), []).append((gap.first, gap.last))
            self.new.append(gap)
        return self.accept

    def save(self) -> None:
        """Write new ones to the file, durably; does nothing if there are none.

        Raises:
            OSError: it cannot be written; the next `save` tries again.
        """
        if not self.new:
            return
        path = self._folders[0] / ACCEPTED_GAPS
        before = path.read_bytes() if path.exists() else b""
        if before and not before.endswith(b"\n"):
            before += b"\n"
        now = round(time.time(), 3)
        lines = [sealed.encode(AcceptedGap(gap.student_id, gap.stream, gap.first, gap.last, now)) for gap in self.new]
        write_private(path, before + b"".join(lines))
        self.new = []


def read_accepted(folder: Path) -> tuple[list[AcceptedGap], list[Finding]]:
    """The accepted gaps of an archive folder, and a finding if some of them cannot be read.

    A line that cannot be read accepts nothing.
    """
    path = folder / ACCEPTED_GAPS
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [finding("file.unreadable", path.name, detail=error.strerror or type(error).__name__)]
    gaps, findings = [], []
    for line, gap in _lines(content):
        if gap is not None:
            gaps.append(gap)
        if gap is None or not line.whole:
            findings.append(finding("file.damaged", path.name, line=line.number))
    return gaps, findings


def without_student(folder: Path, student_id: str) -> None:
    """Remove a student's lines, and damaged ones, which may be the student's.

    Raises:
        OSError: the file cannot be read or written.
    """
    path = folder / ACCEPTED_GAPS
    if not path.exists():
        return
    content = path.read_bytes()
    left = [line.raw + b"\n" for line, gap in _lines(content) if gap is not None and gap.student_id != student_id]
    if b"".join(left) != content:
        write_private(path, b"".join(left))


def _lines(content: bytes) -> Iterator[tuple[sealed.Line, AcceptedGap | None]]:
    for line in sealed.lines(content):
        gap = None
        if line.text is not None:
            try:
                gap = msgspec.json.decode(line.text, type=AcceptedGap)
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass
        yield line, gap
