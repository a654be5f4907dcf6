"""Conflict copies: what a program that synchronizes folders makes of a file that changed in two places.

=========================  ===============================================================
program                    name of the copy of ``roster.jsonl``
=========================  ===============================================================
Syncthing                  ``roster.sync-conflict-20261124-101112-ABCDEFG.jsonl``
OneDrive                   ``roster-LAPTOP.jsonl``, ``roster-LAPTOP-2.jsonl``
Dropbox, Nextcloud, Box    ``roster (Ann's conflicted copy 2026-11-24).jsonl``
Seafile                    ``roster (SFConflict ann 2026-11-24-10-11-12).jsonl``
Google Drive, iCloud       ``roster (1).jsonl``, ``roster 2.jsonl``
Windows                    ``roster - Copy.jsonl``, ``roster - Copy (2).jsonl``
ownCloud, older            ``roster_conflict-20261124-101112.jsonl``
=========================  ===============================================================

Of a name with two endings, as ``.jsonl.gz``, the mark may be before either. Nothing reads a copy; but it holds what
students wrote.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_MARK = re.compile(
    r"\.sync-conflict-\d{8}-\d{6}(-\w+)?"
    r"|-[a-z][\w-]+"
    r"|[ _]?\([^()]+\)"
    r"|[ _]\d{1,2}"
    r"| - \w+( \(\d+\))?"
    r"|_conflict-[\w-]+",
    re.IGNORECASE,
)


def conflict_copy_of(name: str, is_own: Callable[[str], bool]) -> str | None:
    """The name of the file of which a file with this name is a conflict copy; None if it is none.

    Args:
        name: the name.
        is_own: whether a name is one that the program gives.
    """
    if is_own(name):
        return None
    for end in (at for at in range(1, len(name) + 1) if at == len(name) or name[at] == "."):
        for start in reversed(range(1, end)):
            if name[start] in ".-_ (" and _MARK.fullmatch(name, start, end) and is_own(name[:start] + name[end:]):
                return name[:start] + name[end:]
    return None
