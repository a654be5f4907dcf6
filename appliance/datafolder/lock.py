"""The lock of a data folder: one program at a time.

The system locks the file ``lock``, and releases it when the program ends, however it does. A file system without locks
gets a holder file instead, ``lock-holder.json``, which its program changes every few seconds: a second one sees that it
changes. That is weaker: two computers that start within one heartbeat may both run, and then notice each other.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from appliance.datafolder import files, notes
from appliance.datafolder.disk import FILE_MODE
from appliance.datafolder.ownership import adopt
from appliance.errors import DataFolderInUseError, SettingsError

log = logging.getLogger(__name__)

LOCK = "lock"
HOLDER = "lock-holder.json"
HEARTBEAT_SECONDS = 2.0
PATIENCE = 2.5
"""A holder whose file has not changed for so many heartbeats has ended."""

_HELD = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK, getattr(errno, "EDEADLOCK", 0)})
"""Errors that say that another program holds the lock; Windows has the last two."""
_ours: set[Path] = set()


class Holder(msgspec.Struct, frozen=True):
    """``lock-holder.json``.

    Attributes:
        pid: the process.
        host: its computer.
        run: drawn at each start.
        beat: goes up with each heartbeat.
    """

    pid: int
    host: str
    run: str
    beat: int = 0


class FolderLock:
    """Holds the lock of a folder until `release`."""

    def __init__(self, folder: Path) -> None:
        """Lock the folder, which is there.

        Raises:
            SettingsError: the folder cannot be written, or not be locked.
            DataFolderInUseError: another program holds it; the text names the process.
        """
        self._folder = folder
        self._heart: _Heart | None = None
        try:
            self._handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, FILE_MODE)
        except OSError as error:
            raise SettingsError(
                f"The data folder {folder} cannot be written: {error.strerror}. Choose another --data-dir."
            ) from error
        try:
            files.disk.lock(self._handle)
        except OSError as error:
            # Windows gives other errors, too, and its file systems have locks.
            if error.errno in _HELD or sys.platform == "win32":
                holder = _pid_in(self._handle)
                os.close(self._handle)
                raise _in_use(folder, holder) from None
            try:
                self._hold_without_lock(error)
            except BaseException:
                os.close(self._handle)
                raise
        else:
            # What was found out in an earlier use of the folder may have been mended since.
            notes.forget(folder)
        # The process id is only for people, so a full disk must not prevent the start. The first byte is what Windows
        # locks; others can read the rest.
        with suppress(OSError):
            os.ftruncate(self._handle, 0)
            os.write(self._handle, f" {os.getpid()}\n".encode())
        adopt(folder / LOCK, folder)

    def release(self) -> None:
        """Release the lock."""
        if self._heart is not None:
            self._heart.stop()
        os.close(self._handle)

    def _hold_without_lock(self, error: OSError) -> None:
        reason = error.strerror or type(error).__name__
        try:
            self._heart = _Heart(self._folder)
        except OSError as failed:
            raise SettingsError(
                f"The data folder {self._folder} is on a file system without locks ({reason}), and {HOLDER} in it "
                f"cannot be written: {failed.strerror}. Choose another --data-dir."
            ) from failed
        notes.forget(self._folder)
        notes.note("datafolder.no_lock", self._folder, detail=reason)


class _Heart:
    """The holder file of this program, and the thread that changes it."""

    def __init__(self, folder: Path) -> None:
        """Raises:
        DataFolderInUseError: another program holds the folder.
        OSError: the file cannot be written.
        """
        self._path = folder.absolute() / HOLDER
        self._holder = Holder(os.getpid(), socket.gethostname(), secrets.token_hex(8))
        if self._path in _ours:
            raise _in_use(folder, str(os.getpid()))
        before = _read(self._path)
        if before is not None and _lives(self._path, before):
            raise _in_use(folder, f"{before.pid} on {before.host}")
        self._write()
        # Of two that start at the same time, the later one has overwritten the file by now.
        time.sleep(HEARTBEAT_SECONDS / 4)
        if (now := _read(self._path)) is not None and now.run != self._holder.run:
            raise _in_use(folder, f"{now.pid} on {now.host}")
        _ours.add(self._path)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lock of the data folder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        _ours.discard(self._path)
        found = _read(self._path)
        if found is None or found.run == self._holder.run:
            try:
                files.remove(self._path)
            except OSError as error:
                log.warning("%s cannot be removed: %s.", self._path, error.strerror)

    def _run(self) -> None:
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            found = _read(self._path)
            if found is not None and found.run != self._holder.run:
                notes.note("datafolder.second_program", self._path.parent, holder=f"{found.pid} on {found.host}")
            self._holder = msgspec.structs.replace(self._holder, beat=self._holder.beat + 1)
            try:
                self._write()
            except OSError as error:
                log.warning("%s cannot be written: %s.", self._path, error.strerror)

    def _write(self) -> None:
        files.write_private(self._path, msgspec.json.encode(self._holder))


def _read(path: Path) -> Holder | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Holder)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _lives(path: Path, holder: Holder) -> bool:
    """Whether a holder runs; one on another computer, or whose process is there, is observed for some heartbeats."""
    if holder.host == socket.gethostname() and not _is_process(holder.pid):
        return False
    end = time.monotonic() + PATIENCE * HEARTBEAT_SECONDS
    while time.monotonic() < end:
        time.sleep(HEARTBEAT_SECONDS / 10)
        now = _read(path)
        if now is None:
            return False
        if now != holder:
            return True
    return False


def _is_process(pid: int) -> bool:
    if os.name == "nt":
        # There `os.kill` would end it.
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _in_use(folder: Path, holder: str) -> DataFolderInUseError:
    return DataFolderInUseError(
        f"Another appliance{holder and f' (process {holder})'} uses the data folder {folder}. End it first, or "
        "choose another --data-dir."
    )


def _pid_in(handle: int) -> str:
    """The id of the process that holds the lock, which it wrote into the file; "" if it did not."""
    try:
        os.lseek(handle, 1, os.SEEK_SET)
        found = os.read(handle, 32).decode("ascii", "replace").strip()
    except OSError:
        return ""
    return found if found.isdecimal() else ""
