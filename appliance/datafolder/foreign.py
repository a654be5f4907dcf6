"""What desktops and network file systems leave in folders. No reader of the program uses these files."""

from __future__ import annotations

import re
from pathlib import Path

_OF_DESKTOPS = re.compile(
    r"\._.*|\.DS_Store|\.localized|Icon\r|[Dd]esktop\.ini|[Tt]humbs\.db|ehthumbs\.db|\.directory|\.stfolder|\.stignore"
    r"|\.dropbox|\.dropbox\.attr|\.~lock\..*#|~\$.*|\.sync_.*\.db.*|\._sync_.*\.db.*|\.nfs[0-9a-f]+|\.fuse_hidden[0-9a-f]+"
)


def is_of_desktop(path: Path) -> bool:
    """Whether a file is one that a desktop or a network file system left, such as ``._NAME`` and ``Thumbs.db``."""
    return _OF_DESKTOPS.fullmatch(path.name) is not None
