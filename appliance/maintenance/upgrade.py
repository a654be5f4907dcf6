"""Upgrade: brings a data folder to the present format before anything reads it, after a backup of the old state."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from appliance.datafolder import BACKUPS, FORMAT, DataFolder, format_of, notes
from appliance.datafolder.files import make_folder, remove, replace, write_private
from appliance.datafolder.filesystem import note_place
from appliance.datafolder.format_file import write_format
from appliance.datafolder.private import make_folder_private
from appliance.datafolder.small_file import copy_path
from appliance.errors import BackendError, SettingsError
from appliance.maintenance import erase
from appliance.maintenance.all_files import ERASING, ROSTER, SIGNED_OUT
from appliance.maintenance.backup import back_up
from appliance.roster import RosterLimits
from appliance.roster.earlier_journal import JOURNAL, move_journal
from appliance.roster.sqlite_file import FILE

log = logging.getLogger(__name__)

Step = Callable[[Path], None]
"""Rewrites a data folder of one format into the next. A step that was cut short is done again from its beginning."""


def _move_roster(path: Path) -> None:
    """From 3 to 4: the rows of ``roster/roster.jsonl`` move to ``roster/roster.sqlite``.

    Sessions are there too, from now on, so the list of those that had ended is removed; earlier ones are not valid.
    """
    folder = path / ROSTER
    if folder.is_dir():
        move_journal(folder, folder / FILE, RosterLimits())
    for ended in (path / SIGNED_OUT, copy_path(path / SIGNED_OUT)):
        remove(ended)


STEPS: Mapping[int, Step] = MappingProxyType({3: _move_roster})
"""The steps by the format that they start from. Up to 3 nothing is rewritten: segments and small files of each format
are read; the running program compresses segments, writes snapshots, begins the chain of checksums in its first segment,
and gives a small file its checksum when it writes it."""


def bring_up_to_date(folder: DataFolder, steps: Mapping[int, Step] = STEPS, *, lists: Path | None = None) -> None:
    """Back up a folder of an earlier format and bring it to the present one; finish an erasing that was cut short.

    An erasing that cannot be finished is noted, and does not keep a class from working.

    Args:
        folder: the folder.
        steps: see `STEPS`.
        lists: the folder of the lists, where an earlier format has the roster's journal, if it is elsewhere.

    Raises:
        SettingsError: its format is later than this program, or the folder cannot be written.
    """
    path = folder.path
    found = format_of(path)
    _finish_erasing(path)
    note_place(path)
    make_folder_private(path)
    try:
        if found == FORMAT:
            return
        if found and lists is not None:
            _fetch_journal(lists, path / ROSTER)
        if found:
            backup = _new_backup(path / BACKUPS, found)
            back_up(path, backup)
            log.info("The data folder has format %d; it was backed up to %s before it is changed.", found, backup)
            for number in range(found, FORMAT):
                if number in steps:
                    steps[number](path)
        write_format(path)
    except OSError as error:
        raise SettingsError(f"The data folder {path} cannot be written: {error.strerror}.") from error
    except BackendError as error:
        raise SettingsError(f"The data folder {path} cannot be brought to the present format. {error}") from error


def _fetch_journal(lists: Path, roster: Path) -> None:
    """Bring the journal of a roster that is elsewhere to the data folder, so that its backup has it.

    Raises:
        OSError: it cannot be read or written.
    """
    journal, here = lists / JOURNAL, roster / JOURNAL
    if lists.resolve() == roster.resolve() or not journal.is_file():
        return
    make_folder(roster)
    if here.exists():
        # Both were a roster once; the one in use is that of the lists.
        replace(here, here.with_name(f"earlier-{JOURNAL}"))
    write_private(here, journal.read_bytes())
    remove(journal)


def _finish_erasing(path: Path) -> None:
    try:
        erase.finish(path)
    except (erase.EraseError, OSError) as error:
        reason = str(error) if isinstance(error, erase.EraseError) else error.strerror or type(error).__name__
        log.error("An erasing of a student that was interrupted cannot be finished: %s", reason)
        notes.note("erase.not_finished", path / ERASING, detail=reason)


def _new_backup(folder: Path, number: int) -> Path:
    """A name that no backup has: one from before a step that failed is the only one that is as it was."""
    make_folder(folder)
    name = f"format-{number}-{time.strftime('%Y%m%d-%H%M%S')}"
    taken = len(list(folder.glob(f"{name}*.tar")))
    return folder / (f"{name}-{taken + 1}.tar" if taken else f"{name}.tar")
