"""Erase: removes a student from all that the data folder holds, while the appliance is stopped.

Each part of the program removes the student from its own files (`appliance.datafolder.stored_files`); also in the data
folders of workers and of earlier content that are within this one.
The student is first written to ``erasing.json``; each step after that can be done again, and changes a file whole or
not at all. So the next start of the appliance, or the next erasing, finishes one that was cut short.

Afterwards every byte is searched for the student (`appliance.maintenance.search`), and a receipt may be written
(`appliance.maintenance.receipt`). ``erased.jsonl`` keeps a line per erasing: when, how many lines of the archive, and
the number of the receipt; nothing of the student.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from appliance.archive.markers import known_missing
from appliance.archive.merged_students import read_merged
from appliance.archive.stored_files import ARCHIVE
from appliance.datafolder import sealed
from appliance.datafolder.files import remove, remove_tree, replace, sync_folder, write_private
from appliance.datafolder.small_file import SmallFile, copy_path
from appliance.datafolder.stored_files import EraseError, KnownStudent, Place, StoredFiles, StudentTraces
from appliance.errors import ObserverError
from appliance.maintenance import receipt as receipts
from appliance.maintenance.all_files import (
    ERASED,
    ERASING,
    LOST,
    OWN_NAMES,
    WORK_PREFIX,
    BackupFiles,
    ErasedLine,
    all_parts,
    nested_folders,
)
from appliance.maintenance.search import ID, Search, Searched, Sought, search
from appliance.roster import RosterLimits
from appliance.roster.place import RosterPlace
from appliance.roster.stored_files import RosterStoreFiles

__all__ = [
    "EraseError",
    "Erased",
    "InStore",
    "KnownStudent",
    "ReceiptWanted",
    "erase",
    "finish",
    "known_students",
    "with_merged",
]
__all__ += ["student_named"]

log = logging.getLogger(__name__)


class InStore(msgspec.Struct, frozen=True):
    """What erasing in a store that nodes share has done.

    Attributes:
        known: whether the store had the student, or a note that the student was erased.
        removed: what was removed.
        searched: the result of a search of all keys and values afterwards.
        nodes: names of the nodes that the store knows.
    """

    known: bool = False
    removed: list[Place] = []
    searched: list[Searched] = []
    nodes: list[str] = []

    def with_roster(self, roster: InStore) -> InStore:
        """Together with what was done in a roster on a server."""
        return InStore(
            self.known or roster.known, self.removed + roster.removed, self.searched + roster.searched, self.nodes
        )


class ReceiptWanted(msgspec.Struct, frozen=True):
    """The receipt that is asked for.

    Attributes:
        path: its file.
        not_reached: sentences on what this command does not reach.
        number: its number.
    """

    path: str
    not_reached: list[str]
    number: str


class Intent(msgspec.Struct, frozen=True):
    """``erasing.json``: what is being erased.

    Attributes:
        student_id: the student.
        roster: the SQLite roster, None where it is none of files; without `lists`, as before format 4, the folder of
            the roster.
        lines: number of the student's lines in the archive.
        streams: ids of the student's streams.
        limits: of the roster's lists.
        names: the student's names.
        receipt: the receipt that is asked for.
        removed: for the receipt, what is removed from where.
        store: for the receipt, what was done in the store.
        lists: the folder of the roster's lists.
    """

    student_id: str
    roster: str | None
    lines: int
    streams: list[str]
    limits: RosterLimits
    names: list[str] = []
    receipt: ReceiptWanted | None = None
    removed: list[Place] = []
    store: InStore = InStore()
    lists: str | None = None

    @property
    def place(self) -> RosterPlace | None:
        """The files of the roster."""
        file = None if self.roster is None else Path(self.roster)
        if self.lists is None:
            return None if file is None else RosterPlace.within(file)
        return RosterPlace("", file, Path(self.lists))

    @property
    def student(self) -> StudentTraces:
        return StudentTraces(self.student_id, True, self.lines, tuple(self.streams))

    @property
    def sought(self) -> Sought:
        return Sought(self.student_id, tuple(self.streams), tuple(self.names))


class Erased(msgspec.Struct, frozen=True):
    """What was done.

    Attributes:
        lines: number of lines of the archive that were erased.
        backups: number of backups within the data folder that were rewritten.
        named: files that still have the id, in what other students wrote.
        search: the result of the search of all bytes.
        unwritten: the reason why the receipt could not be written; "" if it was, or none was asked for.
    """

    lines: int
    backups: int
    named: list[str]
    search: Search
    unwritten: str = ""


def known_students(data: Path, roster: RosterPlace | None, limits: RosterLimits) -> list[KnownStudent]:
    """All students whom stored files name, now or once; one of them may be there with several names."""
    parts = [part for _, part in all_parts(data, roster, limits)]
    return list({(known.student_id, known.name): known for part in parts for known in part.students()}.values())


def merged_with(roster: RosterPlace, student_id: str) -> list[str]:
    """Ids of students whom an educator merged with one: the archive has their work under these ids.

    Raises:
        EraseError: the roster cannot be read.
    """
    if roster.file is None:
        return []
    found, left = [student_id], [student_id]
    while left:
        more = [one for one in RosterStoreFiles(roster.file).merged_into(left.pop()) if one not in found]
        found += more
        left += more
    return found[1:]


def student_named(name: str, known: Iterable[KnownStudent]) -> str:
    """The id of the student with a name; case does not matter.

    Raises:
        ObserverError: nobody has it, or several students have.
    """
    found = {student.student_id: student for student in known if student.name.casefold() == name.strip().casefold()}
    if not found:
        raise ObserverError(
            "The roster has no student of that name. Give the id: erase-student ID. The table 'students' of an "
            "'export' has the id, class and times of all who did something, also of those whom the roster no longer "
            "has."
        )
    if len(found) > 1:
        ids = ", ".join(f"{student.student_id} (class {student.class_id})" for student in found.values())
        raise ObserverError(f"Several students have that name: {ids}. Give the id.")
    return next(iter(found))


def with_merged(folders: Iterable[Path], roster: RosterPlace, student_id: str) -> list[str]:
    """The ids under which there are traces of one person: of students who were merged, and last of the one who stays.

    Args:
        folders: data folders.
        roster: where the roster is.
        student_id: one of them.

    Raises:
        EraseError: the roster cannot be read.
    """
    merged = {one: into for folder in folders for one, into in read_merged(folder / ARCHIVE)[0].items()}
    stays = merged.get(student_id, student_id)
    found = {one for one, into in merged.items() if into == stays} | set(merged_with(roster, stays))
    return [*sorted(found), stays]


def erase(
    data: Path,
    roster: RosterPlace | None,
    student_id: str,
    limits: RosterLimits,
    in_store: Callable[[StudentTraces, Sought], InStore] = lambda traces, sought: InStore(),
    receipt: ReceiptWanted | None = None,
    names: Iterable[str] = (),
) -> Erased:
    """Erase a student. The caller holds the data folder, and those of workers in it.

    Args:
        data: the data folder.
        roster: the files of the roster.
        student_id: the student.
        limits: of the roster's lists.
        in_store: erases the student from a store that nodes share, once all files were searched. Its arguments are
            the traces of the student in the data folder, and what to search for afterwards.
        receipt: the receipt to write.
        names: of the student, besides those in files.

    Raises:
        EraseError: there is no trace of the student, or something cannot be read and so not be searched.
        OSError: something cannot be written; an erasure that had begun continues at the next start.
    """
    finish(data)
    parts = all_parts(data, roster, limits)
    # All is read before anything is changed: what cannot be read cannot be searched.
    traces = _together(student_id, [part.find_student(student_id) for _, part in parts])
    known = known_students(data, roster, limits)
    names = sorted({*names, *(one.name for one in known if one.student_id == student_id)})
    removed = list(_count(parts, traces)) if receipt else []
    done = in_store(traces, Sought(student_id, traces.streams, tuple(names)))
    if not done.known and not traces.found:
        raise EraseError("There is no trace of such a student in the data folder.")
    intent = Intent(
        student_id,
        None if roster is None or roster.file is None else str(roster.file.absolute()),
        traces.archive_lines,
        list(traces.streams),
        limits,
        names,
        receipt,
        removed,
        done,
        None if roster is None else str(roster.lists.absolute()),
    )
    _erasing(data).write(intent)
    return _carry_out(data, intent)


def finish(data: Path) -> bool:
    """Finish an erasing that was cut short; returns whether there was one. The caller holds the data folder.

    Raises:
        EraseError: it cannot be finished; the text says why.
        OSError: something cannot be written.
    """
    try:
        intent = _erasing(data).read()
    except IsADirectoryError:
        raise EraseError(f"{data / ERASING} is a folder, and no file of this program. Remove it.") from None
    if intent is None:
        if (data / ERASING).exists():
            # What is to be erased cannot be known. The finding remains until the student is erased again.
            replace(data / ERASING, data / LOST)
            sync_folder(data)
        return False
    erased = _carry_out(data, intent)
    log.info("An interrupted erasure of a student has been completed.")
    if erased.unwritten:
        log.error("The receipt of the erasing cannot be written: %s. 'erased.jsonl' has its number.", erased.unwritten)
    return True


def _together(student_id: str, traces: Sequence[StudentTraces]) -> StudentTraces:
    return StudentTraces(
        student_id,
        any(one.found for one in traces),
        sum(one.archive_lines for one in traces),
        tuple(sorted({stream for one in traces for stream in one.streams})),
    )


def _count(parts: Iterable[tuple[str, StoredFiles]], student: StudentTraces) -> Iterator[Place]:
    for within, part in parts:
        for place in part.count(student):
            yield Place(within + place.where, place.count, place.what)


def _carry_out(data: Path, intent: Intent) -> Erased:
    roster = intent.place
    parts = [part for _, part in all_parts(data, roster, intent.limits)]
    for part in parts:
        part.remove_student(intent.student)
    _remove_unfinished(data, parts)
    outside = [] if roster is None else roster.outside(data)
    _sync_folders(data, outside)
    ignored = [data / ERASING, copy_path(data / ERASING)]
    found = search([data, *outside], intent.sought, OWN_NAMES, ignored)
    unwritten = _write_receipt(data, intent, found)
    _note(data, intent)
    _erasing(data).remove()
    sync_folder(data)
    backups = sum(len(part.files()) for part in parts if isinstance(part, BackupFiles))
    named = sorted(one.path for one in found.found if ID in one.kinds)
    return Erased(intent.lines, backups, named, found, unwritten)


def _remove_unfinished(data: Path, parts: Sequence[StoredFiles]) -> None:
    """Remove what a crash left of files that were being written, and of backups that were being erased."""
    for folder in (data, *(folder for folder, _ in nested_folders(data))):
        for path in folder.iterdir():
            if path.is_dir() and path.name.startswith(WORK_PREFIX):
                remove_tree(path)
    for part in parts:
        for path in list(part.unfinished()):
            remove(path)


def _sync_folders(data: Path, outside: Sequence[Path]) -> None:
    """Make it durable that files are gone, before the note of the erasing goes."""
    for top in (data, *(path if path.is_dir() else path.parent for path in outside if path.exists())):
        for folder, _, _ in os.walk(top, topdown=False):
            sync_folder(Path(folder))


def _write_receipt(data: Path, intent: Intent, found: Search) -> str:
    """Write the receipt that is asked for; returns the reason if it cannot be written."""
    wanted = intent.receipt
    if wanted is None:
        return ""
    removed = [*intent.removed, *intent.store.removed]
    everywhere = Search([*found.places, *intent.store.searched], found.found, found.unread)
    not_reached = [*wanted.not_reached, *_moved_away(data)]
    receipt = receipts.compose(wanted.number, data, removed, intent.sought, everywhere, not_reached)
    try:
        receipts.write(Path(wanted.path), receipt)
    except OSError as error:
        return f"{wanted.path}: {error.strerror or type(error).__name__}"
    return ""


def _moved_away(data: Path) -> Iterator[str]:
    """Segments of the archive that were moved elsewhere."""
    folders = {missing.marker.to or "" for missing in known_missing(data / "archive") if missing.marker.kind == "moved"}
    for folder in sorted(folders):
        yield f"Segments of the archive that were moved to {folder}; bring them back, and erase the student again."


def _note(data: Path, intent: Intent) -> None:
    file = data / ERASED
    before = file.read_bytes() if file.exists() else b""
    number = intent.receipt.number if intent.receipt else None
    if number and number.encode() in before:
        return
    if before and not before.endswith(b"\n"):
        before += b"\n"
    line = sealed.encode(ErasedLine(round(time.time(), 3), intent.lines, number))
    write_private(file, before + line)


def _erasing(data: Path) -> SmallFile[Intent]:
    return SmallFile(data / ERASING, Intent, copied=True, lost="datafolder.erasing_lost")
