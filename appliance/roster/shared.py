"""The shared roster: what nodes that share a key-value store know of classes and students, the same on each of them.

It stands in shared records (`appliance.kvs.records`), which nodes put back where the store lost them. Rows:

- ``roster/classes``: every class, by id.
- ``roster/class/ID``: who is in a class, by student id; a join changes this row, so that a class is full for all nodes.
- ``roster/student/ID``: a student with the hashes of its tokens. A token names its student, so that one read of this
  row tells whether it is good, and a change of it makes all of a student's tokens worthless at once, everywhere.

An educator's lists (`lists.py`) are read from the folder of this node and shared with all others: a list in any node's
folder counts everywhere. Reads of a class are kept for `FRESH_SECONDS`, or until `forget`; tokens are always looked up.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.health import Finding, finding
from appliance.kvs.records import MEMBERS, SharedRecords
from appliance.pipeline.together import Together
from appliance.roster import (
    FIRST_CLASS,
    Class,
    Joined,
    JoinError,
    RosterLimits,
    Student,
    new_code,
    new_token,
    plain_code,
    token_hash,
)
from appliance.roster.joining import JoinPolicy
from appliance.roster.lists import ListFolder, Lists, read_lists
from appliance.tasks import in_background

FRESH_SECONDS = 2.0
CLASSES = "roster/classes"
_HELD = "held"
_TOKEN_CHARACTERS = 2000


class _Section(msgspec.Struct, frozen=True):
    """A class, and its place among them."""

    section: Class
    order: int


class _Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """A student in a class; `by` is the node whose list names the student, "" for one who joined."""

    student: Student
    by: str = ""


class _Held(msgspec.Struct, frozen=True):
    """A student, and the hashes of its tokens, oldest first."""

    student: Student
    tokens: tuple[str, ...] = ()


class _Cached(msgspec.Struct):
    """Who is in a class.

    Attributes:
        members: by student id.
        read: when that was asked.
    """

    members: dict[str, _Member]
    read: float


_decode_section = msgspec.json.Decoder(_Section).decode
_decode_member = msgspec.json.Decoder(_Member).decode
_decode_held = msgspec.json.Decoder(_Held).decode


def class_key(class_id: str) -> str:
    """The row that says who is in a class."""
    return MEMBERS + class_id


def student_row(student_id: str) -> str:
    """The row of a student and its tokens."""
    return f"roster/student/{student_id}"


class SharedRoster(JoinPolicy):
    """Classes and students of all nodes that share a store."""

    def __init__(
        self, records: SharedRecords, folder: Path, node: str, limits: RosterLimits, counters: Counters
    ) -> None:
        """Args:
        records: what the nodes share.
        folder: where this node's lists are; it need not exist.
        node: this node's name.
        limits: how much there may be.
        counters: counts limits that are hit.
        """
        super().__init__(limits, counters)
        self._records = records
        self._folder = folder
        self._node = node
        self._sections: list[_Section] = []
        self._sections_read = float("-inf")
        self._classes: dict[str, _Cached] = {}
        self._stale: dict[str, float] = {}
        self._class_of: dict[str, str] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        # By class that is being read, who came into it meanwhile.
        self._entered: dict[str, dict[str, _Member]] = {}
        self._entering: dict[str, list[tuple[_Member, asyncio.Future[bool]]]] = {}
        self._enterers: dict[str, asyncio.Task[None]] = {}
        self._lists = ListFolder(folder, limits)
        self._sharing = asyncio.Lock()
        # A school that comes back at one instant asks once.
        self._tokens: Together[str, _Held | None] = Together(self._read_held)

    async def classes(self) -> list[Class]:
        await self._look()
        sections = await self._all()
        if not sections:
            if await self._add_classes([Class(FIRST_CLASS, "My class", "")]):
                self.on_change()
            sections = await self._all()
        others = [s for s in sections if s.section.class_id != FIRST_CLASS]
        # The class that is made at first vanishes once there are others, unless students came into it.
        if others and len(others) < len(sections) and not await self._members(FIRST_CLASS):
            sections = others
        return [s.section for s in sections]

    async def change_class(
        self, class_id: str, *, title: str | None = None, code: str | None = None, open: bool | None = None
    ) -> Class:
        changed: list[Class] = []

        def change(rows: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            if class_id not in rows:
                raise JoinError("unknown_class", "There is no such class.")
            held = _decode_section(rows[class_id])
            before = held.section
            after = Class(
                class_id,
                before.title if title is None else title,
                before.code if code is None else code,
                before.open if open is None else open,
            )
            changed[:] = [after]
            return {} if after == before else {class_id: _Section(after, held.order)}

        await self._records.update(CLASSES, change)
        self._forget_classes()
        return changed[0]

    async def students(self, class_id: str) -> list[Student]:
        await self._look()
        found = [member.student for member in (await self._members(class_id)).values()]
        return sorted(found, key=lambda student: (student.name.casefold(), student.student_id))

    async def student(self, student_id: str) -> Student | None:
        class_id = self._class_of.get(student_id)
        if class_id is not None:
            member = (await self._members(class_id)).get(student_id)
            if member is not None:
                return member.student
        held = await self._held(student_id)
        return held.student if held else None

    async def student_by_token(self, token: str) -> Student | None:
        student_id = _student_of(token)
        held = await self._tokens(student_id) if student_id is not None else None
        return held.student if held is not None and token_hash(token) in held.tokens else None

    async def remove(self, student_id: str) -> Student | None:
        removed: list[Student] = []

        def remove(rows: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            if _HELD not in rows:
                return {}
            student = _decode_held(rows[_HELD]).student
            removed[:] = [student]
            return {_HELD: _Held(student) if student.listed else None}

        await self._records.update(student_row(student_id), remove)
        student = removed[0] if removed else await self._without_row(student_id)
        if student is not None and not student.listed:
            await self._records.update(
                class_key(student.class_id), lambda rows: {student_id: None} if student_id in rows else {}
            )
        if student is not None:
            self.forget(student.class_id)
        return student

    async def examine(self) -> AsyncGenerator[Finding, None]:
        for found in read_lists(self._folder, self.limits).findings:
            yield found
        sections = await self._all()
        students = [await self._members(s.section.class_id) for s in sections]
        yield finding("roster.shared", classes=len(sections), students=sum(map(len, students)))

    def forget(self, class_id: str | None = None) -> None:
        self._forget_classes()
        for known in [class_id] if class_id is not None else list(self._stale):
            self._stale[known] = time.monotonic()

    async def close(self) -> None:
        await asyncio.gather(*self._enterers.values(), *self._reading.values(), return_exceptions=True)

    def _forget_classes(self) -> None:
        self._stale[""] = time.monotonic()

    def _is_fresh(self, class_id: str, read: float) -> bool:
        """Whether what was asked then still holds: not for long, nor where it was forgotten while it was read."""
        return read > self._stale.get(class_id, float("-inf")) and time.monotonic() - read <= FRESH_SECONDS

    async def _all(self) -> list[_Section]:
        if not self._is_fresh("", self._sections_read):
            read = time.monotonic()
            [rows] = await self._records.read(CLASSES)
            found = (_decode_section(row) for row in rows.values())
            self._sections = sorted(found, key=lambda s: (s.order, s.section.class_id))
            self._sections_read = read
        return self._sections

    async def _members(self, class_id: str) -> dict[str, _Member]:
        asked = time.monotonic()
        while True:
            cached = self._classes.get(class_id)
            if cached is not None and (cached.read >= asked or self._is_fresh(class_id, cached.read)):
                return cached.members
            # All who ask at once wait for one read; it may have begun too early for this one.
            reading = self._reading.get(class_id)
            if reading is None:
                reading = self._reading[class_id] = in_background(self._read_members(class_id), "class", awaited=True)
            await asyncio.shield(reading)

    async def _read_members(self, class_id: str) -> None:
        try:
            read = time.monotonic()
            self._entered[class_id] = {}
            [rows] = await self._records.read(class_key(class_id))
            members = {id: _decode_member(row) for id, row in rows.items()}
            self._classes[class_id] = _Cached(members | self._entered[class_id], read)
            self._stale.setdefault(class_id, float("-inf"))
            self._class_of.update(dict.fromkeys(members, class_id))
        finally:
            del self._reading[class_id], self._entered[class_id]

    async def _held(self, student_id: str) -> _Held | None:
        [held] = await self._read_held([student_id])
        return held

    async def _read_held(self, student_ids: Sequence[str]) -> list[_Held | None]:
        rows = await self._records.read(*map(student_row, student_ids))
        return [_decode_held(row[_HELD]) if _HELD in row else None for row in rows]

    async def _without_row(self, student_id: str) -> Student | None:
        """A student who is in a class and has no row of its own, as after a node that died while removing."""
        for section in await self._all():
            member = (await self._members(section.section.class_id)).get(student_id)
            if member is not None:
                return member.student
        return None

    async def _listed(self, class_id: str, student_id: str) -> Student | None:
        member = (await self._members(class_id)).get(student_id)
        return member.student if member is not None and member.student.listed else None

    async def _rename(self, student: Student) -> None:
        def rename(rows: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            if _HELD not in rows:
                raise JoinError("unknown_student", "Your teacher has removed you. Join again.")
            return {_HELD: _Held(student, _decode_held(rows[_HELD]).tokens)}

        await self._records.update(student_row(student.student_id), rename)
        await self._records.update(
            class_key(student.class_id),
            lambda rows: {student.student_id: _Member(student)} if student.student_id in rows else {},
        )
        self.forget(student.class_id)

    async def _admit(self, student: Student) -> Joined:
        # The student's own row comes first: where the node dies in between, nobody sees a student who never came.
        if len(await self._members(student.class_id)) >= self.limits.students:
            self.forget(student.class_id)
        if len(await self._members(student.class_id)) >= self.limits.students:
            raise self.full()
        joined = await self._give_token(student)
        if not await self._enter(_Member(student)):
            await self._records.update(student_row(student.student_id), lambda rows: {_HELD: None})
            raise self.full()
        return joined

    async def _give_token(self, student: Student) -> Joined:
        token = _token_for(student.student_id)

        def add(rows: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            tokens = _decode_held(rows[_HELD]).tokens if _HELD in rows else ()
            if len(tokens) >= self.limits.tokens:
                self.counters.add("limit_tokens_per_student")
            return {_HELD: _Held(student, (*tokens, token_hash(token))[-self.limits.tokens :])}

        await self._records.update(student_row(student.student_id), add)
        return Joined(student, token)

    async def _claim(self, listed: Student) -> Joined | None:
        token = _token_for(listed.student_id)
        claimed: list[bool] = []

        def claim(rows: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            claimed[:] = [_HELD not in rows or not _decode_held(rows[_HELD]).tokens]
            return {_HELD: _Held(listed, (token_hash(token),))} if claimed[0] else {}

        await self._records.update(student_row(listed.student_id), claim)
        return Joined(listed, token) if claimed[0] else None

    async def _enter(self, member: _Member) -> bool:
        """Put a student into a class; many who come at once share one change. False where the class is full."""
        class_id = member.student.class_id
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._entering.setdefault(class_id, []).append((member, done))
        if class_id not in self._enterers:
            self._enterers[class_id] = in_background(self._enter_waiting(class_id), "joining")
        return await asyncio.shield(done)

    async def _enter_waiting(self, class_id: str) -> None:
        entered: dict[str, _Member] = {}
        batch: list[tuple[_Member, asyncio.Future[bool]]] = []

        def enter(rows: Mapping[str, msgspec.Raw]) -> Mapping[str, object]:
            room = max(0, self.limits.students - len(rows))
            entered.clear()
            entered.update({member.student.student_id: member for member, _ in batch[:room]})
            return entered

        try:
            while batch := self._entering.pop(class_id, []):
                try:
                    await self._records.update(class_key(class_id), enter)
                except Exception as error:
                    _refuse(batch, error)
                    continue
                if len(entered) < len(batch):
                    self.forget(class_id)
                cached = self._classes.get(class_id)
                for known in (cached.members if cached else {}, self._entered.get(class_id, {})):
                    known.update(entered)
                self._class_of.update(dict.fromkeys(entered, class_id))
                for member, done in batch:
                    if not done.done():
                        done.set_result(member.student.student_id in entered)
        finally:
            del self._enterers[class_id]
            # Whatever ended this, nobody waits for ever.
            _refuse([*batch, *self._entering.pop(class_id, [])], BackendError("Joining was interrupted."))

    async def _look(self) -> None:
        """Share this node's lists where they changed."""
        async with self._sharing:
            lists = self._lists.changed()
            if lists is not None:
                changed = await self._share(lists)
                self._lists.take(lists)
                self._list_findings = lists.findings
                if changed:
                    self.on_change()

    async def _share(self, lists: Lists) -> bool:
        """Let all nodes know this node's lists, and who is no longer in them; returns whether that was news."""
        changed = await self._add_classes(lists.classes.values())
        known = {s.section.class_id for s in await self._all()}
        for class_id in sorted(known | lists.classes.keys()):
            here = {s.student_id: _Member(s, self._node) for s in lists.students.values() if s.class_id == class_id}
            new: dict[str, object] = {}
            gone: set[str] = set()

            def share(
                rows: Mapping[str, msgspec.Raw],
                here: dict[str, _Member] = here,
                new: dict[str, object] = new,
                gone: set[str] = gone,
            ) -> dict[str, object]:
                there = {id: _decode_member(row) for id, row in rows.items()}
                new.clear()
                new.update((id, member) for id, member in here.items() if _differs(there.get(id), member))
                gone.clear()
                if not lists.unread:
                    # Else what was known of the rest still holds.
                    gone.update(id for id, member in there.items() if member.by == self._node and id not in here)
                return {**new, **dict.fromkeys(gone)}

            await self._records.update(class_key(class_id), share)
            changed |= bool(new or gone)
            self.forget(class_id)
            for student_id in gone - lists.students.keys():
                await self._records.update(student_row(student_id), lambda rows: {_HELD: None} if _HELD in rows else {})
            await self._rename_listed(here)
        return changed

    async def _rename_listed(self, here: Mapping[str, _Member]) -> None:
        """Bring the rows of listed students who have joined up to the list."""
        ids = list(here)
        for student_id, rows in zip(ids, await self._records.read(*map(student_row, ids)), strict=True):
            if _HELD in rows and _decode_held(rows[_HELD]).student != here[student_id].student:
                student = here[student_id].student
                await self._records.update(
                    student_row(student_id),
                    lambda rows, student=student: (  # type: ignore[misc]
                        {_HELD: _Held(student, _decode_held(rows[_HELD]).tokens)} if _HELD in rows else {}
                    ),
                )

    async def _add_classes(self, sections: Iterable[Class]) -> bool:
        """Add the classes that are not there yet, and say whether there were any.

        One without a code gets one that no other class has.
        """
        wanted = list(sections)
        if not wanted:
            return False

        new: dict[str, object] = {}

        def add(rows: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            there = [_decode_section(row) for row in rows.values()]
            taken = {plain_code(s.section.code) for s in there} | {plain_code(s.code) for s in wanted if s.code}
            order = max((s.order for s in there), default=0)
            new.clear()
            for section in wanted:
                if section.class_id in rows:
                    continue
                code = section.code
                while not code or (code != section.code and plain_code(code) in taken):
                    code = new_code()
                taken.add(plain_code(code))
                order += 1
                new[section.class_id] = _Section(Class(section.class_id, section.title, code), order)
            return new

        await self._records.update(CLASSES, add, first_wins=True)
        self._forget_classes()
        return bool(new)


def _refuse(asked: Iterable[tuple[_Member, asyncio.Future[bool]]], error: Exception) -> None:
    """Answer all who wait to enter and have no answer yet."""
    for _, done in asked:
        if not done.done():
            done.set_exception(error)
            done.exception()


def _differs(there: _Member | None, member: _Member) -> bool:
    return there is None or there.student != member.student or not there.by


def _token_for(student_id: str) -> str:
    """A token that names its student: 256 random bits, a full stop, and the id."""
    return f"{new_token()}.{base64.urlsafe_b64encode(student_id.encode()).decode().rstrip('=')}"


def _student_of(token: str) -> str | None:
    """The student whom a token names, whether or not it is good."""
    _, dot, encoded = token.partition(".")
    if not dot or not encoded or len(token) > _TOKEN_CHARACTERS:
        return None
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        return None
