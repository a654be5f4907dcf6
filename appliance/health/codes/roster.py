"""The codes of the roster and its lists."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.health.codes.code import Code

ROSTER: Mapping[str, Code] = MappingProxyType(
    {
        "roster.line": Code("warning", "roster", "{file}, line {line}: {detail}", of_lists=True, label="{source} list"),
        "join.guessing": Code(
            "warning",
            "roster",
            "Very many wrong join codes were sent within an hour: somebody may be trying them out. Students can still "
            "join. See who is in your class, and create a new code if somebody is there who should not be.",
        ),
        "roster.file": Code("warning", "roster", "{detail}", of_lists=True, label="{source} list"),
        "roster.question": Code(
            "warning",
            "roster",
            "{subject}: {detail} Nothing of this list is taken until an administrator answers, on the page of the "
            "roster or by import-roster --answer.",
            of_lists=True,
            label="{subject}",
        ),
        "journal.unwritable": Code(
            "error",
            "roster",
            "{subject} cannot be written: {detail}. Nobody new can join and no class can be changed until this works; "
            "free some space on the disk, and check the permissions of the data folder.",
        ),
        "journal.empty": Code(
            "warning",
            "roster",
            "{subject} is empty: its content was lost, unless a power cut came before its first line. Restore the file "
            "from a backup if students have to join again.",
        ),
        "roster.damaged": Code(
            "error",
            "roster",
            "{subject} is damaged: {detail}. What is damaged is left out, and some students may have to join again; "
            "restore the file from a backup, and check the disk.",
        ),
        "roster.unwritable": Code("error", "roster", "{detail} Nobody new can join and no class can be changed now."),
        "roster.away": Code(
            "error",
            "roster",
            "{detail} This is tried again by itself; until it works, nobody can join or sign in. Students who are "
            "connected go on.",
        ),
        "postgres.damaged": Code(
            "error",
            "roster",
            "The roster in PostgreSQL is damaged, or another program has changed it: {detail}. What is damaged is left "
            "out, and some students may have to join again; restore the database from a backup.",
        ),
        "roster.no_log": Code(
            "warning",
            "roster",
            "{subject} is written without SQLite's write-ahead log, so joining takes longer: {detail}.",
        ),
        "roster.cut_off": Code(
            "warning",
            "roster",
            "Its last row has fewer cells than its first one and no line break, so the file may be cut off. Save the "
            "list again.",
            of_lists=True,
            label="{subject}",
        ),
        "journal.damaged": Code(
            "error",
            "roster",
            "{subject}: {count:line was|lines were} damaged, and left out: {lines}. Some students may have to join "
            "again; restore the file from a backup.",
        ),
        "journal.mended": Code(
            "warning",
            "roster",
            "{subject}: the end of {count:line was|lines were} damaged: {lines}. What the lines say is used, so "
            "nothing is lost. Check the disk.",
        ),
    }
)
