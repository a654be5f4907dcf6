"""Exchange of all content of a data folder, as a restore does it: a power cut leaves all of the old content or the new.

The folder itself stays, because it may be a mount point, and its owner and mode are an administrator's choice. New
content is prepared in a folder within it; the name of that folder is the journal, since renaming is one step:

====================  =================================================================================================
name                  a start or command that finds it
====================  =================================================================================================
``.restoring``        removes it: nothing was exchanged yet
``.exchange-out-T``   moves what is in the data folder to ``before-T``, then renames it to the next
``.exchange-in-T``    moves what is in it to the data folder, then removes it
====================  =================================================================================================

So an exchange that was cut short is finished by the next who holds the lock of the data folder. Where the old content
cannot be moved, as a mount within it, all of it returns to its place.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from appliance.datafolder import files
from appliance.datafolder.files import make_folder, remove_tree, replace, sync_folder
from appliance.errors import SettingsError

log = logging.getLogger(__name__)

BEFORE = "before-"
"""Begins the name of a folder with earlier content."""
PREPARED = ".restoring"
_OUT, _IN = ".exchange-out-", ".exchange-in-"
PATTERNS = (f"{PREPARED}/*", f"{_OUT}*/*", f"{_IN}*/*")
"""The files of an exchange that was cut short."""
# What a system keeps in the root of a disk; it belongs to no program's data.
_OF_THE_SYSTEM = frozenset(
    {
        "lost+found",
        "System Volume Information",
        "$RECYCLE.BIN",
        ".Trashes",
        ".Spotlight-V100",
        ".fseventsd",
        ".TemporaryItems",
        ".DS_Store",
        ".snapshot",
        ".snapshots",
    }
)
_ERRORS_OF_MOUNTS = (errno.EBUSY, errno.EXDEV)


class ExchangeError(SettingsError):
    """The content cannot be exchanged; the old one is in its place, or the text says what is left to do."""


def content(data: Path, staying: Iterable[str]) -> list[Path]:
    """What an exchange replaces: all entries but those of the system, earlier content, and those that stay.

    Args:
        data: the data folder.
        staying: names of the entries that belong to the program that runs.
    """
    kept = _OF_THE_SYSTEM.union(staying)
    return sorted(
        path
        for path in data.iterdir()
        if path.name not in kept and not path.name.startswith((BEFORE, PREPARED, _OUT, _IN))
    )


def is_unfinished(data: Path) -> bool:
    """Whether an exchange was cut short after its beginning, or is being done."""
    return any(path.name.startswith((_OUT, _IN)) for path in data.iterdir())


def earlier(data: Path) -> list[Path]:
    """The folders with earlier content in a data folder."""
    return sorted(path for path in data.glob(f"{BEFORE}*") if path.is_dir() and not path.is_symlink())


@contextmanager
def prepared(data: Path) -> Iterator[Path]:
    """An empty folder for new content; removed at the end unless it was exchanged. The caller holds the data folder."""
    folder = data / PREPARED
    _discard(folder)
    make_folder(folder)
    try:
        yield folder
    finally:
        _discard(folder)


def exchange(data: Path, staying: Iterable[str]) -> Path | None:
    """Replace the content of a data folder by that of its folder `PREPARED`. The caller holds the data folder.

    Args:
        data: the data folder.
        staying: as for `content`.

    Returns:
        The folder with the earlier content; None if there was none.

    Raises:
        ExchangeError: the old content cannot be moved; it is in its place.
        OSError: the folder cannot be written; the next start or command finishes the exchange.
    """
    for parent, _, _ in os.walk(data / PREPARED, topdown=False):
        sync_folder(Path(parent))
    stamp = time.strftime("%Y%m%d-%H%M%S")
    while (data / f"{BEFORE}{stamp}").exists():
        stamp += "+"
    _rename(data / PREPARED, data / f"{_OUT}{stamp}")
    finish(data, staying)
    before = data / f"{BEFORE}{stamp}"
    return before if before.is_dir() else None


def finish(data: Path, staying: Iterable[str]) -> bool:
    """Finish an exchange that was cut short; returns whether there was one. The caller holds the data folder.

    Args:
        data: the data folder.
        staying: as for `content`.

    Raises:
        ExchangeError: the old content cannot be moved; it is in its place.
        OSError: the folder cannot be written.
    """
    found = [path for path in data.iterdir() if path.name.startswith((PREPARED, _OUT, _IN))]
    for path in found:
        if path.name.startswith(_OUT):
            stamp = path.name.removeprefix(_OUT)
            _move_out(data, path, data / f"{BEFORE}{stamp}", staying)
            _move_in(data, _rename(path, data / f"{_IN}{stamp}"))
        elif path.name.startswith(_IN):
            _move_in(data, path)
        else:
            _discard(path)
    return any(path.name != PREPARED for path in found)


def move_beside(before: Path) -> Path:
    """Move a folder with earlier content out of the data folder, to a place beside it; returns where it is then.

    It stays where it is if the data folder is a mount point, or the folder above it cannot be written.
    """
    data = before.parent
    # A mount point is the root of its file system: a name beside it is on another disk.
    beside = data.absolute().with_name(f"{data.absolute().name}-{before.name}")
    if beside.exists():
        return before
    try:
        replace(before, beside)
        sync_folder(beside.parent)
        sync_folder(data)
    except OSError:
        return beside if beside.exists() else before
    return beside


def _move_out(data: Path, journal: Path, before: Path, staying: Iterable[str]) -> None:
    """Move the old content aside, all of it or nothing."""
    old = content(data, staying)
    if not old and not before.exists():
        return
    make_folder(before)
    path = before
    try:
        for path in old:
            files.disk.rename(path, before / path.name)
    except OSError as error:
        for moved in before.iterdir():
            files.disk.rename(moved, data / moved.name)
        with suppress(OSError):
            files.disk.rmdir(before)
        _discard(_rename(journal, data / PREPARED))
        if error.errno in _ERRORS_OF_MOUNTS:
            raise ExchangeError(
                f"{path} is a mount of its own, or in use, and cannot be moved; nothing was changed. Unmount it first, "
                "or restore to another folder with --data-dir and copy the files."
            ) from None
        raise ExchangeError(f"{path} cannot be moved: {error.strerror}. Nothing was changed.") from None
    sync_folder(before)
    sync_folder(data)


def _move_in(data: Path, journal: Path) -> None:
    for path in sorted(journal.iterdir()):
        replace(path, data / path.name)
    sync_folder(data)
    sync_folder(journal)
    files.disk.rmdir(journal)
    sync_folder(data)
    log.info("The content of the data folder %s was exchanged.", data)


def _rename(source: Path, target: Path) -> Path:
    replace(source, target)
    sync_folder(target.parent)
    return target


def _discard(folder: Path) -> None:
    with suppress(OSError):
        remove_tree(folder)
