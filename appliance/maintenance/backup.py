"""Backup: the whole data folder in one file, taken while the appliance runs, and restored.

Which files, and in which order, `appliance.maintenance.all_files` says. A roster that is not in the data folder, and a
key-value store on a server, are not in a backup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from appliance.archive.markers import missing_findings
from appliance.archive.stored_files import ARCHIVE
from appliance.config import Settings, redact
from appliance.datafolder import LOCK, PASSING, WORKERS, exchange
from appliance.datafolder.files import remove, remove_folder, remove_tree, temporary_folder
from appliance.datafolder.lock import FolderLock
from appliance.errors import ArchiveError, SettingsError
from appliance.kvs import kvs_facts
from appliance.maintenance import backup_format
from appliance.maintenance.all_files import backed_up, held
from appliance.maintenance.backup_format import BackupError, Manifest, check
from appliance.maintenance.chain_report import problems
from appliance.maintenance.moving import archives
from appliance.roster.place import RosterPlace
from appliance.text import counted

__all__ = ["BackupError", "Manifest", "archive_damage", "back_up", "check", "moved_away", "not_included", "restore"]

_CHECK_NAME = re.compile(r"\..+\.check-[0-9a-f]{8}")


def back_up(data: Path, out: Path, *, force: bool = False) -> Manifest:
    """Write a backup of a data folder, which may be in use.

    Raises:
        BackupError: the data folder or the backup's folder is not there, or there is such a file already and `force`
            is not set.
        OSError: a file cannot be read or written.
    """
    if not data.is_dir():
        raise BackupError(f"There is no data folder {data}.")
    if out.exists() and not force:
        raise BackupError(f"{out} already exists; choose another name, or overwrite it with --force.")
    if not out.absolute().parent.is_dir():
        raise BackupError(f"There is no folder {out.absolute().parent}; make it first, or choose another one.")
    _remove_ended_checks(out.absolute().parent)
    within = out.absolute().is_relative_to(data.absolute())
    return backup_format.write(out, data, backed_up(data), inherit=within)


def not_included(settings: Settings) -> Iterator[tuple[str, str]]:
    """What of an installation is not in its data folder: what it is, and its URL without passwords."""
    place = RosterPlace.of(settings)
    if place.file is None or place.file in place.outside(settings.data_path):
        yield "roster", redact(place.url)
    if place.lists in place.outside(settings.data_path):
        yield "folder of class lists", str(place.lists)
    if kvs_facts(settings.kvs.url).shared:
        yield "key-value store", redact(settings.kvs.url)


def moved_away(data: Path) -> Iterator[str]:
    """Clauses on the files of the archives that were moved to other folders, so that no backup has them."""
    for folder, _ in archives(data):
        for found in missing_findings(folder):
            if found.code == "archive.moved":
                segments, events = (found.params[name] for name in ("segments", "events"))
                yield (
                    f"{counted(int(segments), 'file')} of the archive ({found.params['days']}, "
                    f"{counted(int(events), 'event')}), moved to {found.subject}"
                )


def archive_damage(backup: Path) -> list[str]:
    """The places where an archive in a backup is damaged, each as a clause; `restore` refuses a backup with any.

    The archive is written to a folder beside the backup meanwhile, where it is protected as the backup is.

    Raises:
        BackupError: the backup itself is damaged.
        SettingsError: the folder cannot be locked.
        OSError: a file cannot be read or written, as on a disk without room.
    """
    folder = temporary_folder(backup.absolute().parent, f".{backup.name}.check-")
    try:
        # The lock shows the next backup whether this check still runs.
        with _locked(folder):
            backup_format.extract(backup, folder, _is_of_archive)
            return _damage(folder)
    finally:
        remove_tree(folder, tolerant=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FolderLock(folder)
    try:
        yield
    finally:
        lock.release()


def _remove_ended_checks(folder: Path) -> None:
    """Remove what checks of backups left in a folder when they were killed; what is not surely theirs stays."""
    for path in folder.iterdir():
        if _CHECK_NAME.fullmatch(path.name) and not path.is_symlink() and (path / LOCK).is_file():
            try:
                FolderLock(path).release()
            except SettingsError:
                # The check still runs, or the folder is another user's.
                continue
            remove_tree(path, tolerant=True)


def _is_of_archive(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return parts[0] == ARCHIVE or (parts[0] == WORKERS and parts[2:3] == (ARCHIVE,))


def restore(
    backup: Path, data: Path, *, force: bool = False, accept_damage: bool = False
) -> tuple[Manifest, Path | None]:
    """Restore a backup, after each of its files was checked, and the chain of its archive.

    The folder itself stays, with its owner and mode; its content is exchanged (`appliance.datafolder.exchange`).

    Args:
        backup: the file.
        data: the data folder.
        force: whether a folder that holds data may be replaced; its content is moved aside then.
        accept_damage: whether an archive is restored that was damaged when the backup was made.

    Returns:
        The contents of the backup, and the folder that the earlier data were moved to, if there were any.

    Raises:
        BackupError: the backup is damaged or holds a damaged archive, or data are in the way.
        SettingsError: an appliance uses the data folder, or its content cannot be moved.
        OSError: a file cannot be read or written.
    """
    backup_format.check_names(backup)
    made = not data.is_dir()
    try:
        with held(data):
            used = bool(exchange.content(data, PASSING))
            if used and not force:
                raise BackupError(
                    f"The data folder {data} is not empty. With --force its content is moved aside, and the backup is "
                    "restored."
                )
            with exchange.prepared(data) as fresh:
                manifest = backup_format.extract(backup, fresh)
                if not accept_damage:
                    _check_archives(backup, fresh)
                before = exchange.exchange(data, PASSING)
            return manifest, before and exchange.move_beside(before)
    except BaseException:
        if made:
            _remove_made(data)
        raise


def _check_archives(backup: Path, fresh: Path) -> None:
    """Check the archives of the data folder and of its workers.

    Raises:
        BackupError: one is damaged, or its chain is broken.
    """
    if found := _damage(fresh):
        more = f" and {counted(len(found) - 1, 'other place')}" if len(found) > 1 else ""
        raise BackupError(
            f"The archive in {backup} was damaged before the backup was made ({found[0]}{more}). Nothing was "
            "changed. Restore an earlier backup, or this one all the same with --accept-damage."
        )


def _damage(data: Path) -> list[str]:
    """The places where the archives of a data folder are damaged or their chain is broken, each as a clause."""
    found: list[str] = []
    for folder, _ in archives(data):
        worker = "" if folder.parent == data else f"{folder.relative_to(data).as_posix()}/"
        try:
            found += [f"{worker}{place}" for place in problems(folder)]
        except ArchiveError as error:
            found.append(str(error))
    return found


def _remove_made(data: Path) -> None:
    """Remove the folder that a failed restore made."""
    with suppress(OSError):
        remove(data / LOCK)
        remove_folder(data)
