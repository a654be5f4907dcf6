"""Chain report: what `verify` and `restore` say about the checksums of an archive."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from appliance.archive import Damage, Reader, numbered_segments
from appliance.archive.checking import BrokenLink, SegmentCheck
from appliance.archive.ends import complete_bytes
from appliance.archive.file_checks import link_findings, unaccepted
from appliance.archive.head import head
from appliance.archive.segments import disk_bytes
from appliance.health import Finding, Severity, finding
from appliance.maintenance.segment_tails import tail


def chain_findings(reader: Reader, *, accept_gaps: bool) -> Iterator[Finding]:
    """The result of each segment, the places where the chain is broken, and the head of the chain.

    The head names all that is before it only where the whole chain is right.

    Args:
        reader: has read the whole archive.
        accept_gaps: whether missing segments are accepted.
    """
    for kind, checks in itertools.groupby(reader.checks, _kind):
        some = list(checks)
        if kind == "archive.disproved":
            for one in some:
                yield finding(kind, one.file, groups=one.groups, places=one.damaged)
        else:
            names = some[0].file if len(some) == 1 else f"{some[0].file} to {some[-1].file}"
            yield finding(kind, names, segments=len(some), groups=sum(one.groups for one in some))
    links = reader.broken_links
    blocking = unaccepted(reader.folder, links, accept=accept_gaps)
    yield from link_findings(blocking)
    for accepted in link_findings([link for link in links if link not in blocking]):
        yield replace(accepted, severity="info")
    yield from _unfinished(reader)
    outside = list(_outside(reader.folder))
    yield from outside
    wrong = any(check.damaged for check in reader.checks) or any(one.code == "archive.added" for one in outside)
    found = head(reader.folder)
    if links or wrong:
        severity: Severity | None = None if blocking or wrong else "info"
        yield finding("archive.head_unproved", severity=severity, words=found.words)
    else:
        yield finding("archive.head", words=found.words, checksum=found.checksum)


def _unfinished(reader: Reader) -> Iterator[Finding]:
    """What follows the last commit. Nobody can know here whether it is being written."""
    there = numbered_segments(reader.folder)
    if there and there[-1][1].suffix != ".gz":
        path = there[-1][1]
        if (more := disk_bytes(path) - complete_bytes(path)) > 0:
            yield finding("archive.unfinished", path.name, bytes=more)


def _outside(folder: Path) -> Iterator[Finding]:
    """Lines after the group that the next segment continues: a failed write left them, or they were added.

    What a failed write left was written again to the next segment.
    """
    for (_, path), (_, following) in itertools.pairwise(numbered_segments(folder)):
        if found := tail(path, following):
            code = "archive.leftover" if found.is_repeated else "archive.added"
            yield finding(code, path.name, count=found.lines, byte=found.byte)


def _kind(check: SegmentCheck) -> str:
    if check.damaged:
        return "archive.disproved"
    return "archive.proved" if check.groups else "archive.unproved"


def problems(folder: Path) -> list[str]:
    """The places where an archive is damaged or its chain broken, each as a clause.

    Raises:
        ArchiveError: a segment cannot be read.
    """
    if not folder.is_dir():
        return []
    reader = Reader(folder)
    found: list[Damage | BrokenLink] = [record for record in reader.records() if isinstance(record, Damage)]
    found += unaccepted(folder, reader.broken_links)
    return [f"{one.file}, line {one.line} (byte {one.byte}): {one.reason}" for one in found]
