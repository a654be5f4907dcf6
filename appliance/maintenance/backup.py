"""Backup: the whole data folder in one file, taken while the appliance runs, and restored.

Which files, and in which order, `appliance.maintenance.all_files` says. A roster that is not in the data folder, and a
key-value store on a server, are not in a backup.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.config import Settings, redact
from appliance.datafolder import LOCK, PASSING, DataFolder
from appliance.datafolder.files import (
    make_folder,
    remove,
    remove_folder,
    remove_tree,
    replace,
    sync_folder,
    temporary_folder,
)
from appliance.kvs import kvs_facts
from appliance.maintenance import backup_format
from appliance.maintenance.all_files import backed_up
from appliance.maintenance.backup_format import BackupError, Manifest, check
from appliance.roster import roster_facts

__all__ = ["BackupError", "Manifest", "back_up", "check", "not_included", "restore"]


def back_up(data: Path, out: Path, *, force: bool = False) -> Manifest:
    """Write a backup of a data folder, which may be in use.

    Raises:
        BackupError: the folder is not there, or there is such a file already and `force` is not set.
        OSError: a file cannot be read or written.
    """
    if not data.is_dir():
        raise BackupError(f"There is no data folder {data}.")
    if out.exists() and not force:
        raise BackupError(f"{out} already exists; choose another name, or overwrite it with --force.")
    return backup_format.write(out, data, backed_up(data))


def not_included(settings: Settings) -> Iterator[tuple[str, str]]:
    """What of an installation is not in its data folder: what it is, and its URL without passwords."""
    folder = roster_facts(settings.roster_url).folder
    if folder is None or settings.data_path.resolve() not in folder.resolve().parents:
        yield "roster", redact(settings.roster_url)
    if kvs_facts(settings.kvs.url).shared:
        yield "key-value store", redact(settings.kvs.url)


def restore(backup: Path, data: Path, *, force: bool = False) -> tuple[Manifest, Path | None]:
    """Restore a backup, after each of its files was checked.

    Args:
        backup: the file.
        data: the data folder.
        force: whether a folder that holds data may be replaced; it is moved aside then.

    Returns:
        The contents of the backup, and the folder that the earlier data were moved to, if there were any.

    Raises:
        BackupError: the backup is damaged, or data are in the way.
        SettingsError: an appliance uses the data folder.
        OSError: a file cannot be read or written.
    """
    used = data.is_dir() and any(path.name not in PASSING for path in data.iterdir())
    if used and not force:
        raise BackupError(
            f"The data folder {data} is not empty. With --force its content is moved aside, and the backup is restored."
        )
    make_folder(data.parent)
    fresh = temporary_folder(data.parent, f".{data.name}.restore-")
    aside = None
    try:
        manifest = backup_format.extract(backup, fresh)
        with DataFolder(data):
            if used:
                aside = _move_aside(data)
        if data.is_dir():
            for name in PASSING:
                remove(data / name)
            remove_folder(data)
        replace(fresh, data)
    except BaseException:
        remove_tree(fresh, tolerant=True)
        raise
    sync_folder(data.parent)
    return manifest, aside


def _move_aside(data: Path) -> Path:
    aside = data.with_name(f"{data.name}-before-{time.strftime('%Y%m%d-%H%M%S')}")
    if os.name == "nt":
        # There a folder with an open file in it, as the lock is, cannot be renamed.
        make_folder(aside)
        for path in data.iterdir():
            if path.name != LOCK:
                replace(path, aside / path.name)
    else:
        replace(data, aside)
    return aside
