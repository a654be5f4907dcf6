"""The command ``erase-student``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli.commands import Commands
from appliance.cli.options import add_data_flags, add_kvs_flag, add_roster_flag, data_folder, settings_of
from appliance.cli.output import disk_errors
from appliance.errors import SettingsError
from appliance.text import counted

if TYPE_CHECKING:
    from appliance.maintenance.erase import Erased


def add(commands: Commands) -> None:
    erase = commands.add("erase-student", _erase_student, "remove a student and all data of that student")
    add_data_flags(erase)
    add_kvs_flag(erase)
    add_roster_flag(erase)
    erase.add_argument("student", nargs="?", metavar="ID", help="the student's id")
    erase.add_argument("--name", metavar="NAME", help="or the name in the roster")
    erase.add_argument("--yes", action="store_true", help="do not ask")


def _erase_student(parsed: argparse.Namespace) -> int:
    import asyncio

    from appliance.datafolder import DataFolder
    from appliance.kvs import kvs_facts
    from appliance.maintenance import erase, erase_store
    from appliance.roster import RosterLimits, roster_facts

    settings = settings_of(parsed)
    if (parsed.student is None) == (parsed.name is None):
        raise SettingsError("Name one student: erase-student ID, or erase-student --name NAME.")
    data, limits = data_folder(settings), RosterLimits.of(settings.limits)
    roster = roster_facts(settings.roster_url).folder
    store = settings.kvs.url if kvs_facts(settings.kvs.url).shared else None
    with disk_errors(data), DataFolder(data):
        student_id = parsed.student or erase.student_named(parsed.name, erase.known_students(data, roster, limits))
        if not parsed.yes and not _confirmed():
            print("Nothing was erased.")
            return 1

        def in_store(traced: bool) -> bool:
            return store is not None and asyncio.run(erase_store.erase_in_store(store, data, student_id, traced=traced))

        erased = erase.erase(data, roster, student_id, limits, in_store)
    _print_erased(erased, data)
    if roster is None:
        print("Not reached: the roster, which is not in files; remove the student there.")
    if store is not None:
        print(f"Not reached: the data folders of other nodes. On each of them run: erase-student {student_id}")
        print("Do so before any node is started: other nodes do not bring the student back, but still have it on disk.")
    return 0


def _confirmed() -> bool:
    """Ask at the terminal.

    Raises:
        SettingsError: there is no terminal.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise SettingsError("Erasing cannot be undone, and there is no terminal to ask at; confirm it with --yes.")
    print("This cannot be undone. Type yes to erase the student: ", end="", flush=True)
    return sys.stdin.readline().strip().casefold() == "yes"


def _print_erased(erased: Erased, data: Path) -> None:
    lines = counted(erased.lines, "line")
    print(f"Erased: {lines} of the archive, and all other data in {data}. The folder was read again to check it.")
    for file in erased.named:
        print(f"The id still occurs in {file}, in text by another person.")
    print("Not reached: backups and exports elsewhere, and data in browsers.")
    for aside in sorted(data.parent.glob(f"{data.name}-before-*")):
        print(f"Not reached: {aside}, which a restore moved aside.")
