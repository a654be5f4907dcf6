"""Chain report: what `verify` and `restore` say about the checksums of an archive."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from appliance.archive import Damage, Reader
from appliance.archive.checking import BrokenLink, SegmentCheck
from appliance.archive.file_checks import link_findings, unaccepted
from appliance.archive.head import head
from appliance.health import Finding, finding


def chain_findings(reader: Reader, *, accept_gaps: bool) -> Iterator[Finding]:
    """The result of each segment, the places where the chain is broken, and the head of the chain.

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
    yield from link_findings(unaccepted(reader.folder, reader.broken_links, accept=accept_gaps))
    found = head(reader.folder)
    yield finding("archive.head", words=found.words, checksum=found.checksum)


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
