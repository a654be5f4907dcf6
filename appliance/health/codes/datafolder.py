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
        "datafolder.filesystem": Code(
            "ok", "archive", "file system of the data folder ({kind}, {free} free; it can {can})"
        ),
        "datafolder.no_rename": Code(
            "error",
            "archive",
            "The file system of the data folder cannot replace a file in one step ({detail}), so nothing can be saved "
            "safely. Choose another data folder.",
            label="data folder",
        ),
        "datafolder.not_private": Code(
            "warning",
            "archive",
            "The file system of the data folder does not keep files from other users of this computer ({detail}). "
            "Choose a data folder on another disk, or let nobody else use this computer and its disk.",
            label="data folder",
        ),
        "datafolder.synced": Code(
            "warning",
            "archive",
            "The data folder is in a folder that {service} syncs. That copies students' work elsewhere, holds files "
            "open, and makes conflict copies. Move the data folder out of it: stop the program, move the folder, and "
            "start with --data-dir.",
            label="data folder",
        ),
        "datafolder.network": Code(
            "warning",
            "archive",
            "The data folder is on a share of another computer ({kind}). If the connection is lost nothing is saved, "
            "and locks and syncs are less sure. Choose a data folder on a disk of this computer.",
            label="data folder",
        ),
        "datafolder.no_lock": Code(
            "warning",
            "archive",
            "The file system of the data folder has no locks ({detail}), so two programs that use it at the "
            "same time are noticed late. Start the program on one computer only, or choose a data folder on a disk "
            "of this computer.",
            label="data folder",
        ),
        "datafolder.second_program": Code(
            "critical",
            "program",
            "Another program (process {holder}) uses the same data folder. Stop one of them now: they overwrite each "
            "other's files.",
        ),
        "datafolder.restored": Code(
            "warning",
            "archive",
            "{subject} was damaged, and was restored from its copy, so nothing is lost. Check the disk.",
            label="{subject}",
        ),
        "datafolder.copy_damaged": Code(
            "warning",
            "archive",
            "{subject}, a copy, was damaged, and is written anew, so nothing is lost. Check the disk.",
            label="{subject}",
        ),
        "datafolder.lost": Code(
            "error",
            "archive",
            "{subject} was damaged and cannot be used; what it held is found out or chosen anew. Check the disk.",
            label="{subject}",
        ),
        "datafolder.credentials_lost": Code(
            "error",
            "archive",
            "{subject} was damaged, so there are new credentials: teachers sign in again, with the new token.",
            label="{subject}",
        ),
        "datafolder.erasing_lost": Code(
            "error",
            "archive",
            "{subject} was damaged, so an erasing of a student was not finished. Erase the student again.",
            label="{subject}",
        ),
    }
)
