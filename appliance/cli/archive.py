"""The commands ``archive move`` and ``archive bring-back``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli.commands import Commands
from appliance.cli.options import add_data_flags, add_kvs_flag, data_folder, settings_of
from appliance.cli.output import disk_errors, progress_bar
from appliance.text import counted

if TYPE_CHECKING:
    from appliance.maintenance.moving import Moved

_NAMES_SHOWN = 5


def add(commands: Commands) -> None:
    commands.add_group("archive", "move old files of the archive to another folder, or back")
    # Each has a parser of its own, so that flags and a folder may come in any order.
    moving = commands.add("archive move", _move, "move old files of the archive to another folder")
    returning = commands.add("archive bring-back", _bring_back, "put files of the archive back that were moved")
    for parser in (moving, returning):
        add_data_flags(parser)
        add_kvs_flag(parser)
    moving.add_argument(
        "--before",
        required=True,
        metavar="DATE",
        help="files whose last line came before this date or time (2026-11-24)",
    )
    moving.add_argument("--to", required=True, type=Path, metavar="FOLDER", help="where the files go")
    returning.add_argument(
        "folder",
        nargs="?",
        type=Path,
        metavar="FOLDER",
        help="where the files are now (default: where they were moved to)",
    )
    returning.add_argument("--keep", action="store_true", help="leave the copies where they are")


def _move(parsed: argparse.Namespace) -> int:
    from appliance.archive.event_filter import moment
    from appliance.kvs import kvs_facts
    from appliance.maintenance.moving import move_old

    settings = settings_of(parsed)
    data, before = data_folder(settings), moment("--before", parsed.before)
    with disk_errors(parsed.to), progress_bar("Moving") as progress:
        moved = move_old(settings, before, parsed.to, progress)
    if moved.segments:
        print(f"{_summary(moved)} moved to {parsed.to.absolute()}.")
        _print_consequences(data, parsed.to, shared=kvs_facts(settings.kvs.url).shared)
    else:
        print(f"No closed file of the archive that could be moved is older than {parsed.before}.")
    return _print_rest(moved)


def _print_consequences(data: Path, to: Path, *, shared: bool) -> None:
    if to.stat().st_dev == data.stat().st_dev:
        print("That folder is on the same disk as the data folder, so there is no more room than before.")
    print("The states of students stay. A reducer that is new or changed cannot be computed from these files until")
    print("'archive bring-back' has put them back; keep them, and make a backup of them.")
    if shared:
        print("If the store on the server loses its data, put them back before the appliance is started again.")


def _bring_back(parsed: argparse.Namespace) -> int:
    from appliance.maintenance.moving import erased_since, return_all

    settings = settings_of(parsed)
    data = data_folder(settings)
    with disk_errors(parsed.folder or data), progress_bar("Bringing back") as progress:
        moved = return_all(settings, parsed.folder, progress, keep=parsed.keep)
    if moved.segments:
        print(f"{_summary(moved)} put back.")
        if erased_since(data, moved.since):
            print("A student was erased while these files were elsewhere. If they may have lines of that student, stop")
            print("the appliance and erase the student again.")
    return _print_rest(moved)


def _summary(moved: Moved) -> str:
    events = counted(sum(segment.events for segment in moved.segments), "event")
    files = counted(len(moved.segments), "file was", "files were")
    return f"{events}, {moved.bytes:,} bytes: {files}"


def _print_rest(moved: Moved) -> int:
    for reason, names in moved.left.items():
        more = f" and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else ""
        print(f"Not moved, since {reason}: {', '.join(names[:_NAMES_SHOWN])}{more}.")
    for problem in moved.problems:
        print(problem, file=sys.stderr)
    return 1 if moved.problems else 0
