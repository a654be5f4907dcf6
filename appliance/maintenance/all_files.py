"""All files of a data folder: the one list of the parts of the program that store files there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from appliance.archive.stored_files import ARCHIVE, ArchiveFiles
from appliance.cluster import credentials, upload_mark
from appliance.datafolder import BACKUPS, FORMAT_FILE, LOCK, PASSING, READY, WORKERS, DataFolder, FormatFile, exchange
from appliance.datafolder.damaged_lines import damaged_lines_path
from appliance.datafolder.files import make_folder, remove, remove_tree, temporary_folder, unfinished_name
from appliance.datafolder.foreign import conflict_copy_of, is_of_desktop
from appliance.datafolder.format_file import decode_format
from appliance.datafolder.ownership import adopt
from appliance.datafolder.small_file import copy_path
from appliance.datafolder.stored_files import (
    EraseError,
    JournalFiles,
    JsonFile,
    Place,
    StoredFiles,
    StudentTraces,
    check_json,
    check_seal,
)
from appliance.datafolder.traces import is_about, json_forms
from appliance.health import Finding, finding
from appliance.kvs import records
from appliance.maintenance import backup_format
from appliance.maintenance.backup_format import BackupError
from appliance.network import network
from appliance.recovery.start import CLASSES_FILE
from appliance.recovery.stored_files import SnapshotFiles
from appliance.roster import RosterLimits
from appliance.roster.place import RosterPlace
from appliance.roster.stored_files import RosterListFiles, RosterStoreFiles

ERASING = "erasing.json"
"""The student who is being erased, until that is done."""
LOST = f"{ERASING}.damaged"
"""Such a file that was damaged, so that who was to be erased is not known for sure."""
ERASED = "erased.jsonl"
"""A line per erasing: when, and how many lines of the archive; nothing of the student."""
KEYS = "keys"
"""Where an export puts its key."""
WORK_PREFIX = ".erasing-"
"""Of the folders in which backups are rewritten."""
ROSTER = "roster"
SIGNED_OUT = "signed-out.json"
"""Of programs before format 4: sessions that had ended. Nothing reads it any more."""
_SMALL_FILES = (
    *(ERASED, ERASING, FORMAT_FILE, CLASSES_FILE, credentials.FILE, SIGNED_OUT, upload_mark.FILE, network.FILE),
    records.JOURNAL,
)
OWN_NAMES = (
    *(ARCHIVE, ROSTER, KEYS, BACKUPS, READY, *PASSING, LOST, "snapshots", *_SMALL_FILES),
    *(beside(Path(name)).name for name in _SMALL_FILES for beside in (copy_path, damaged_lines_path)),
)
"""The names of the files and folders that the program makes in a data folder, without those of nested data folders."""


class ErasedLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of `ERASED`: when, how many lines of the archive, and the number of the receipt if there is one."""

    erased: float
    archive_lines: int
    receipt: str | None = None


def stored_files(data: Path, roster: RosterPlace | None, limits: RosterLimits) -> list[StoredFiles]:
    """The stored files of each part of the program.

    The order matters. Snapshots come before the archive: so the archive of a backup has all that its snapshot has, and
    the positions of snapshots are set back before an erasing moves lines of the archive.

    Args:
        data: the data folder.
        roster: the files of the roster, None where they belong to another folder.
        limits: of the roster's lists.
    """
    parts: list[StoredFiles] = [
        SnapshotFiles(data),
        JsonFile(data, CLASSES_FILE, dict[str, dict[str, str]]),
        JsonFile(data, FORMAT_FILE, FormatFile, decode_format),
        JsonFile(data, credentials.FILE, credentials.Credentials),
        JsonFile(data, SIGNED_OUT, dict[str, Any]),
        JsonFile(data, upload_mark.FILE, dict[str, Any]),
        JsonFile(data, network.FILE, dict[str, Any]),
        SharedJournal(data),
        # The lists come first: which row of them is a student's, the store knows.
        *([] if roster is None else [RosterListFiles(roster.lists, roster.file, limits)]),
        *([] if roster is None or roster.file is None else [RosterStoreFiles(roster.file)]),
        StoredFiles(data, READY),
        KeyFiles(data),
        ErasureFiles(data),
    ]
    archive = ArchiveFiles(data)
    parts += [ConflictCopies(data, (*parts, archive)), archive]
    # What is not in backups has no part in what they hold.
    return [
        *parts,
        RunFiles(data),
        DesktopFiles(data),
        LogFiles(data),
        WorkerFolders(data),
        EarlierFolders(data),
        BackupFiles(data, limits),
    ]


def nested_folders(data: Path) -> list[tuple[Path, RosterPlace | None]]:
    """The data folders within one, each with its roster: those of workers, and of what a restore moved aside."""
    found: list[tuple[Path, RosterPlace | None]] = []
    for folder in (*WorkerFolders(data).folders(), *EarlierFolders(data).folders()):
        # A worker's folder may have a link to the roster of the data folder, which is not treated twice.
        found.append((folder, None if (folder / ROSTER).is_symlink() else RosterPlace.within(folder / ROSTER)))
        found += nested_folders(folder)
    return found


def all_parts(data: Path, roster: RosterPlace | None, limits: RosterLimits) -> list[tuple[str, StoredFiles]]:
    """The stored files of a data folder and of those within it, each with the folder's name and ``/``, or ""."""
    folders = [(data, roster), *nested_folders(data)]
    return [
        ("" if folder == data else f"{folder.relative_to(data).as_posix()}/", part)
        for folder, own_roster in folders
        for part in stored_files(folder, own_roster, limits)
    ]


def other_nodes(folders: Iterable[Path]) -> list[str]:
    """The names of other nodes that have shared a store with the nodes of some data folders, as far as they know."""
    names: set[str] = set()
    for folder in folders:
        file = upload_mark.UploadMarkFile(folder)
        file.load()
        names.update(file.mark.nodes)
    return sorted(names)


@contextmanager
def held(data: Path) -> Iterator[DataFolder]:
    """Hold a data folder and those of workers in it: one may run on though its parent was killed.

    Raises:
        SettingsError: the folder cannot be written.
        DataFolderInUseError: a program holds one of them.
    """
    with ExitStack() as holding:
        folder = holding.enter_context(DataFolder(data))
        for worker in WorkerFolders(data).folders():
            if (worker / LOCK).exists():
                holding.enter_context(DataFolder(worker))
        yield folder


def backed_up(data: Path) -> Iterator[tuple[StoredFiles, Path]]:
    """The files of a data folder and of the workers' folders in it, each with its owner, in the order for a backup."""
    workers = [one for one in nested_folders(data) if one[0].parent.name == WORKERS]
    for folder, roster in (*workers, (data, RosterPlace.within(data / ROSTER))):
        parts = stored_files(folder, roster, RosterLimits())
        *first, archive = [part for part in parts if not isinstance(part, NotBackedUp)]
        for part in (*first, OtherFiles(folder, parts), archive):
            for path in part.files():
                yield part, path


class NotBackedUp(StoredFiles):
    """Files that do not belong to the data."""


class KeyFiles(StoredFiles):
    """The keys of exports. Another key gives other pseudonyms, so a changed bit must be known."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, f"{KEYS}/*")

    def verify(self) -> Iterator[Finding]:
        for path in self.files():
            yield from check_seal(path)


class DesktopFiles(NotBackedUp):
    """What desktops and network file systems leave in folders, such as ``._NAME`` and ``Thumbs.db``."""

    def owns(self, path: Path) -> bool:
        return path.is_relative_to(self.root) and is_of_desktop(path)

    def files(self) -> list[Path]:
        return [path for path in _walk(self.root) if is_of_desktop(path)]

    def verify(self) -> Iterator[Finding]:
        for path in self.files():
            yield finding("file.of_desktop", self.name_of(path))


class ConflictCopies(StoredFiles):
    """Conflict copies of the program's files, as a synced folder makes them. Nothing reads them.

    Of files that are no lists of lines, one that holds something of a student is removed whole.
    """

    def __init__(self, root: Path, parts: Sequence[StoredFiles]) -> None:
        """Args:
        root: the data folder.
        parts: those whose files may be copied.
        """
        super().__init__(root)
        self._parts = parts

    def owns(self, path: Path) -> bool:
        return any(part.conflict_copy(path) is not None for part in self._parts)

    def name_of(self, path: Path) -> str:
        """The name in the folder of its part, which may be another one than the data folder."""
        return next(part.name_of(path) for part in self._parts if path.is_relative_to(part.root))

    def files(self) -> list[Path]:
        return sorted({path for part in self._parts for path in part.copies()})

    def verify(self) -> Iterator[Finding]:
        for path in self.files():
            yield finding("file.conflict_copy", self.name_of(path), original=conflict_copy_of(path) or "")

    def find_student(self, student_id: str) -> StudentTraces:
        return StudentTraces(student_id, bool(self._of(student_id)))

    def count(self, student: StudentTraces) -> Iterator[Place]:
        for path in self._of(student.student_id):
            yield Place(self.name_of(path), 1, "files")

    def remove_student(self, student: StudentTraces) -> None:
        for path in self._of(student.student_id):
            remove(path)

    def _of(self, student_id: str) -> list[Path]:
        forms = json_forms(student_id)
        copies = sorted({path for part in self._parts if not part.edits_copies for path in part.copies()})
        return [path for path in copies if any(form in path.read_bytes() for form in forms)]


class RunFiles(NotBackedUp):
    """Files of the program that runs."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, *PASSING)


class SharedJournal(JournalFiles):
    """The journal of the records that nodes share."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, records.JOURNAL)


class ErasureFiles(StoredFiles):
    """What erasing keeps: the student who is being erased, and counts."""

    def __init__(self, root: Path) -> None:
        names = ERASED, ERASING, copy_path(Path(ERASING)).name, *map(_damaged_name, (ERASED, ERASING)), LOST
        super().__init__(root, *names)

    def verify(self) -> Iterator[Finding]:
        yield from check_json(self.root / ERASED, ErasedLine)
        if (self.root / ERASING).exists():
            yield finding("erase.unfinished")
        if (self.root / LOST).exists():
            yield finding("datafolder.erasing_lost", LOST)

    def remove_student(self, student: StudentTraces) -> None:
        for name in (LOST, *map(_damaged_name, (ERASED, ERASING))):
            path = self.root / name
            if path.is_file() and is_about(path.read_bytes(), student.student_id):
                remove(path)


def _damaged_name(name: str) -> str:
    return damaged_lines_path(Path(name)).name


class LogFiles(NotBackedUp):
    """The log, where it is in the data folder: on Windows, and of a user without a home folder."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, "logs/*", "Logs/*")


class WorkerFolders(NotBackedUp):
    """The data folders of workers. Each is a data folder of its own."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, f"{WORKERS}/*/*")

    def folders(self) -> list[Path]:
        return sorted(path for path in (self.root / WORKERS).glob("*") if path.is_dir())


class EarlierFolders(NotBackedUp):
    """Earlier content that a restore moved aside, each a data folder of its own; and what one left that was killed."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, f"{exchange.BEFORE}*/*", *exchange.PATTERNS)

    def folders(self) -> list[Path]:
        return exchange.earlier(self.root)


class BackupFiles(NotBackedUp):
    """Backups within the data folder, as upgrades leave them."""

    def __init__(self, root: Path, limits: RosterLimits) -> None:
        super().__init__(root, f"{BACKUPS}/*")
        self._limits = limits

    def files(self) -> list[Path]:
        return [path for path in super().files() if path.suffix == ".tar" and not path.name.startswith("._")]

    def verify(self) -> Iterator[Finding]:
        for path in self.files():
            try:
                yield finding("backup.read", path.name, files=len(backup_format.check(path).files))
            except BackupError as error:
                yield finding("backup.damaged", path.name, detail=str(error))
            except OSError as error:
                yield finding("file.unreadable", path.name, detail=error.strerror or type(error).__name__)

    def find_student(self, student_id: str) -> StudentTraces:
        """What backups hold; the number of lines is that of the archive itself, of which they are copies."""
        found = False
        streams: set[str] = set()
        for path in self.files():
            with self._unpacked(path) as inside:
                for _, part in all_parts(inside, RosterPlace.within(inside / ROSTER), self._limits):
                    traces = part.find_student(student_id)
                    found = found or traces.found
                    streams.update(traces.streams)
        return StudentTraces(student_id, found, streams=tuple(sorted(streams)))

    def count(self, student: StudentTraces) -> Iterator[Place]:
        for path in self.files():
            with self._unpacked(path) as inside:
                for within, part in all_parts(inside, RosterPlace.within(inside / ROSTER), self._limits):
                    for place in part.count(student):
                        yield Place(f"{self.name_of(path)}: {within}{place.where}", place.count, place.what)

    def remove_student(self, student: StudentTraces) -> None:
        """Put each backup back into a folder of its own, remove the student there, and back it up again."""
        for path in self.files():
            with self._unpacked(path) as inside:
                for _, part in all_parts(inside, RosterPlace.within(inside / ROSTER), self._limits):
                    part.remove_student(student)
                backup_format.write(path, inside, backed_up(inside), inherit=True)

    @contextmanager
    def _unpacked(self, path: Path) -> Iterator[Path]:
        """A backup's content in a folder of its own, for the time of the ``with`` block.

        Raises:
            EraseError: it is damaged.
        """
        work = temporary_folder(self.root, WORK_PREFIX)
        adopt(work, self.root)
        try:
            inside = work / "data"
            make_folder(inside)
            try:
                backup_format.extract(path, inside)
            except BackupError as error:
                raise EraseError(f"{error} Remove it first: what it holds cannot be searched.") from None
            yield inside
        finally:
            remove_tree(work, tolerant=True)


def _walk(root: Path) -> list[Path]:
    """All files in a data folder, without those of the data folders in it."""
    found = []
    for folder, folders, names in os.walk(root):
        if Path(folder) == root:
            folders[:] = [name for name in folders if name != WORKERS and not name.startswith(exchange.BEFORE)]
        found += [Path(folder, name) for name in names]
    return sorted(found)


class OtherFiles(StoredFiles):
    """Files in a data folder that no part of the program knows; a backup holds them too."""

    def __init__(self, root: Path, parts: Sequence[StoredFiles]) -> None:
        super().__init__(root)
        self._parts = parts

    def owns(self, path: Path) -> bool:
        return not any(part.owns(path) for part in self._parts)

    def files(self) -> list[Path]:
        found = [Path(folder, name) for folder, _, names in os.walk(self.root) for name in names]
        return sorted(
            path
            for path in found
            if self.owns(path) and unfinished_name(path) is None and not path.name.startswith(".")
        )

    def verify(self) -> Iterator[Finding]:
        for path in self.files():
            yield finding("file.other", path.relative_to(self.root).as_posix())
