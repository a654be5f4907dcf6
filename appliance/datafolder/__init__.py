"""The data folder: one appliance at a time, and the format of its files.

``format.json`` has the format. A folder of an earlier format is backed up before it is brought to the present one, and
one of a later format is refused.

======  ==========================================================================================================
format  what is there
======  ==========================================================================================================
1       ``archive/`` with plain segments, ``roster/``, ``credentials.json``; no ``format.json``
2       closed segments are compressed; beside them ``snapshots/``, ``classes.json`` and ``format.json``
3       commit groups of the archive are chained (`appliance.archive.chain`); small files have checksums and copies
4       the roster is in ``roster/roster.sqlite``; before, in ``roster/roster.jsonl`` and the lists beside it
======  ==========================================================================================================
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from appliance.datafolder import exchange
from appliance.datafolder.files import make_folder, sync_folder
from appliance.datafolder.format_file import FORMAT, FORMAT_FILE, FormatFile, format_of
from appliance.datafolder.lock import HOLDER, LOCK, FolderLock
from appliance.errors import SettingsError

__all__ = [
    "BACKUPS",
    "FORMAT",
    "FORMAT_FILE",
    "INSTANCE",
    "LOCK",
    "PASSING",
    "READY",
    "WORKERS",
    "DataFolder",
    "FormatFile",
    "format_of",
]

BACKUPS = "backups"
WORKERS = "workers"
"""The folder of the data folders of workers (`appliance.program.workers`)."""
INSTANCE = "instance.json"
READY = "ready.json"
"""The ready file of a worker."""
# Files of the program that runs, not of the data.
PASSING = (LOCK, HOLDER, INSTANCE)


class DataFolder:
    """Holds the lock of a data folder while an appliance, or a command that changes the folder, uses it."""

    def __init__(self, path: Path) -> None:
        """Lock the folder; make it if it is not there.

        Raises:
            SettingsError: it cannot be written.
            DataFolderInUseError: another program holds it.
        """
        self.path = path
        try:
            make_folder(path)
        except OSError as error:
            raise SettingsError(
                f"The data folder {path} cannot be written: {error.strerror}. Choose another --data-dir."
            ) from error
        self._lock = FolderLock(path)
        try:
            # An earlier program may have been killed before the names of its files were durable.
            sync_folder(path)
        except BaseException as error:
            self._lock.release()
            if isinstance(error, OSError):
                raise SettingsError(
                    f"The data folder {path} cannot be written: {error.strerror}. Check the disk, then try again."
                ) from error
            raise
        try:
            exchange.finish(path, PASSING)
        except BaseException as error:
            self._lock.release()
            if isinstance(error, OSError):
                raise SettingsError(
                    f"A restore of the data folder {path} was cut short, and cannot be finished: {error.strerror}. "
                    "Check the disk and its permissions, then try again."
                ) from error
            raise

    def __enter__(self) -> DataFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.release()
