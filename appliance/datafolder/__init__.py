"""The data folder: one appliance at a time, and the format of its files.

``format.json`` has the format. A folder of an earlier format is backed up before it is brought to the present one, and
one of a later format is refused.

======  =====================================================================================================
format  what is there
======  =====================================================================================================
1       ``archive/`` with plain segments, ``roster/``, ``credentials.json``; no ``format.json``
2       closed segments are compressed; beside them ``snapshots/``, ``classes.json`` and ``format.json``
3       commit groups of the archive have a chain of checksums; segments of earlier formats stay as they are
======  =====================================================================================================
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import TracebackType

import msgspec

from appliance import __version__
from appliance.datafolder import exchange
from appliance.datafolder.files import make_folder
from appliance.datafolder.ownership import adopt
from appliance.errors import DataFolderInUseError, SettingsError

FORMAT = 3
FORMAT_FILE = "format.json"
BACKUPS = "backups"
LOCK = "lock"
WORKERS = "workers"
"""The folder of the data folders of workers (`appliance.program.workers`)."""
INSTANCE = "instance.json"
READY = "ready.json"
"""The ready file of a worker."""
# Files of the program that runs, not of the data.
PASSING = (LOCK, INSTANCE)


class FormatFile(msgspec.Struct, frozen=True):
    """``format.json``: the format, and the version of the program that wrote it."""

    format: int
    program: str


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
            self._lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SettingsError(
                f"The data folder {path} cannot be written: {error.strerror}. Choose another --data-dir."
            ) from error
        try:
            _lock(self._lock)
        except OSError:
            holder = _holder(self._lock)
            os.close(self._lock)
            raise DataFolderInUseError(
                f"Another appliance{holder and f' (process {holder})'} uses the data folder {path}. End it first, or "
                "choose another --data-dir."
            ) from None
        # The process id is only for people, so a full disk must not prevent the start. The first byte is what Windows
        # locks; others can read the rest.
        with contextlib.suppress(OSError):
            os.ftruncate(self._lock, 0)
            os.write(self._lock, f" {os.getpid()}\n".encode())
        adopt(path / LOCK, path)
        try:
            exchange.finish(path, PASSING)
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, OSError):
                raise SettingsError(
                    f"A restore of the data folder {path} was cut short, and cannot be finished: {error.strerror}. "
                    "Check the disk and its permissions, then try again."
                ) from error
            raise

    def __enter__(self) -> DataFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._lock)


def format_of(path: Path) -> int:
    """The format of a data folder; 0 where there is no data yet.

    Raises:
        SettingsError: ``format.json`` cannot be read, or names a later format.
    """
    file = path / FORMAT_FILE
    try:
        found = msgspec.json.decode(file.read_bytes(), type=FormatFile)
    except FileNotFoundError:
        return 1 if (path / "archive").is_dir() or (path / "credentials.json").exists() else 0
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}.") from error
    except msgspec.DecodeError:
        raise SettingsError(f'{file} is damaged. It should say {{"format":{FORMAT},"program":"..."}}.') from None
    if found.format > FORMAT:
        raise SettingsError(
            f"The data folder {path} was written by version {found.program}, in a format that this version "
            f"({__version__}) does not know. Install the newer version again, or restore a backup."
        )
    return found.format


def _holder(handle: int) -> str:
    """The id of the process that holds the lock, which it wrote into the file; "" if it did not."""
    try:
        os.lseek(handle, 1, os.SEEK_SET)
        found = os.read(handle, 32).decode("ascii", "replace").strip()
    except OSError:
        return ""
    return found if found.isdecimal() else ""


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
