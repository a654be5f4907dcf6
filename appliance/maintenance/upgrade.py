"""Upgrade: brings a data folder to the present format before anything reads it, after a backup of how it was."""

from __future__ import annotations

import logging
import time

import msgspec

from appliance import __version__
from appliance.datafolder import BACKUPS, FORMAT, DataFolder, FormatFile, format_of
from appliance.datafolder.files import write_private
from appliance.errors import SettingsError
from appliance.maintenance import erase
from appliance.maintenance.backup import back_up

log = logging.getLogger(__name__)


def bring_up_to_date(folder: DataFolder) -> None:
    """Back up a folder of an earlier format and bring it to the present one; finish an erasing that was cut short.

    Raises:
        SettingsError: its format is later than this program, or the folder cannot be written.
        EraseError: the erasing cannot be finished.
    """
    path = folder.path
    found = format_of(path)
    try:
        erase.finish(path)
        if found == FORMAT:
            return
        if found:
            backup = path / BACKUPS / f"format-{found}-{time.strftime('%Y%m%d-%H%M%S')}.tar"
            backup.parent.mkdir(exist_ok=True)
            back_up(path, backup)
            log.info("The data folder has format %d; it was backed up to %s before it is changed.", found, backup)
        # From 1 to 2 nothing is rewritten: segments are compressed and snapshots written in passing.
        write_private(path / "format.json", msgspec.json.encode(FormatFile(FORMAT, __version__)) + b"\n")
    except OSError as error:
        raise SettingsError(f"The data folder {path} cannot be written: {error.strerror}.") from error
