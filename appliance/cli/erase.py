"""The command ``erase-student``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli.commands import Commands
from appliance.cli.options import add_data_flags, add_kvs_flag, add_roster_flag, data_folder, settings_of
from appliance.cli.output import disk_errors
from appliance.errors import SettingsError
from appliance.text import counted

if TYPE_CHECKING:
    from appliance.datafolder.stored_files import StudentTraces
    from appliance.maintenance.erase import Erased, InStore, ReceiptWanted
    from appliance.maintenance.search import Sought
    from appliance.roster.place import RosterPlace


def add(commands: Commands) -> None:
    erase = commands.add("erase-student", _erase_student, "remove a student and all data of that student")
    add_data_flags(erase)
    add_kvs_flag(erase)
    add_roster_flag(erase)
    erase.add_argument("student", nargs="?", metavar="ID", help="the student's id")
    erase.add_argument("--name", metavar="NAME", help="or the name in the roster")
    erase.add_argument(
        "--receipt",
        type=Path,
        metavar="FILE",
        help="write what was removed from where, and what a search of all bytes found afterwards (JSON); names nobody",
    )
    erase.add_argument("--yes", action="store_true", help="do not ask")


def _erase_student(parsed: argparse.Namespace) -> int:
    import asyncio

    from appliance.kvs import kvs_facts
    from appliance.maintenance import erase, erase_roster, erase_store
    from appliance.maintenance.all_files import held, nested_folders, other_nodes
    from appliance.roster import RosterLimits
    from appliance.roster.place import RosterPlace

    settings = settings_of(parsed)
    if (parsed.student is None) == (parsed.name is None):
        raise SettingsError("Name one student: erase-student ID, or erase-student --name NAME.")
    data, limits = data_folder(settings), RosterLimits.of(settings.limits)
    roster = RosterPlace.of(settings)
    store = settings.kvs.url if kvs_facts(settings.kvs.url).shared else None
    with disk_errors(data), held(data):
        folders = [data, *(folder for folder, _ in nested_folders(data))]
        left = list(_not_reached(data, roster, other_nodes(folders) if store else None))
        receipt = _receipt(parsed.receipt, data, left)
        known = [] if parsed.student else erase.known_students(data, roster, limits)
        if roster.file is None:
            known += asyncio.run(erase_roster.students_in_roster(roster.url, parsed.student))
        student_id = parsed.student or erase.student_named(parsed.name, known)
        names = sorted({student.name for student in known if student.student_id == student_id})
        if not parsed.yes and not _confirmed():
            print("Nothing was erased.")
            return 1

        def in_store(traces: StudentTraces, sought: Sought) -> InStore:
            done = erase.InStore()
            if store is not None:
                done = asyncio.run(erase_store.erase_in_store(store, folders, traces, sought))
            if roster.file is None:
                done = done.with_roster(asyncio.run(erase_roster.erase_in_roster(roster.url, sought)))
            return done

        *merged, student_id = erase.with_merged(folders, roster, student_id)
        if roster.file is None:
            merged += asyncio.run(erase_roster.merged_with(roster.url, student_id))
        for other in sorted(set(merged)):
            with contextlib.suppress(erase.EraseError):
                erase.erase(data, roster, other, limits, in_store)
        erased = erase.erase(data, roster, student_id, limits, in_store, receipt, names)
    _print_erased(erased, data, left)
    if store is not None:
        print(f"On each of them run: erase-student {student_id}")
        print("Do so before any node is started: other nodes do not bring the student back, but still have it on disk.")
    return _print_receipt(receipt, erased)


def _receipt(path: Path | None, data: Path, not_reached: list[str]) -> ReceiptWanted | None:
    """The receipt to write.

    Raises:
        ObserverError: it cannot be written to that file.
    """
    from appliance.maintenance import erase, receipt

    if path is None:
        return None
    receipt.check_target(path, data)
    return erase.ReceiptWanted(str(path.absolute()), not_reached, receipt.new_number())


def _confirmed() -> bool:
    """Ask at the terminal.

    Raises:
        SettingsError: there is no terminal.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise SettingsError("Erasing cannot be undone, and there is no terminal to ask at; confirm it with --yes.")
    print("This cannot be undone. Type yes to erase the student: ", end="", flush=True)
    return sys.stdin.readline().strip().casefold() == "yes"


def _not_reached(data: Path, roster: RosterPlace, nodes: list[str] | None) -> Iterator[str]:
    """Sentences on where data of the student may be that this command does not reach; they name no student.

    Args:
        data: the data folder.
        roster: the files of the roster.
        nodes: names of other nodes as far as they are known; None where there are none.
    """
    from appliance.archive.markers import known_missing
    from appliance.archive.stored_files import ARCHIVE
    from appliance.roster.stored_files import other_lists

    yield "Backups and exports elsewhere, and data in browsers."
    moved = [missing.marker.to for missing in known_missing(data / ARCHIVE) if missing.marker.kind == "moved"]
    for to in dict.fromkeys(moved):
        files = counted(moved.count(to), "archive file")
        yield f"{files} in {to}, moved there; put them back with 'archive bring-back' and erase the student again."
    yield "Copies that the disk keeps of removed files: its free space, its snapshots, and the computer's own backups."
    for aside in sorted(data.parent.glob(f"{data.name}-before-*")):
        yield f"{aside}, which a restore moved aside."
    if others := other_lists(roster.lists):
        yield (
            f"Lists in {roster.lists} ({', '.join(others)}): take the student out of them, or the next import brings "
            "the student back."
        )
    if roster.file is None:
        yield f"Class lists in {roster.lists}, and such folders of other nodes: take the student out of them."
        yield "The database's own backups, logs and free space on its disk."
    if nodes is not None:
        named = f" ({', '.join(nodes)})" if nodes else ""
        yield f"The data folders of other nodes{named}: each of them needs an erasing of its own."
        yield "The store's own backups and logs on its disk."


def _print_erased(erased: Erased, data: Path, not_reached: list[str]) -> None:
    lines = counted(erased.lines, "line")
    print(f"Erased: {lines} of the archive, and all other data in {data}. The folder was read again to check it.")
    for file in erased.named:
        print(f"The id still occurs in {file}, in text by another person.")
    for unread in erased.search.unread:
        print(f"{unread.file} could not be searched: {unread.reason}.")
    for sentence in not_reached:
        print(f"Not reached: {sentence[0].lower()}{sentence[1:]}")


def _print_receipt(receipt: ReceiptWanted | None, erased: Erased) -> int:
    if receipt is None:
        return 0
    if erased.unwritten:
        print(f"The student is erased, but the receipt {receipt.number} cannot be written: {erased.unwritten}.")
        return 1
    print(f"The receipt {receipt.number} is in {receipt.path}. It names nobody: write its number on the request.")
    return 0
