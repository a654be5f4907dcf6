"""Torn lines: half a last line, which a power cut leaves at the end of a segment. Its bytes were never acknowledged."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from appliance.archive.records import Damage
from appliance.archive.segments import segments
from appliance.datafolder.files import change, last_line_end, make_folder, sync_file, write_private
from appliance.text import counted

log = logging.getLogger(__name__)

TORN = "torn"
"""The folder in the archive to which torn lines are moved."""


def set_aside(folder: Path) -> tuple[list[Damage], set[Path]]:
    """Move each torn line of an archive folder to a file of its own in `TORN`.

    Returns:
        The torn lines, and the segments that still have theirs because the disk has no room for that file. Those are
        read up to the torn line, and nothing is ever added to them.
    """
    torn = []
    kept = set()
    for path in segments(folder):
        if path.suffix == ".gz":
            continue
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = last_line_end(file, size)
            if start == size:
                continue
            file.seek(start)
            rest = file.read()
        try:
            _move(path, start, rest)
        except OSError as error:
            kept.add(path)
            where = f"remained where they are, since they cannot be put aside: {error.strerror}"
        else:
            where = f"are in the folder {TORN}"
        number = counted(len(rest), "byte")
        torn.append(Damage(path.name, 0, start, f"the last line was cut off; its bytes ({number}) {where}"))
        log.warning("The archive's segment %s ended in half a line. Its bytes (%s) %s.", path.name, number, where)
    return torn, kept


def _move(path: Path, start: int, rest: bytes) -> None:
    aside = path.parent / TORN
    make_folder(aside)
    write_private(aside / f"{path.stem}-{start}.txt", rest)
    with change(path) as file:
        file.truncate(start)
        sync_file(file)
