"""The codes of the data folder: what its file system cannot do, who else can read it, and damage to small files."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.health.codes.code import Code

DATAFOLDER: Mapping[str, Code] = MappingProxyType(
    {
        "datafolder.no_sync": Code(
            "warning",
            "archive",
            "The file system of the data folder cannot say when something is on the disk ({detail}). After a power cut "
            "work that students' pages no longer keep may be missing. Choose a data folder on a disk of this computer.",
            label="data folder",
        ),
        "datafolder.no_folder_sync": Code(
            "warning",
            "archive",
            "The file system of the data folder cannot say when a new file is on the disk ({detail}). After a power "
            "cut a file of the last minute may be missing. Choose a data folder on a disk of this computer.",
            label="data folder",
        ),
        "datafolder.sync_failed": Code(
            "warning",
            "archive",
            "The disk of the data folder failed to write ({detail}). What it may have lost was written again, to a new "
            "file. Check the disk and its cable, and make a backup to another disk.",
            label="data folder",
        ),
    }
)
