"""The roster: rules about classes, students and tokens, over any `RosterStore`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from appliance.coalescing import RequestCoalescer
from appliance.counters import Counters
from appliance.health import Finding, finding
from appliance.listeners import Listeners
from appliance.roster.cache import RosterCache
from appliance.roster.codes import new_code
from appliance.roster.errors import JoinError
from appliance.roster.identity import FIRST_CLASS, Joined, new_id, new_student_id, token_hash
from appliance.roster.joining import JoinAttempt, JoinRules, Waiting
from appliance.roster.limits import RosterLimits
from appliance.roster.store import RosterStore, Transaction
from appliance.roster.students import discard, remove
from appliance.roster.tables import CLASSES, STUDENTS, TOKENS, Class, Student, plain_code
from appliance.roster.watch import ListWatch

_MERGES = 10
"""Students who were merged one into the other are followed this far."""


class Roster:
    """Classes, students, join codes and tokens. Each change is durable when its method returns.

    Attributes:
        store: the tables; further rules work on them. What they commit is seen here at once.
        limits: limits of the roster.
        counters: counts limits that are hit.
        rules: who may join, questions to educators, and students' secrets.
        watch: imports the lists of a folder; None where none is watched.
        on_change: called when classes were added, or the students of a list of this node have changed. Lists are
            checked when `classes` or `students` is called.
    """

    def __init__(
        self,
        store: RosterStore,
        limits: RosterLimits,
        counters: Counters,
        lists: Path | None = None,
        *,
        node: str = "",
        ask_removed: int = 5,
    ) -> None:
        """Args:
        store: the tables.
        limits: limits of the roster.
        counters: counts limits that are hit.
        lists: the folder whose lists are watched.
        node: this node's name: in a shared store, a list takes out only students whom this node's list brought.
        ask_removed: so many students of a class a list may take out or change at once without a question.
        """
        self.store = store
        self.limits = limits
        self.counters = counters
        self.on_change: Listeners[[]] = Listeners("changes of the roster")
        self._cache = RosterCache(store)
        of_node = node if store.shared else ""
        self.watch = (
            ListWatch(store, lists, limits, ask_removed=ask_removed, node=of_node) if lists is not None else None
        )
        if self.watch is not None:
            self.watch.leaving.connected = lambda student_id: False
        self._making = asyncio.Lock()
        # When a whole school reconnects at once, its tokens are read together.
        self._owners: RequestCoalescer[str, str | None] = RequestCoalescer(self._read_owners)
        self.rules = JoinRules(store, limits, counters, self._all_students)

    # ---- Classes ----

    async def classes(self) -> list[Class]:
        """All classes, in the order of their creation, without those that ended. There is always at least one."""
        await self._import_lists()
        found = await self._shown()
        if not found:
            async with self._making:
                if not await self._shown():
                    await self.add_class("My class", FIRST_CLASS)
                    if self.store.shared:
                        # Another node may have made it first.
                        self._cache.forget()
            found = await self._shown()
        return found

    async def class_ids(self) -> list[str]:
        """The ids of all classes, without making a class that a list names for the first time."""
        return [section.class_id for section in await self._shown()]

    async def class_by_code(self, code: str) -> Class | None:
        """The class with a join code, however it is typed."""
        plain = plain_code(code)
        found = await self.store.find(CLASSES, "code", plain) if plain else []
        shown = [one.row for one in found if one.row.class_id != FIRST_CLASS]
        if not shown and found:
            shown = [section for section in await self._shown() if section.class_id == FIRST_CLASS]
        return shown[0] if shown else None

    async def add_class(self, title: str, class_id: str | None = None) -> Class:
        """Add a class with a code of its own; one that is there, with this id, stays as it is.

        Args:
            title: name for people.
            class_id: its id; None for a random one.
        """
        known = await self._cache.classes()
        order = max((section.order for section in known.values()), default=-1) + 1
        new = Class(class_id or new_id("c"), title, await self.free_code(), order=order)

        async def add(transaction: Transaction) -> Class:
            there = await transaction.get(CLASSES, new.class_id)
            section = new if there is None else replace(there, ended_at=None)
            if section != there:
                transaction.put(CLASSES, section)
            return section

        added = await self.store.transact(add)
        self.on_change()
        return added

    async def change_class(
        self,
        class_id: str,
        *,
        title: str | None = None,
        code: str | None = None,
        open: bool | None = None,
        approval: bool | None = None,
    ) -> Class:
        """Change the given attributes of a class.

        Raises:
            JoinError: ``unknown_class``.
        """
        given = {"title": title, "code": code, "open": open, "approval": approval}

        async def change(transaction: Transaction) -> Class:
            section = await transaction.get(CLASSES, class_id)
            if section is None:
                raise _unknown_class()
            changed = replace(section, **{name: value for name, value in given.items() if value is not None})
            if changed != section:
                transaction.put(CLASSES, changed)
            return changed

        return await self.store.transact(change)

    async def free_code(self) -> str:
        """A join code that no class has."""
        while await self.store.count(CLASSES, "code", plain_code(code := new_code())):
            pass
        return code

    # ---- Students ----

    async def students(self, class_id: str) -> list[Student]:
        """The students of a class, by name, without the removed ones."""
        await self._import_lists()
        return list((await self._cache.students(class_id)).present)

    async def student(self, student_id: str) -> Student | None:
        """The student of a class with this id; None if there is none, or the student was removed."""
        row = await self._cache.student(student_id)
        return row if row is not None and row.present else None

    async def rows(self, student_ids: Iterable[str]) -> dict[str, Student]:
        """The students with these ids, also those who were removed or merged: see `Student.present`."""
        return await self._cache.rows(student_ids)

    async def student_by_token(self, token: str) -> Student | None:
        """The student who has this token, None if nobody has it.

        It may be a removed student: see `Student.present`. The token of a student who was merged is that of the other.
        """
        student_id = await self._owners(token_hash(token))
        for _ in range(_MERGES):
            student = await self._cache.student(student_id) if student_id is not None else None
            if student is None or not student.merged_into:
                return student
            student_id = student.merged_into
        return None

    async def remove(self, student_id: str, *, barred_until: float | None = None) -> Student | None:
        """Remove a student from the class; see `appliance.roster.students.remove`."""
        return await remove(self.store, student_id, barred_until=barred_until)

    async def discard(self, student_id: str) -> Student | None:
        """Delete a student who never did anything; see `appliance.roster.students.discard`."""
        return await discard(self.store, student_id)

    # ---- Joining ----

    async def join(
        self,
        class_id: str,
        *,
        name: str | None = None,
        student_id: str | None = None,
        token: str | None = None,
        proof: str | None = None,
        ask: bool = False,
        new_id: str | None = None,
    ) -> Joined | Waiting:
        """Let a student into a class, or ask an educator; see `appliance.roster.joining`.

        A browser that still has a token of this class stays the same student and keeps the token; the name is changed
        to the new one unless it is from the educator's list. Otherwise `student_id` chooses a student of the list, and
        `name` a student of the class if exactly one has it. Where somebody holds that identity, it needs the `proof` of
        the student's secret, or the answer of an educator, for which `ask` says that the secret is not known. Else a
        new student is created, with the id `new_id` (default: any `new_student_id`).

        Raises:
            SecretNeededError: the student has a secret, and there is no proof of it.
            JoinError: with the code of the reason.
        """
        if class_id not in {section.class_id for section in await self.classes()}:
            raise _unknown_class()
        attempt = JoinAttempt(name, student_id, token, proof, ask, new_id or new_student_id())
        return await self.rules.join(class_id, attempt)

    # ---- All of it ----

    def findings(self) -> list[Finding]:
        """Problems of the store, of educators' lists and of files, without names of persons."""
        return [*(self.watch.findings if self.watch is not None else []), *self.store.findings()]

    async def examine(self) -> AsyncGenerator[Finding, None]:
        """Findings for IT staff on the lists and the store: its version, rights, settings.

        The command `check` prints them, with the section of the configuration as their source. Nothing is changed.

        Raises:
            BackendError: it cannot be reached.
        """
        if self.watch is not None:
            for one in self.watch.examine():
                yield one
        async for one in self.store.examine():
            yield one
        sections = await self._cache.classes()
        number = 0
        for class_id in sections:
            number += await self.store.count(STUDENTS, "class_id", class_id)
        yield finding("roster.stored", classes=len(sections), students=number)

    def forget(self, class_id: str | None = None) -> None:
        """Read a class, or all, from the store at the next request: another node may have changed it."""
        self._cache.forget(class_id)

    async def close(self) -> None:
        """Close files and connections."""
        await self._cache.close()
        await self.store.close()

    async def _shown(self) -> list[Class]:
        """The classes that are shown: the first one is hidden if there are others, unless students have joined it."""
        found = list(await self._cache.ordered_classes())
        others = [section for section in found if section.class_id != FIRST_CLASS]
        if others and len(others) < len(found) and not (await self._cache.students(FIRST_CLASS)).present:
            return others
        return found

    async def _all_students(self, class_id: str) -> Collection[Student]:
        return list((await self._cache.students(class_id)).rows.values())

    async def _import_lists(self) -> None:
        if self.watch is not None and await self.watch.import_changed():
            self._cache.forget()
            self.on_change()

    async def _read_owners(self, hashes: Sequence[str]) -> list[str | None]:
        return [found.row.student_id if found else None for found in await self.store.read(TOKENS, hashes)]


def _unknown_class() -> JoinError:
    return JoinError("unknown_class", "There is no such class.")
