"""The codes of the archive, of snapshots and of the disk."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.health.codes.code import Code

_WHAT_TO_DO = (
    "Bring the missing archive files back ('archive bring-back', or from the folder archive of a backup) and start "
    "again. If they are lost for good, start once with --accept-gap: the figures and texts then go on without these "
    "events."
)

ARCHIVE: Mapping[str, Code] = MappingProxyType(
    {
        "archive.missing": Code(
            "warning",
            "archive",
            "No archive file with the {numbers} is there, and none was moved by this program. What students see and "
            "their figures are kept, but cannot be computed again. Copy the file from the folder archive of a backup, "
            "which is a tar file, or from where it was moved.",
            label="archive",
        ),
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
        "archive.gap": Code(
            "error",
            "archive",
            "The archive lacks {count:event|events} of one student ({where}{reason:?; }). The student's figures and "
            "texts are shown as they were before; newer work is archived, and not shown yet. All other students are "
            "shown as usual. " + _WHAT_TO_DO,
            of_student=True,
            label="archive, student {subject}",
        ),
        "archive.gap_more": Code(
            "error",
            "archive",
            "The archive also lacks {count:event|events} of {students:further student|further students}; the output of "
            "'replay' names them all. " + _WHAT_TO_DO,
            label="archive",
        ),
        "reducer.gap": Code(
            "error",
            "archive",
            "The archive lacks {count:event|events} of one student ({where}{reason:?; }), so figures of {reducers} "
            "could not be computed from it again. Those that are stored are kept and do not change; where there are "
            "none, none are shown. The student's other figures and all other students' are shown as usual. "
            + _WHAT_TO_DO,
            of_student=True,
        ),
        "reducer.gap_more": Code(
            "error",
            "archive",
            "The same is true of {students:further student|further students}, of whom the archive lacks "
            "{count:event|events}; the output of 'replay' names them all. " + _WHAT_TO_DO,
        ),
        "archive.gaps_accepted": Code(
            "info",
            "archive",
            "The archive lacks {count:event|events} of {students:student|students}. As --accept-gap says, their "
            "figures and texts go on without these events; this is kept for later starts.",
            label="archive",
        ),
        "archive.gaps_unsaved": Code(
            "warning",
            "archive",
            "That gaps of the archive are accepted could not be written to {subject}: {detail}. Start with "
            "--accept-gap again once the disk can be written.",
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
        "archive.retention_clock": Code(
            "warning",
            "archive",
            "The clock of this computer is {days:day|days} after the last time that the appliance ran. Check it: in a "
            "day, what is older than archive.retention_days by this clock is deleted.",
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
            "{count:line|lines} of the archive cannot be read, the first in {place}, so some work of students is "
            "missing. The log says where, and 'verify' lists all; restore the files from a backup.",
        ),
        "archive.checksum": Code(
            "warning",
            "archive",
            "{count:checksum is|checksums are} damaged in the archive, the first in {place}. The lines are whole and "
            "were used. Make a backup, and check the disk.",
        ),
        "archive.broken_link": Code(
            "error",
            "archive",
            "{place}: {detail}. Compare the archive with a backup.",
            label="archive",
        ),
        "archive.broken_links": Code(
            "error",
            "archive",
            "The chain of checksums is broken in {count:further place|further places}; 'verify' lists them.",
            label="archive",
        ),
        "archive.empty": Code(
            "warning",
            "archive",
            "Archive file {subject} is empty, so what it held is missing, if it ever held something. Restore it from "
            "a backup, or move it out of the archive.",
            label="archive",
        ),
        "archive.empty_linked": Code(
            "info",
            "archive",
            "Archive file {subject} is empty; the checksums before and after it show that nothing is missing. Move it "
            "out of the archive.",
            label="archive",
        ),
        "archive.twice": Code(
            "warning",
            "archive",
            "Archive files {subject} and {other} have the same number, and differ. Only {other} is read. Compare "
            "them, and move {subject} out of the archive.",
            label="archive",
        ),
        "archive.space": Code(
            "warning",
            "archive",
            "The disk of the data folder is nearly full: {free} are free, and the archive takes {used}. Once it is "
            "full, nothing can be saved. Free some space, or move older archive files to another disk: 'archive move "
            "--before DATE --to FOLDER'.",
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
