"""The codes of the archive, of snapshots and of the disk."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.health.codes.code import Code

ARCHIVE: Mapping[str, Code] = MappingProxyType(
    {
        "archive.torn": Code(
            "info",
            "archive",
            "Archive file {subject}: {detail}. It was never acknowledged, so nothing is lost; students' pages send it "
            "again.",
        ),
        "archive.folder": Code(
            "warning",
            "archive",
            "{subject} in the archive is a folder, not a file. Its content is not read; move it out of the archive.",
            label="archive",
        ),
        "archive.moved": Code(
            "info",
            "archive",
            "Moved to {subject}: {segments:segment|segments} of the archive ({days}, {events:event|events}). "
            "'archive bring-back' puts them back.",
            label="archive",
        ),
        "archive.deleted": Code(
            "info",
            "archive",
            "Deleted for their age, as archive.retention_days says: {segments:segment|segments} of the archive "
            "({days}, {events:event|events}).",
            label="archive",
        ),
        "archive.double": Code(
            "warning",
            "archive",
            "{subject} is a second form of {counts}, with less or other text, and is not read. Move it out of the "
            "archive.",
            label="archive",
        ),
        "archive.changed": Code(
            "error",
            "archive",
            "{subject} is not as it was written: its checksum is not the one in its index. Restore it from a backup.",
            label="archive",
        ),
        "archive.index_damaged": Code(
            "warning",
            "archive",
            "{subject} cannot be used: {detail}. Nothing is lost: the appliance builds it again.",
            label="archive",
        ),
        "archive.marker": Code(
            "warning",
            "archive",
            "{subject} cannot be read: {detail}. Which segments were moved, deleted or rewritten may not be known "
            "completely; restore the file from a backup.",
            label="archive",
        ),
        "archive.unreadable": Code(
            "error",
            "archive",
            "{count:line|lines} of the archive cannot be read, so some work of students is missing. The log says "
            "where, and 'verify' lists all; restore the files from a backup.",
        ),
        "archive.space": Code(
            "warning",
            "archive",
            "The disk of the data folder is nearly full: {free} are free, and the archive takes {used}. Once it is "
            "full, nothing can be saved. Free some space, or move older archive files elsewhere after a backup.",
        ),
        "snapshot.unusable": Code(
            "warning",
            "archive",
            "The snapshot {subject} cannot be used: {detail}. An older one, or the whole archive, is read instead, so "
            "nothing is lost. Check the disk.",
            label="snapshot {subject}",
        ),
        "classes.unusable": Code(
            "warning",
            "archive",
            "{subject} cannot be used: {detail}. A class that was paused may be open; pause it again.",
        ),
    }
)
