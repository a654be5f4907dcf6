"""Torn lines: what a power cut leaves at the end of a segment, half a line or lines of a group that has no end.

Their bytes were never acknowledged, so students' pages send them again. A start moves them aside, so that nothing is
ever written after them. What was acknowledged and damaged later stays where it is: readers report it.
"""

from __future__ import annotations

import logging
from pathlib import Path

from appliance.archive.chain import GROUP_BYTES, GROUP_END, NOTHING
from appliance.archive.ends import GROUP_LIMIT, GroupEnd, before_following, complete_bytes, last_group, own_before
from appliance.archive.records import Damage
from appliance.archive.segments import segments
from appliance.datafolder.files import change, make_folder, remove, sync_file, sync_folder, write_private
from appliance.datafolder.sealed import seal
from appliance.text import counted

log = logging.getLogger(__name__)

TORN = "torn"
"""The folder in the archive to which torn lines are moved."""
_GROUP_SEARCHED = 4 * GROUP_BYTES


def set_aside(folder: Path) -> tuple[list[Damage], set[Path]]:
    """Move the torn lines of each segment of an archive folder to a file of its own in `TORN`.

    Returns:
        The torn lines, and the segments that still have theirs because the disk has no room for that file. Those are
        read up to the torn lines, and nothing is ever added to them.
    """
    torn = []
    kept = set()
    is_last = True
    # The last one first: another may become the last by that.
    for path in reversed(segments(folder)):
        if path.suffix == ".gz":
            is_last = False
            continue
        size = path.stat().st_size
        start = _torn_from(path, is_last=is_last)
        is_last = is_last and start == 0
        if start is None:
            continue
        what = _description(path, start, size)
        try:
            _move(path, start)
        except OSError as error:
            kept.add(path)
            where = f"remained where they are, since they cannot be put aside: {error.strerror}"
        else:
            where = f"are in the folder {TORN}"
        count = counted(size - start, "byte")
        torn.append(Damage(path.name, 0, start, f"{what}; its bytes ({count}) {where}" if size else what))
        log.warning("The archive's segment %s: %s.", path.name, torn[-1].reason)
    return torn[::-1], kept


def _torn_from(path: Path, *, is_last: bool) -> int | None:
    """The byte from which a plain segment is torn; None where it is whole, or damaged and to be left as it is."""
    size = path.stat().st_size
    complete = complete_bytes(path)
    last = last_group(path)
    if not size:
        # In the middle of the archive the chain says whether something is missing.
        return 0 if is_last else None
    if last is None and complete:
        # Of format 1 or 2, or the first commit of an archive.
        unwritten = _unwritten_line(path) if is_last else None
        return unwritten if unwritten is not None else complete if complete < size else None
    if complete == size:
        return None if not is_last or last is None or last.byte < size else _unwritten_group(path, last)
    linked = before_following(path)
    own = last.own if last else own_before(path)
    if own is None and linked == NOTHING and size <= GROUP_LIMIT:
        # The first write of an archive failed, and was repeated in the next segment.
        return complete
    return complete if linked is None or linked == own else None


def _unwritten_group(path: Path, last: GroupEnd) -> int | None:
    """The byte at which the last group begins, if it has NUL bytes: a part of it did not reach the disk."""
    with path.open("rb") as file:
        start = max(0, last.byte - _GROUP_SEARCHED)
        file.seek(start)
        text = file.read(last.byte - start)
    ends = [found.end() for found in GROUP_END.finditer(text)]
    if len(ends) < 2 and start:
        return None
    begins = ends[-2] if len(ends) > 1 else 0
    return start + begins if b"\0" in text[begins:] else None


def _unwritten_line(path: Path) -> int | None:
    """The byte at which the first line with NUL bytes begins: neither it nor what follows reached the disk whole."""
    begins = 0
    with path.open("rb") as file:
        for line in file:
            if b"\0" in line:
                return begins
            begins += len(line)
    return None


def _description(path: Path, start: int, size: int) -> str:
    if not size:
        return "the file was empty, as after a power cut right after its creation, and was removed"
    with path.open("rb") as file:
        file.seek(start)
        whole = sum(line.endswith(b"\n") for line in file)
    if not whole:
        return "the last line was cut off"
    return f"the last commit was not finished ({counted(whole, 'whole line')})"


def _move(path: Path, start: int) -> None:
    """Move the bytes from `start` on to a file of their own; a segment that is empty then is removed."""
    with path.open("rb") as file:
        file.seek(start)
        rest = file.read()
    if rest:
        aside = path.parent / TORN
        make_folder(aside)
        write_private(aside / f"{path.stem}-{start}.txt", seal(rest))
    if not start:
        remove(path)
        sync_folder(path.parent)
        return
    with change(path) as file:
        file.truncate(start)
        sync_file(file)
