"""Files that other programs put into a data folder: conflict copies of synced folders, and what desktops leave.

No reader of the program uses them. A conflict copy holds what students wrote, so it is in backups, and erasing
reaches it; what desktops leave is neither.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

_DAY = r"\d{4}-\d{2}-\d{2}|\d{8}"
_CONFLICTS = (
    # Syncthing: NAME.sync-conflict-20261130-101112-ABCDEFG.EXT
    re.compile(r"(.+?)\.sync-conflict-\d{8}-\d{6}(?:-[A-Z0-9]+)?((?:\.[^.]+)*)"),
    # Dropbox, Nextcloud: NAME (Ada's conflicted copy 2026-11-30).EXT, in any language.
    re.compile(rf"(.+?) ?\((?=[^()]*(?:{_DAY}|[Cc]onfli|[Kk]onfli))[^()]+\)((?:\.[^.]+)*)"),
    # ownCloud: NAME_conflict-20261130-101112.EXT
    re.compile(r"(.+?)_conflict-\d{8}-\d{6}((?:\.[^.]+)*)"),
    # Google Drive, Windows, macOS: NAME (1).EXT, NAME - Copy.EXT, NAME copy 2.EXT; iCloud Drive: NAME 2.EXT
    re.compile(r"(.+?)(?: \(\d+\)| - Copy(?: \(\d+\))?| copy(?: \d+)?| \d{1,3})((?:\.[^.]+)*)"),
    # OneDrive: NAME-COMPUTER.EXT, NAME-COMPUTER-2.EXT. No name of the program's own files has a capital letter.
    re.compile(r"(.+?)-[A-Z][A-Za-z0-9-]{0,62}((?:\.[^.]+)*)"),
)
_OF_DESKTOPS = re.compile(
    r"\._.*|\.DS_Store|\.localized|Icon\r|[Dd]esktop\.ini|[Tt]humbs\.db|ehthumbs\.db|\.directory|\.stfolder|\.stignore"
    r"|\.dropbox|\.dropbox\.attr|\.~lock\..*#|~\$.*|\.sync_.*\.db.*|\._sync_.*\.db.*|\.nfs[0-9a-f]+|\.fuse_hidden[0-9a-f]+"
)


def conflict_copy_of(path: Path) -> str | None:
    """The name of the file of which a synced folder made this conflict copy; None for any other file.

    A name can look like one by chance: it is a conflict copy of ours where the program has a file of the result.
    """
    return _original(path.name)


@lru_cache(maxsize=4096)
def _original(name: str) -> str | None:
    """The original's name; kept, since each part of the program asks about each file."""
    for form in _CONFLICTS:
        if found := form.fullmatch(name):
            return found[1] + found[2]
    return None


def is_of_desktop(path: Path) -> bool:
    """Whether a file is one that a desktop or a network file system left, such as ``._NAME`` and ``Thumbs.db``."""
    return _OF_DESKTOPS.fullmatch(path.name) is not None
