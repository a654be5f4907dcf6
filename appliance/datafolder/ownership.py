"""Owners of files: what root writes into the data folder of a service belongs to the service's user.

A command that an administrator runs as root replaces files and makes new ones; the service, which is another user, must
be able to read and to change them afterwards. A file that replaces another one takes its owner and group, a new one
those of its folder. Where a file system has no owners, as FAT, nothing is changed.
"""

from __future__ import annotations

import os
from pathlib import Path


def adopt(path: Path, folder: Path, replaced: Path | None = None) -> None:
    """Give a new file the owner and the group of the file that it replaces, or else of its folder. Never raises.

    Args:
        path: the file; a link is not followed.
        folder: the folder that it is in.
        replaced: the file whose place it will take, if there is one.
    """
    if os.name != "posix":
        return
    try:
        have, wanted = path.lstat(), _owner(folder, replaced)
        uid = wanted.st_uid if os.geteuid() == 0 else have.st_uid
        # A user gives a new file to no other group, but leaves a file that is replaced in its own.
        gid = wanted.st_gid if os.geteuid() == 0 or replaced is not None else have.st_gid
        if (uid, gid) != (have.st_uid, have.st_gid):
            os.chown(path, uid, gid, follow_symlinks=False)
    except OSError:
        # The file system has no owners, or the user is not in the group: the file keeps what it has.
        return


def _owner(folder: Path, replaced: Path | None) -> os.stat_result:
    if replaced is not None:
        try:
            return replaced.lstat()
        except FileNotFoundError:
            pass
    return folder.stat()
