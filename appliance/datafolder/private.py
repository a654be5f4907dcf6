"""Privacy: a data folder belongs to one user of the computer, and nobody else reads it.

Files have the mode 0600 and folders 0700, whatever the umask is; on Windows the folder's access list names the user and
the system alone. Earlier versions were not that strict, so a start mends what it finds. The folder itself comes first:
without it nobody reaches what is inside, so a walk that ends early is no breach. Where only its group, and no other
user, may enter the folder, somebody has chosen that: its own mode stays, and the group sees names but no content.
"""

from __future__ import annotations

import getpass
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from appliance.datafolder import files, notes

log = logging.getLogger(__name__)

MOST_ENTRIES = 100_000
"""A start examines at most this number of files and folders."""
_ICACLS_SECONDS = 20
_SYSTEM = "*S-1-5-18"
"""LocalSystem, by its well-known SID: https://learn.microsoft.com/windows/win32/secauthz/well-known-sids."""


def make_folder_private(folder: Path) -> int:
    """Give a data folder and all that is in it to its user alone. Notes where the file system refuses.

    Returns:
        How many files and folders were readable by others.
    """
    if sys.platform == "win32":
        if not _restrict_on_windows(folder):
            notes.note("datafolder.not_private", folder, detail="its access list cannot be changed")
        return 0
    mended = 0
    for path, mode in _open_to_others(folder):
        try:
            private = files.make_private(path)
        except OSError as error:
            log.warning("%s cannot be made private: %s.", path, error.strerror)
            private = False
        if private:
            mended += 1
            continue
        notes.note("datafolder.not_private", folder, detail=f"the mode stays {mode:03o}")
        if path == folder:
            # A file system without modes: what is inside is the same.
            break
    if mended:
        log.info("Other users of this computer could read %d files and folders of %s; now they cannot.", mended, folder)
    return mended


def _open_to_others(folder: Path) -> Iterator[tuple[Path, int]]:
    """What others than the owner can read or write, the folder first; links are not followed."""
    for number, path in enumerate(_entries(folder)):
        if number >= MOST_ENTRIES:
            return
        try:
            mode = path.lstat().st_mode
        except OSError:
            continue
        if path == folder and not mode & 0o007:
            continue
        if mode & 0o077 and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            yield path, stat.S_IMODE(mode)


def _entries(folder: Path) -> Iterator[Path]:
    yield folder
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            yield Path(parent, name)


def icacls_words(folder: Path, user: str) -> list[str]:
    """The command that gives a folder, and what inherits from it, to a user and the system alone.

    Source: https://learn.microsoft.com/windows-server/administration/windows-commands/icacls.
    """
    rights = "(OI)(CI)F"
    return [
        *("icacls", str(folder), "/inheritance:r", "/grant:r", f"{user}:{rights}"),
        *("/grant:r", f"{_SYSTEM}:{rights}", "/q"),
    ]


def _restrict_on_windows(folder: Path) -> bool:
    domain = os.environ.get("USERDOMAIN", "")
    try:
        name = getpass.getuser()
        words = icacls_words(folder, f"{domain}\\{name}" if domain else name)
        # Without a console of its own, which would flash up.
        flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
        done = subprocess.run(words, capture_output=True, timeout=_ICACLS_SECONDS, check=False, creationflags=flags)
    except (OSError, KeyError, ImportError, subprocess.SubprocessError) as error:
        log.warning("The access list of %s cannot be changed: %s.", folder, type(error).__name__)
        return False
    return done.returncode == 0
