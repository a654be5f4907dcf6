"""The codes of the command `verify`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.health.codes.code import Code

_NOT_THE_ARCHIVES = (
    "The stored states differ from those of the archive. Remove the folder snapshots while the appliance is stopped; "
    "its next start rebuilds all states from the archive."
)
_NOT_THE_STORES = (
    "They differ from those of the archives. Run 'verify ARCHIVE...' with the archives of all nodes, while nobody "
    "works; if they still differ, ask the administrator of the server."
)

VERIFY: Mapping[str, Code] = MappingProxyType(
    {
        "snapshot.read": Code("ok", "archive", "snapshot ({rows:row|rows})"),
        "archive.read": Code("ok", "archive", "archive ({segments:segment|segments}, {events:event|events})"),
        "archive.damaged_line": Code(
            "error",
            "archive",
            "{file}, line {line} (byte {byte}): {detail}. It is left out; restore the file from a backup.",
            label="archive",
        ),
        "archive.damaged_more": Code(
            "error", "archive", "{count:further line|further lines} cannot be read.", label="archive"
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
        "file.other": Code(
            "ok", "files", "{subject} (no file of this program: 'backup' copies it, 'erase-student' leaves it as it is)"
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
