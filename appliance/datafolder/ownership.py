"""Owners of files: what root writes into the data folder of a service belongs to the service's user.

A command that an administrator runs as root replaces files and makes new ones; the service, which is another user, must
be able to read and to change them afterwards. A file that replaces another one takes its owner and group, a new one
those of its folder. Where a file system has no owners (FAT), or a server keeps them to itself (NFS), nothing is changed.
"""

from __future__ import annotations

import os
from pathlib import Path


def adopt(target: int | Path, folder: Path, replaced: Path | None = None) -> None:
    """Give a new file the owner and the group of the file that it replaces, or else of its folder. Never raises.

    Args:
        target: the file, as an open handle or by name; a link is not followed.
        folder: the folder that it is in.
        replaced: the file whose place it will take, if there is one.
    """
    if os.name != "posix":
        return
    try:
        wanted = _owner(folder, replaced)
        have = os.fstat(target) if isinstance(target, int) else target.lstat()
        uid = wanted.st_uid if os.geteuid() == 0 else -1
        if (have.st_gid, uid) in ((wanted.st_gid, -1), (wanted.st_gid, have.st_uid)):
            return
        if isinstance(target, int):
            os.fchown(target, uid, wanted.st_gid)
        else:
            os.chown(target, uid, wanted.st_gid, follow_symlinks=False)
    except OSError:
        # A user may not give a file to every group, and a file system may have no owners: it keeps what it has.
        return


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, for this user alone (mode 0700); each gets the owner of the folder above it.

    Raises:
        OSError: it cannot be made.
    """
    if path.is_dir():
        return
    if not path.parent.is_dir():
        make_folder(path.parent)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    adopt(path, path.parent)


def _owner(folder: Path, replaced: Path | None) -> os.stat_result:
    if replaced is not None:
        try:
            return replaced.lstat()
        except FileNotFoundError:
            pass
    return folder.stat()
