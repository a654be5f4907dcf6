"""The journal of the roster up to format 3 of the data folder, ``roster.jsonl``: its rows move to the store.

Its lines are classes, students who joined, hashes of their tokens, and removed students. Students of the lists were not
in it; their ids came from the lists, and stay for those who are there now, since archive and states have them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from appliance.datafolder import notes
from appliance.datafolder.damaged_lines import put_aside
from appliance.datafolder.files import remove, sync_folder
from appliance.datafolder.journal import Journal
from appliance.errors import SettingsError
from appliance.roster.codes import new_code
from appliance.roster.limits import RosterLimits
from appliance.roster.list_import import ListImport
from appliance.roster.lists import ListFolder, read_lists
from appliance.roster.sqlite import SqliteStore
from appliance.roster.store import RosterStore, Write
from appliance.roster.tables import CLASSES, STUDENTS, TOKENS, Class, Student, Token, plain_code

JOURNAL = "roster.jsonl"


class _Token(msgspec.Struct, frozen=True):
    """The hash of a token of a student."""

    student_id: str
    hash: str


class _Change(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line; exactly one field is set.

    Attributes:
        section: a new or changed class.
        student: a new or renamed student.
        token: a new token.
        removed: id of a removed student.
    """

    section: Class | None = msgspec.field(default=None, name="class")
    student: Student | None = None
    token: _Token | None = None
    removed: str | None = None


class _Rows:
    """What the lines together say."""

    def __init__(self) -> None:
        self.classes: dict[str, Class] = {}
        self.students: dict[str, Student] = {}
        self.tokens: dict[str, list[str]] = {}

    def apply(self, change: _Change) -> None:
        """Apply a line."""
        if change.section is not None:
            self.classes[change.section.class_id] = change.section
        if change.student is not None:
            self.students[change.student.student_id] = change.student
        if change.token is not None:
            self.tokens.setdefault(change.token.student_id, []).append(change.token.hash)
        if change.removed is not None:
            self.students.pop(change.removed, None)
            self.tokens.pop(change.removed, None)


def move_journal(folder: Path, file: Path, limits: RosterLimits) -> None:
    """Move the rows of a journal to a SQLite roster, with the students of the lists, then remove the journal.

    What the roster has already stays as it is: a move that was cut short is done again from its beginning. Damaged
    lines are noted, and kept in a file beside the journal.

    Args:
        folder: of the journal and the lists.
        file: the SQLite roster; it is made if it is not there.
        limits: of the roster.

    Raises:
        SettingsError: the journal cannot be read, or the roster cannot be used.
        BackendError: the roster cannot be written.
        OSError: the journal cannot be removed.
    """
    rows = _Rows()
    journal = Journal(folder / JOURNAL, _Change, rows.apply)
    # An upgrade is part of a start, which may be within an event loop.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _store(rows, folder, file, limits)).result()
    for one in journal.findings():
        notes.note(
            one.code,
            journal.path,
            one.subject,
            **{name: value for name, value in one.params.items() if not isinstance(value, float)},
        )
    if journal.damaged:
        put_aside(journal.path, journal.damaged)
    if journal.path.exists():
        remove(journal.path)
        sync_folder(folder)


def earlier_names(folder: Path, limits: RosterLimits) -> dict[str, str]:
    """The names of students, by id, in a journal and the lists beside it; empty where there are none.

    Raises:
        SettingsError: the journal cannot be read.
    """
    rows = _Rows()
    if (folder / JOURNAL).exists():
        Journal(folder / JOURNAL, _Change, rows.apply)
    found = {**rows.students, **read_lists(folder, limits).students}
    return {student_id: student.name for student_id, student in found.items()}


async def _store(rows: _Rows, folder: Path, file: Path, limits: RosterLimits) -> None:
    store = SqliteStore(file)
    try:
        await _put_missing(store, rows, limits)

        async def free_code() -> str:
            while await store.count(CLASSES, "code", plain_code(code := new_code())):
                pass
            return code

        lists = ListImport(store, ListFolder(folder, limits), limits, "")
        await lists.import_changed(free_code, keep_ids=True)
    finally:
        await store.close()


async def _put_missing(store: RosterStore, rows: _Rows, limits: RosterLimits) -> None:
    now = time.time()
    sections = [msgspec.structs.replace(row, order=order) for order, row in enumerate(rows.classes.values())]
    tokens = [
        # The order of the tokens of a student says which is the oldest.
        Token(hash, student_id, now - len(hashes) + place)
        for student_id, hashes in rows.tokens.items()
        for place, hash in enumerate(hashes[-limits.tokens :])
    ]
    writes: list[Write[Any]] = []
    table: Any
    found: Sequence[Any]
    for table, found in ((CLASSES, sections), (STUDENTS, list(rows.students.values())), (TOKENS, tokens)):
        there = await store.read(table, [table.key_of(row) for row in found])
        writes += [Write(table, table.key_of(row), 0, row) for row, old in zip(found, there, strict=True) if not old]
    if not await store.commit(writes):
        raise SettingsError("The roster was changed while it was brought to the present format. Start again.")
