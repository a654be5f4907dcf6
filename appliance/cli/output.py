"""What commands print, and how they write files."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.datafolder.files import write_private
from appliance.errors import ObserverError
from appliance.text import counted

if TYPE_CHECKING:
    from appliance.archive import Damage
    from appliance.archive.checking import BrokenLink
    from appliance.archive.gaps import Gap
    from appliance.archive.merge import Source
    from appliance.cli.progress import Progress
    from appliance.health import Finding

_DAMAGE_SHOWN = 20


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table whose columns are as wide as their widest cell."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def print_finding(finding: Finding) -> None:
    print(finding.line, flush=True)


def print_losses(damaged: Sequence[Damage], repeated: int, gaps: Sequence[Gap], held: int) -> bool:
    """Print to stderr what is missing in archives or could not be read, without naming a student.

    Args:
        damaged: the lines that could not be read.
        repeated: how many lines were left out because their number was there already.
        gaps: the missing numbers.
        held: how many students have states that end before a gap.

    Returns:
        Whether nothing is held.
    """
    lines = sum(damage.lines for damage in damaged)
    if damaged:
        skipped = counted(lines, "line could not be read and was", "lines could not be read and were")
        print(f"{skipped} skipped{':' if lines else '; checksums are damaged:'}", file=sys.stderr)
    for damage in damaged[:_DAMAGE_SHOWN]:
        print(f"  {damage.file}, line {damage.line} (byte {damage.byte}): {damage.reason}", file=sys.stderr)
    if len(damaged) > _DAMAGE_SHOWN:
        print(f"  and {len(damaged) - _DAMAGE_SHOWN:,} more", file=sys.stderr)
    if repeated:
        print(f"{counted(repeated, 'line was', 'lines were')} repeated and counted once.", file=sys.stderr)
    if gaps:
        missing = sum(gap.last - gap.first + 1 for gap in gaps)
        streams = len({(gap.student_id, gap.stream) for gap in gaps})
        print(f"These archives lack {counted(missing, 'event')} of {counted(streams, 'stream')}.", file=sys.stderr)
        for gap in gaps[:_DAMAGE_SHOWN]:
            known = "damaged lines" if gap.explained else "accepted" if gap.accepted else ""
            why = known or gap.reason or "for no known reason"
            print(f"  {counted(gap.events, 'event')}, {gap.where}: {why}", file=sys.stderr)
        if len(gaps) > _DAMAGE_SHOWN:
            print(f"  and {len(gaps) - _DAMAGE_SHOWN:,} more", file=sys.stderr)
    if held:
        print(
            f"The states of {counted(held, 'student')} end before such a gap. Name the archives that are missing too, "
            "those of other nodes or moved files, or go on without these events with --accept-gap.",
            file=sys.stderr,
        )
    return not held


def print_broken_links(links: Sequence[BrokenLink]) -> None:
    """Print to stderr where the chain of an archive is broken."""
    if links:
        print(f"The chain of checksums is broken in {counted(len(links), 'place')}:", file=sys.stderr)
    for link in links[:_DAMAGE_SHOWN]:
        print(f"  {link.file}, line {link.line} (byte {link.byte}): {link.reason}", file=sys.stderr)
    if len(links) > _DAMAGE_SHOWN:
        print(f"  and {len(links) - _DAMAGE_SHOWN:,} more", file=sys.stderr)


def print_elsewhere(sources: Sequence[Source]) -> None:
    """Print to stderr which files of archives were moved to other folders, or deleted."""
    from appliance.archive.markers import missing_findings

    for folder in dict.fromkeys(file.parent for source in sources for file in source.files):
        for found in missing_findings(folder):
            print(found.text, file=sys.stderr)


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A bar on the terminal, removed at the end.

    Args:
        what: what is being done, such as "Reading the archive".
    """
    from appliance.cli.progress import Progress

    progress = Progress(what)
    try:
        yield progress
    finally:
        progress.close()


@contextmanager
def plugin_log_silenced() -> Iterator[None]:
    """For a command that prints the problems of plug-ins itself."""
    logger = logging.getLogger("classroom_observer.plugins")
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into a sentence that names the file.

    Args:
        path: named where the error does not name a file.

    Raises:
        ObserverError: a file cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        raise ObserverError(f"{error.filename or path}: {error.strerror or type(error).__name__}.") from None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file completely or not at all, readable by this user alone: it holds students' work.

    Raises:
        ObserverError: it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            # A device or a pipe: renaming a file would take its place, for root even that of /dev/null.
            path.write_bytes(content)
            return
        write_private(path, content, inherit=False)
    except OSError as error:
        raise ObserverError(f"{path} cannot be written: {error.strerror or type(error).__name__}.") from None
