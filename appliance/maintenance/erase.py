"""Erase: removes a student from all that the data folder holds, while the appliance is stopped.

Each part of the program removes the student from its own files (`appliance.datafolder.stored_files`).
The student is first written to ``erasing.json``; each step after that can be done again, and changes a file whole or
not at all. So the next start of the appliance, or the next erasing, finishes one that was cut short.

``erased.jsonl`` keeps a line per erasing: when, and how many lines of the archive; nothing of the student.
"""

from __future__ import annotations

import gzip
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from appliance.datafolder.files import remove, remove_tree, sync_folder, write_private
from appliance.datafolder.stored_files import EraseError, KnownStudent, StoredFiles, StudentTraces
from appliance.datafolder.traces import json_forms
from appliance.errors import ObserverError
from appliance.maintenance.all_files import ERASED, ERASING, WORK_PREFIX, BackupFiles, stored_files
from appliance.roster import RosterLimits

__all__ = ["EraseError", "Erased", "KnownStudent", "erase", "finish", "known_students", "student_named"]

log = logging.getLogger(__name__)

# A shorter id occurs in other texts by chance, so that a search for its bytes proves nothing.
_SEARCHABLE_CHARACTERS = 8


class Intent(msgspec.Struct, frozen=True):
    """``erasing.json``: what is being erased.

    Attributes:
        student_id: the student.
        roster: the folder of the roster, None where it is none of files.
        lines: number of the student's lines in the archive.
        streams: ids of the student's streams.
        limits: of the roster's lists.
    """

    student_id: str
    roster: str | None
    lines: int
    streams: list[str]
    limits: RosterLimits

    @property
    def student(self) -> StudentTraces:
        return StudentTraces(self.student_id, True, self.lines, tuple(self.streams))


class Erased(msgspec.Struct, frozen=True):
    """What was done.

    Attributes:
        lines: number of lines of the archive that were erased.
        backups: number of backups within the data folder that were rewritten.
        named: files that still have the id, in what other students wrote.
    """

    lines: int
    backups: int
    named: list[str]


def known_students(data: Path, roster: Path | None, limits: RosterLimits) -> list[KnownStudent]:
    """All students whom stored files name, now or once; one of them may be there with several names."""
    parts = stored_files(data, roster, limits)
    return list({(known.student_id, known.name): known for part in parts for known in part.students()}.values())


def student_named(name: str, known: Iterable[KnownStudent]) -> str:
    """The id of the student with a name; case does not matter.

    Raises:
        ObserverError: nobody has it, or several students have.
    """
    found = {student.student_id: student for student in known if student.name.casefold() == name.strip().casefold()}
    if not found:
        raise ObserverError("The roster has no student of that name; give the id, which is in the archive.")
    if len(found) > 1:
        ids = ", ".join(f"{student.student_id} (class {student.class_id})" for student in found.values())
        raise ObserverError(f"Several students have that name: {ids}. Give the id.")
    return next(iter(found))


def erase(
    data: Path,
    roster: Path | None,
    student_id: str,
    limits: RosterLimits,
    in_store: Callable[[bool], bool] = lambda traced: False,
) -> Erased:
    """Erase a student. The caller holds the data folder.

    Args:
        data: the data folder.
        roster: the roster's folder, None where it is none of files.
        student_id: the student.
        limits: of the roster's lists.
        in_store: erases the student from a store that nodes share, once all files were searched; its argument says
            whether the data folder has traces of the student, its result whether the store had.

    Raises:
        EraseError: there is no trace of the student, or something cannot be read and so not be searched.
        OSError: something cannot be written; an erasure that had begun continues at the next start.
    """
    finish(data)
    # All is read before anything is changed: what cannot be read cannot be searched.
    traces = [part.find_student(student_id) for part in stored_files(data, roster, limits)]
    traced = any(one.found for one in traces)
    if not in_store(traced) and not traced:
        raise EraseError("There is no trace of such a student in the data folder.")
    lines = sum(one.archive_lines for one in traces)
    streams = sorted({stream for one in traces for stream in one.streams})
    intent = Intent(student_id, None if roster is None else str(roster.absolute()), lines, streams, limits)
    write_private(data / ERASING, msgspec.json.encode(intent))
    return _carry_out(data, intent)


def finish(data: Path) -> bool:
    """Finish an erasing that was cut short; returns whether there was one. The caller holds the data folder.

    Raises:
        EraseError: it cannot be finished; the text says why.
        OSError: something cannot be written.
    """
    try:
        intent = msgspec.json.decode((data / ERASING).read_bytes(), type=Intent)
    except FileNotFoundError:
        return False
    except msgspec.DecodeError:
        raise EraseError(f"{data / ERASING} is damaged. Remove it, and erase the student again.") from None
    log.info("An interrupted erasure of a student has been completed.")
    _carry_out(data, intent)
    return True


def _carry_out(data: Path, intent: Intent) -> Erased:
    roster = None if intent.roster is None else Path(intent.roster)
    parts = stored_files(data, roster, intent.limits)
    for part in parts:
        part.remove_student(intent.student)
    _remove_unfinished(data, parts)
    _count(data, intent)
    remove(data / ERASING)
    sync_folder(data)
    backups = sum(len(part.files()) for part in parts if isinstance(part, BackupFiles))
    return Erased(intent.lines, backups, _files_with_id(data, roster, intent.student_id))


def _remove_unfinished(data: Path, parts: Sequence[StoredFiles]) -> None:
    """Remove what a crash left of files that were being written, and of backups that were being erased."""
    for path in data.iterdir():
        if path.is_dir() and path.name.startswith(WORK_PREFIX):
            remove_tree(path)
    for part in parts:
        for path in list(part.unfinished()):
            remove(path)


def _count(data: Path, intent: Intent) -> None:
    file = data / ERASED
    before = file.read_bytes() if file.exists() else b""
    line = msgspec.json.encode({"erased": round(time.time(), 3), "archive_lines": intent.lines})
    write_private(file, before + line + b"\n")


def _files_with_id(data: Path, roster: Path | None, student_id: str) -> list[str]:
    """Files that hold the id's bytes still, compressed ones included."""
    if len(student_id) < _SEARCHABLE_CHARACTERS:
        return []
    files = {path for folder in (data, roster) if folder is not None for path in folder.rglob("*") if path.is_file()}
    return sorted(str(path) for path in files if _holds(path, json_forms(student_id)))


def _holds(path: Path, texts: Sequence[bytes]) -> bool:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        before = b""
        pieces: Iterable[bytes] = iter(lambda: file.read(1 << 20), b"")
        for piece in pieces:
            if any(text in before + piece for text in texts):
                return True
            before = piece[-max(map(len, texts)) :]
    return False
