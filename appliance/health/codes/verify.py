"""The codes of the command `verify`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.health.codes.code import Code

_NOT_THE_ARCHIVES = (
    "The stored states differ from those of the archive, which has all events that they have. Stop the appliance, move "
    "the snapshots out of the data folder ({command}), and start it again: all states are then computed from the "
    "archive."
)
_KEEP = (
    "The stored states differ from those of the archive. Leave the snapshots where they are: they also hold states of "
    "students of whom the archive lacks events. Bring the missing archive files back first, then run 'verify' again."
)
_NOT_THE_STORES = (
    "They differ from those of the archives. Run 'verify ARCHIVE...' with the archives of all nodes, while nobody "
    "works; if they still differ, ask the administrator of the server."
)

VERIFY: Mapping[str, Code] = MappingProxyType(
    {
        "snapshot.read": Code("ok", "archive", "snapshot ({rows:row|rows})"),
        "archive.read": Code("ok", "archive", "archive ({segments:segment|segments}, {events:event|events})"),
        "archive.proved": Code(
            "ok", "archive", "archive, {subject} ({groups:commit|commits}, each with the right checksum)"
        ),
        "archive.unproved": Code(
            "ok", "archive", "archive, {subject} (of an earlier version or empty, without checksums)"
        ),
        "archive.disproved": Code(
            "error",
            "archive",
            "{groups:commit has|commits have} the right checksum, {places:place is|places are} damaged.",
            label="archive, {subject}",
        ),
        "archive.head": Code("ok", "archive", "archive, the head of its chain: {words} ({checksum})"),
        "archive.earlier_kept": Code(
            "ok",
            "archive",
            "the archive up to {file}, line {line} (received {received}) is as it was when its head was {words} "
            "({checksum})",
        ),
        "archive.earlier_since": Code(
            "info",
            "archive",
            "Since that head (from {first} on) this program itself moved, returned, deleted or rewrote files of the "
            "archive: {changes:line|lines} at the end of archive/markers.jsonl. Read them: what they name is not as it "
            "was.",
            label="archive, earlier head",
        ),
        "archive.earlier_unproved": Code(
            "info",
            "archive",
            "{segments:file|files} up to there have no checksums (versions before format 3), so that head says nothing "
            "of them.",
            label="archive, earlier head",
        ),
        "archive.earlier_unknown": Code(
            "error",
            "archive",
            "No commit has the head {head}. Compare the words with your note; if they are right, what was archived up "
            "to that day has changed, or this is another archive. Compare it with a backup of that day.",
            label="archive, earlier head",
        ),
        "archive.earlier_rewritten": Code(
            "error",
            "archive",
            "No commit has the head {head}. Compare the words with your note; if they are right, the commit was in a "
            "file that was moved, deleted or rewritten (archive/markers.jsonl names them), or what was archived up to "
            "that day has changed, or this is another archive. Bring moved files back ('archive bring-back'), or "
            "verify a backup of that day.",
            label="archive, earlier head",
        ),
        "archive.earlier_changed": Code(
            "error",
            "archive",
            "The commit that had the head {words} is known ({file}, line {line}), but what is before it has changed: "
            "{place}. Compare the archive with a backup of that day.",
            label="archive, earlier head",
        ),
        "archive.earlier_nothing": Code(
            "error",
            "archive",
            "{head} is the head of an archive in which no commit had a checksum yet, so it says nothing of its events.",
            label="archive, earlier head",
        ),
        "archive.head_unproved": Code(
            "error",
            "archive",
            "The chain of checksums is broken, so its last words ({words}) prove nothing of what is before the break.",
            label="archive",
        ),
        "archive.leftover": Code(
            "info",
            "archive",
            "{subject} has {count:line|lines} from byte {byte} on that a failed write left; the next file has them "
            "again, so they count once.",
            label="archive",
        ),
        "archive.added": Code(
            "error",
            "archive",
            "{subject} has {count:line|lines} from byte {byte} on that the next file neither continues nor repeats: "
            "they were added later, or a write failed and was given up. Compare the file with a backup.",
            label="archive",
        ),
        "archive.unfinished": Code(
            "info",
            "archive",
            "{subject} ends in {bytes:byte|bytes} of a commit without its end: it is being written, or the next start "
            "puts it aside. It was never acknowledged.",
            label="archive",
        ),
        "archive.damaged_line": Code(
            "error",
            "archive",
            "{file}, line {line} (byte {byte}): {detail}. Restore the file from a backup.",
            label="archive",
        ),
        "archive.damaged_more": Code(
            "error", "archive", "{count:further line|further lines} cannot be read.", label="archive"
        ),
        "archive.erased_again": Code(
            "error",
            "archive",
            "This student was erased while files of the archive were elsewhere. 'archive bring-back' has put them back "
            "with {count:event|events} of the student. Stop the appliance and run 'erase-student' with this id again. "
            "Leave the folder snapshots where it is until then: states that are computed from the archive have the "
            "student.",
            of_student=True,
            label="archive, student {subject}",
        ),
        "archive.erased_again_more": Code(
            "error",
            "archive",
            "The same is true of {students:further student|further students}. Erase the students that are named above, "
            "then run 'verify' again.",
            label="archive",
        ),
        "archive.erased_unknown": Code(
            "info",
            "archive",
            "A student was erased while {subject} was elsewhere, and 'archive bring-back' has put it back. If it has "
            "events of the student, a start computes the student's states from them: run 'erase-student' again before.",
            label="archive",
        ),
        "archive.gap_stored": Code(
            "error",
            "archive",
            "The archive lacks {count:event|events} of this student ({where}{reason:?; }). The stored states have "
            "them, and were not compared. Leave the folder snapshots where it is. Bring back archive files that were "
            "moved ('archive bring-back'), or copy those that are missing from the folder archive of a backup, which "
            "is a tar file. If they are lost for good, 'verify --accept-gap' passes over it.",
            of_student=True,
            label="archive, student {subject}",
        ),
        "archive.gap_stored_more": Code(
            "error",
            "archive",
            "The same is true of {students:further student|further students}: the archive lacks "
            "{count:event|events}, which the stored states have.",
            label="archive",
        ),
        "archive.gaps_elsewhere": Code(
            "info",
            "archive",
            "{count:event|events} of {students:student|students} are in archive files that were moved or deleted. The "
            "stored states have them, and were not compared. Leave the folder snapshots where it is.",
            label="archive",
        ),
        "archive.gaps_known": Code(
            "ok",
            "archive",
            "accepted gaps of the archive ({count:event|events} of {students:student|students})",
        ),
        "states.held": Code(
            "ok",
            "states",
            "states of {students:student|students} (not compared: they are held, as the archive lacked events; the "
            "next start computes them)",
        ),
        "states.differ_kept": Code("error", "states", _KEEP, label="states of {subject}"),
        "streams.differ_kept": Code("error", "states", _KEEP, label="numbers of the streams"),
        "store.gap": Code(
            "error",
            "archive",
            "These archives lack {count:event|events} of this student ({where}), so the states in the store were not "
            "compared and are kept as they are. Run 'verify ARCHIVE...' with the archives of all nodes, while nobody "
            "works.",
            of_student=True,
            label="archives, student {subject}",
        ),
        "store.gap_more": Code(
            "error",
            "archive",
            "The same is true of {students:further student|further students}, of whom these archives lack "
            "{count:event|events}.",
            label="archives",
        ),
        "states.equal": Code("ok", "states", "states of {subject} (SHA-256 {checksum})"),
        "states.differ": Code("error", "states", _NOT_THE_ARCHIVES, label="states of {subject}"),
        "states.stale": Code(
            "ok",
            "states",
            "states of {subject} (not compared: its version changed, the next start rebuilds them)",
        ),
        "states.removed": Code(
            "ok",
            "states",
            "states of {subject} (not compared: this reducer no longer exists; they are left as they are)",
        ),
        "states.none": Code(
            "ok",
            "states",
            "states (nothing to compare: there is no snapshot; a start rebuilds them from the archive)",
        ),
        "streams.equal": Code("ok", "states", "numbers of the streams"),
        "streams.differ": Code("error", "states", _NOT_THE_ARCHIVES, label="numbers of the streams"),
        "store.states_equal": Code("ok", "kvs", "states of {subject} in the store"),
        "store.states_differ": Code("error", "kvs", _NOT_THE_STORES, label="states of {subject} in the store"),
        "store.streams_equal": Code("ok", "kvs", "numbers of the streams in the store"),
        "store.streams_differ": Code("error", "kvs", _NOT_THE_STORES, label="numbers of the streams in the store"),
        "store.unreadable": Code("error", "kvs", "{detail}", label="store"),
        "file.read": Code("ok", "files", "{subject}"),
        "file.unreadable": Code(
            "error", "files", "It cannot be read: {detail}. Change its permissions.", label="{subject}"
        ),
        "file.damaged": Code(
            "error", "files", "It is damaged. Restore it from a backup.", label="{subject}{line:?, line }"
        ),
        "file.put_aside": Code(
            "ok", "files", "{subject} ({count:damaged line|damaged lines}, which were put aside and are not used)"
        ),
        "file.empty": Code(
            "error",
            "files",
            "It is empty: its content was lost, unless a power cut came before its first line. Restore it from a "
            "backup.",
            label="{subject}",
        ),
        "file.other": Code(
            "ok", "files", "{subject} (no file of this program: 'backup' copies it, 'erase-student' leaves it as it is)"
        ),
        "file.of_desktop": Code("ok", "files", "{subject} (left by a desktop; not read, and in no backup)"),
        "file.conflict_copy": Code(
            "ok",
            "files",
            "{subject} (a conflict copy of {original}, which a synced folder made; not read. Move the data folder "
            "out of the synced folder)",
        ),
        "erase.unfinished": Code(
            "error",
            "files",
            "It was interrupted; the next start of the appliance finishes it.",
            label="erasing of a student",
        ),
        "erase.not_finished": Code(
            "error",
            "files",
            "An erasing of a student was interrupted, and cannot be finished: {detail}. Data of the student are still "
            "there; correct it, and erase the student again.",
            label="erasing of a student",
        ),
        "backup.read": Code("ok", "files", "backup {subject} ({files:file|files})"),
        "backup.damaged": Code("error", "files", "{detail}", label="backup {subject}"),
        "roster.none": Code("ok", "roster", "roster (there is none yet)"),
        "roster.read": Code("ok", "roster", "roster ({classes:class|classes}, {students:student|students})"),
        "roster.unreadable": Code("error", "roster", "{detail}", label="roster"),
    }
)
