"""Cached classes and students: what the roster reads again and again, kept up to date by the commits of this process.

Rows of a shared store are cached for `FRESH_SECONDS`, or until `RosterCache.forget`; those of another one until a
command has changed it beside the program. Tokens are never cached.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from appliance.roster.store import RosterStore, Write
from appliance.roster.tables import CLASSES, STUDENTS, Class, Student
from appliance.tasks import in_background

FRESH_SECONDS = 2.0
"""How old a cached row of a shared store may be."""
POLL_SECONDS = 1.0
"""Pause after which a store that is not shared is asked whether another process has changed it."""
MOST_STUDENTS = 50_000
"""Students that are cached at most, with those of the class that was read last."""
_NEVER = float("-inf")


class CachedClass:
    """The students of a class, also the removed ones.

    Attributes:
        rows: by student id.
        read: when the read began, on the monotonic clock.
    """

    def __init__(self, rows: dict[str, Student], read: float) -> None:
        self.rows = rows
        self.read = read
        self._present: list[Student] | None = None

    @property
    def present(self) -> list[Student]:
        """The students who are in the class, by name."""
        if self._present is None:
            self._present = sorted(
                (student for student in self.rows.values() if student.present),
                key=lambda student: (student.name.casefold(), student.student_id),
            )
        return self._present

    def set(self, student_id: str, row: Student | None) -> None:
        """Note that a row has changed; None where it is not one of this class."""
        self._present = None
        if row is None:
            self.rows.pop(student_id, None)
        else:
            self.rows[student_id] = row


class RosterCache:
    """Reads classes, and the students of a class."""

    def __init__(self, store: RosterStore) -> None:
        self._store = store
        self._cached: OrderedDict[str, CachedClass] = OrderedDict()
        self._class_of: dict[str, str] = {}
        self._forgotten: dict[str | None, float] = {}
        self._reading: dict[str | None, asyncio.Task[None]] = {}
        # By what is being read, the rows that were changed meanwhile; None is the list of classes.
        self._changed: dict[str | None, dict[str, Any]] = {}
        self._classes: dict[str, Class] = {}
        self._classes_read = _NEVER
        self._ordered: tuple[dict[str, Class], list[Class]] = {}, []
        self._all_forgotten = self._asked = _NEVER
        store.on_commit.add(self._apply)

    async def classes(self) -> dict[str, Class]:
        """All classes by id, also those that ended.

        Raises:
            BackendError: the store cannot be reached.
        """
        await self._notice_other_processes()
        asked = time.monotonic()
        while not self._is_fresh(None, self._classes_read, asked):
            await self._wait(None)
        return self._classes

    async def ordered_classes(self) -> list[Class]:
        """The classes that did not end, in their order; the list is not to be changed.

        Raises:
            BackendError: the store cannot be reached.
        """
        classes = await self.classes()
        if self._ordered[0] is not classes:
            going = [section for section in classes.values() if section.ended_at is None]
            self._ordered = classes, sorted(going, key=lambda section: (section.order, section.class_id))
        return self._ordered[1]

    async def students(self, class_id: str) -> CachedClass:
        """The students of a class.

        Raises:
            BackendError: the store cannot be reached.
        """
        await self._notice_other_processes()
        asked = time.monotonic()
        while True:
            cached = self._cached.get(class_id)
            if cached is not None and self._is_fresh(class_id, cached.read, asked):
                self._cached.move_to_end(class_id)
                return cached
            await self._wait(class_id)

    async def student(self, student_id: str) -> Student | None:
        """The row of a student, also of a removed one.

        Raises:
            BackendError: the store cannot be reached.
        """
        class_id = self._class_of.get(student_id)
        if class_id is not None and class_id in self._cached:
            row = (await self.students(class_id)).rows.get(student_id)
            if row is not None:
                return row
        return await self._store.get(STUDENTS, student_id)

    async def rows(self, student_ids: Iterable[str]) -> dict[str, Student]:
        """The rows of some students by id, also of removed ones; those that are not cached are read together.

        Raises:
            BackendError: the store cannot be reached.
        """
        found: dict[str, Student] = {}
        missing: list[str] = []
        read: dict[str, dict[str, Student]] = {}
        for student_id in student_ids:
            class_id = self._class_of.get(student_id)
            if class_id is not None and class_id not in read and class_id in self._cached:
                read[class_id] = (await self.students(class_id)).rows
            row = read[class_id].get(student_id) if class_id in read else None
            if row is None:
                missing.append(student_id)
            else:
                found[student_id] = row
        for versioned in await self._store.read(STUDENTS, missing) if missing else ():
            if versioned is not None:
                found[versioned.row.student_id] = versioned.row
        return found

    def forget(self, class_id: str | None = None) -> None:
        """Another process may have changed a class, or any: read it again at the next request, if it has."""
        now = time.monotonic()
        if not self._store.shared:
            self._asked = _NEVER
            return
        self._forgotten[None] = now
        for known in [class_id] if class_id is not None else list(self._cached):
            self._forgotten[known] = now

    async def close(self) -> None:
        """Wait for reads under way."""
        await asyncio.gather(*self._reading.values(), return_exceptions=True)

    def _is_fresh(self, what: str | None, read: float, asked: float) -> bool:
        fresh = read > self._forgotten.get(what, self._all_forgotten)
        if self._store.shared:
            fresh = fresh and time.monotonic() - read <= FRESH_SECONDS
        return read != _NEVER and (fresh or read >= asked)

    async def _notice_other_processes(self) -> None:
        """Forget all if a command changed a store that is not shared; that is asked once in a while."""
        now = time.monotonic()
        if self._store.shared or now - self._asked < POLL_SECONDS:
            return
        self._asked = now
        if await self._store.changed_elsewhere():
            self._all_forgotten = time.monotonic()

    async def _wait(self, what: str | None) -> None:
        """Wait for a read that is under way, or a new one; all who ask share it, but it may have begun too early."""
        reading = self._reading.get(what)
        if reading is None:
            reading = self._reading[what] = in_background(self._read(what), "roster", awaited=True)
        await asyncio.shield(reading)

    async def _read(self, what: str | None) -> None:
        read = time.monotonic()
        changed = self._changed[what] = {}
        try:
            if what is None:
                classes = {row.class_id: row async for row in self._store.scan(CLASSES)}
                classes.update(changed)
                self._classes = {id: row for id, row in classes.items() if row is not None}
                self._classes_read = read
            else:
                found = await self._store.find(STUDENTS, "class_id", what)
                self._keep(what, CachedClass({one.row.student_id: one.row for one in found}, read), changed)
        finally:
            del self._reading[what], self._changed[what]

    def _keep(self, class_id: str, cached: CachedClass, changed: dict[str, Student | None]) -> None:
        for student_id, row in changed.items():
            cached.set(student_id, row if row is not None and row.class_id == class_id else None)
        self._cached[class_id] = cached
        self._cached.move_to_end(class_id)
        self._class_of.update(dict.fromkeys(cached.rows, class_id))
        while len(self._class_of) > MOST_STUDENTS and len(self._cached) > 1:
            oldest, gone = self._cached.popitem(last=False)
            self._forgotten.pop(oldest, None)
            for student_id in gone.rows:
                if self._class_of.get(student_id) == oldest:
                    del self._class_of[student_id]

    def _apply(self, writes: Sequence[Write[Any]]) -> None:
        """Take the changes of a commit."""
        for write in writes:
            if write.checked:
                continue
            if write.table is CLASSES:
                self._apply_class(write)
            elif write.table is STUDENTS:
                self._apply_student(write.key, write.row)

    def _apply_class(self, write: Write[Class]) -> None:
        if None in self._changed:
            self._changed[None][write.key] = write.row
        changed = {**self._classes, write.key: write.row}
        self._classes = {class_id: row for class_id, row in changed.items() if row is not None}

    def _apply_student(self, student_id: str, row: Student | None) -> None:
        for class_id, changed in self._changed.items():
            if class_id is not None:
                changed[student_id] = row
        before, after = self._class_of.get(student_id), row.class_id if row is not None else None
        if before is not None and before != after and before in self._cached:
            self._cached[before].set(student_id, None)
            del self._class_of[student_id]
        if row is not None and row.class_id in self._cached:
            self._cached[row.class_id].set(student_id, row)
            self._class_of[student_id] = row.class_id
