"""The calls to the system that change files, and the errors that say that a file system cannot do something."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

FILE_MODE = 0o600
FOLDER_MODE = 0o700

NO_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""Errors of fsync that say that the file system has no such thing, as on some network and WSL mounts. Others, such as
EIO, say that what was written may be lost."""
NO_FOLDER_SYNC = NO_SYNC | {errno.EBADF, errno.EPERM, errno.EACCES, errno.EISDIR}
"""Likewise for a folder, which some systems do not open or sync."""
NO_MODE = NO_SYNC | {errno.EPERM, errno.EACCES, errno.EROFS}
"""Errors of chmod that say that the file system has no modes, or that the file is another user's."""

_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


_ADVICE = {
    errno.ENOSPC: "free some space on that disk",
    errno.EDQUOT: "free some space, or have your quota raised",
    errno.EROFS: "the disk is mounted read-only: mount it for writing, or choose another folder",
    errno.EIO: "the disk or the connection to it fails: check it, and choose another folder",
    errno.ENAMETOOLONG: "choose a folder with a shorter name",
    errno.ENOTDIR: "a file is where a folder should be: choose another folder",
}


def is_of_disk(error: OSError) -> bool:
    """Whether an error is one of a disk or of permissions, and no mistake of the program."""
    return error.errno in {*_ADVICE, errno.EACCES, errno.EPERM}


def advice(error: OSError) -> str:
    """What to do about an error of writing, in words that end a sentence."""
    return _ADVICE.get(error.errno or 0, "change its permissions or choose another folder")


class Disk:
    """The calls to the system that change files. A test puts another object at `files.disk`."""

    def open(self, path: Path, flags: int, mode: int = FILE_MODE) -> int:
        """Open a file for writing; returns its handle. The mode is that of a new file."""
        return os.open(path, flags | _BINARY, mode)

    def write(self, handle: int, content: bytes | memoryview) -> int:
        """Write to an open file; returns how many bytes the system took."""
        return os.write(handle, content)

    def fsync(self, handle: int) -> None:
        """Make an open file durable."""
        if sys.platform == "darwin":
            import fcntl

            # There fsync leaves the content in the drive's own memory; see the manual page fsync(2) of macOS.
            try:
                fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
            except OSError as error:
                if error.errno not in NO_SYNC | {errno.ENOTTY}:
                    raise
            else:
                return
        os.fsync(handle)

    def truncate(self, handle: int, size: int) -> None:
        """Cut an open file off."""
        os.ftruncate(handle, size)

    def close(self, handle: int) -> None:
        """Close a file."""
        os.close(handle)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file or a folder; a file replaces one that has the new name."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def mkdir(self, path: Path, mode: int = FOLDER_MODE) -> None:
        """Make a folder, whose parent is there."""
        path.mkdir(mode)

    def rmdir(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()

    def chmod(self, path: Path, mode: int) -> None:
        """Set the mode of a file or a folder."""
        path.chmod(mode)

    def lock(self, handle: int) -> None:
        """Lock an open file for this process alone; the system unlocks it when the file is closed."""
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def sync_folder(self, path: Path) -> None:
        """Make the entries of a folder durable."""
        handle = os.open(path, os.O_RDONLY)
        try:
            self.fsync(handle)
        finally:
            os.close(handle)
