"""The shared roster: what nodes that share a key-value store know of classes and students, the same on each of them.

It stands in shared records (`appliance.shared`), which nodes put back where the store lost them. Rows:

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
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from appliance.counters import Counters
from appliance.findings import Finding
from appliance.roster import (
    Class,
    Joined,
    JoinError,
    Roster,
    RosterLimits,
    Student,
    new_code,
    new_token,
    plain_code,
    token_hash,
)
from appliance.roster.lists import Lists, read_lists
from appliance.roster.names import clean_name, listed_as
from appliance.shared import MEMBERS, SharedRecords

log = logging.getLogger(__name__)

FIRST_CLASS = "class-1"
FRESH_SECONDS = 2.0
CLASSES = "roster/classes"
_LOOK_SECONDS = 1.0
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


class SharedRoster(Roster):
    """Classes and students of all nodes that share a store.

    Attributes:
        problems: what is wrong with the lists of this node, each a sentence without anybody's name.
        on_classes: called when this node added classes.
    """

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
        self.problems: list[str] = []
        self.on_classes: Callable[[], None] = lambda: None
        self._records = records
        self._folder = folder
        self._node = node
        self._limits = limits
        self._counters = counters
        self._sections: list[_Section] | None = None
        self._sections_read = 0.0
        self._classes: dict[str, _Cached] = {}
        self._class_of: dict[str, str] = {}
        self._entering: dict[str, list[tuple[_Member, asyncio.Future[bool]]]] = {}
        self._enterers: dict[str, asyncio.Task[None]] = {}
        self._lists_stamp: object = None
        self._looked = 0.0
        self._sharing = asyncio.Lock()

    async def classes(self) -> list[Class]:
        await self._look()
        sections = await self._all()
        if not sections:
            await self._add_classes([Class(FIRST_CLASS, "My class", "")])
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
        self._sections = None
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

    async def join(
        self, class_id: str, *, name: str | None = None, student_id: str | None = None, token: str | None = None
    ) -> Joined:
        section = next((section for section in await self.classes() if section.class_id == class_id), None)
        if section is None:
            raise JoinError("unknown_class", "There is no such class.")
        if not section.open:
            raise JoinError("class_closed", "This class takes nobody just now. Ask your teacher to open it.")
        if name is not None:
            try:
                name = clean_name(name, self._limits.name_characters)
            except ValueError as error:
                if len(name) > self._limits.name_characters:
                    self._counters.add("limit_student_name_characters")
                raise JoinError("bad_name", str(error)) from None
        known = await self.student_by_token(token) if token is not None else None
        if known is not None and known.class_id == class_id and student_id in (None, known.student_id):
            return await self._return(known, name, token or "")
        if student_id is not None:
            member = (await self._members(class_id)).get(student_id)
            if member is None or not member.student.listed:
                raise JoinError("unknown_student", "The class list has no such student.")
            return await self._give_token(member.student)
        if name is None:
            raise JoinError("bad_name", "Write a name first.")
        listed = listed_as(name, (m.student for m in (await self._members(class_id)).values()))
        claimed = await self._claim(listed) if listed is not None else None
        return claimed or await self._admit(Student(_new_id(), name, class_id))

    async def student_by_token(self, token: str) -> Student | None:
        student_id = _student_of(token)
        held = await self._held(student_id) if student_id is not None else None
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
        for problem in read_lists(self._folder, self._limits, FIRST_CLASS).problems:
            yield Finding("list", problem, False)
        sections = await self._all()
        students = [await self._members(s.section.class_id) for s in sections]
        yield Finding(f"in the store ({len(sections)} classes, {sum(map(len, students))} students)")

    def forget(self, class_id: str | None = None) -> None:
        self._sections = None
        for known in [class_id] if class_id is not None else list(self._classes):
            if known in self._classes:
                self._classes[known].read = float("-inf")

    async def close(self) -> None:
        await asyncio.gather(*self._enterers.values(), return_exceptions=True)

    async def _all(self) -> list[_Section]:
        if self._sections is None or time.monotonic() - self._sections_read > FRESH_SECONDS:
            read = time.monotonic()
            [rows] = await self._records.read(CLASSES)
            found = (_decode_section(row) for row in rows.values())
            self._sections = sorted(found, key=lambda s: (s.order, s.section.class_id))
            self._sections_read = read
        return self._sections

    async def _members(self, class_id: str) -> dict[str, _Member]:
        cached = self._classes.get(class_id)
        if cached is None or time.monotonic() - cached.read > FRESH_SECONDS:
            read = time.monotonic()
            [rows] = await self._records.read(class_key(class_id))
            cached = _Cached({id: _decode_member(row) for id, row in rows.items()}, read)
            self._classes[class_id] = cached
            self._class_of.update(dict.fromkeys(cached.members, class_id))
        return cached.members

    async def _held(self, student_id: str) -> _Held | None:
        [rows] = await self._records.read(student_row(student_id))
        return _decode_held(rows[_HELD]) if _HELD in rows else None

    async def _without_row(self, student_id: str) -> Student | None:
        """A student who is in a class and has no row of its own, as after a node that died while removing."""
        for section in await self._all():
            member = (await self._members(section.section.class_id)).get(student_id)
            if member is not None:
                return member.student
        return None

    async def _return(self, student: Student, name: str | None, token: str) -> Joined:
        """The same browser again; a name it gives takes the place of the one it gave before."""
        if name is None or name == student.name or student.listed:
            return Joined(student, token)
        renamed = Student(student.student_id, name, student.class_id)

        def rename(rows: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            if _HELD not in rows:
                raise JoinError("unknown_student", "You were just taken out of the class. Join again.")
            return {_HELD: _Held(renamed, _decode_held(rows[_HELD]).tokens)}

        await self._records.update(student_row(student.student_id), rename)
        await self._records.update(
            class_key(student.class_id),
            lambda rows: {student.student_id: _Member(renamed)} if student.student_id in rows else {},
        )
        self.forget(student.class_id)
        return Joined(renamed, token)

    async def _admit(self, student: Student) -> Joined:
        """Take a new student into a class.

        The student's own row comes first: where the node dies in between, nobody sees a student who never came.
        """
        if len(await self._members(student.class_id)) >= self._limits.students:
            self._classes[student.class_id].read = float("-inf")
        if len(await self._members(student.class_id)) >= self._limits.students:
            raise self._full()
        joined = await self._give_token(student)
        if not await self._enter(_Member(student)):
            await self._records.update(student_row(student.student_id), lambda rows: {_HELD: None})
            raise self._full()
        return joined

    async def _give_token(self, student: Student) -> Joined:
        token = _token_for(student.student_id)

        def add(rows: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            tokens = _decode_held(rows[_HELD]).tokens if _HELD in rows else ()
            if len(tokens) >= self._limits.tokens:
                self._counters.add("limit_tokens_per_student")
            return {_HELD: _Held(student, (*tokens, token_hash(token))[-self._limits.tokens :])}

        await self._records.update(student_row(student.student_id), add)
        return Joined(student, token)

    async def _claim(self, listed: Student) -> Joined | None:
        """Let in who typed a listed name first, at whichever node; None where somebody holds a token already."""
        token = _token_for(listed.student_id)
        claimed: list[bool] = []

        def claim(rows: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            claimed[:] = [_HELD not in rows or not _decode_held(rows[_HELD]).tokens]
            return {_HELD: _Held(listed, (token_hash(token),))} if claimed[0] else {}

        await self._records.update(student_row(listed.student_id), claim)
        return Joined(listed, token) if claimed[0] else None

    def _full(self) -> JoinError:
        self._counters.add("limit_students_per_class")
        return JoinError("class_full", "This class is full. Ask your teacher.")

    async def _enter(self, member: _Member) -> bool:
        """Put a student into a class; many who come at once share one change. False where the class is full."""
        class_id = member.student.class_id
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._entering.setdefault(class_id, []).append((member, done))
        if class_id not in self._enterers:
            self._enterers[class_id] = asyncio.create_task(self._enter_waiting(class_id), name="joining")
        return await asyncio.shield(done)

    async def _enter_waiting(self, class_id: str) -> None:
        entered: dict[str, object] = {}

        def enter(rows: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            room = max(0, self._limits.students - len(rows))
            entered.clear()
            entered.update({member.student.student_id: member for member, _ in batch[:room]})
            return entered

        try:
            while batch := self._entering.pop(class_id, []):
                try:
                    await self._records.update(class_key(class_id), enter)
                except Exception as error:
                    for _, done in batch:
                        if not done.done():
                            done.set_exception(error)
                            done.exception()
                    continue
                cached = self._classes.get(class_id)
                if len(entered) < len(batch):
                    self.forget(class_id)
                elif cached is not None:
                    cached.members.update(
                        {m.student.student_id: m for m, _ in batch if m.student.student_id in entered}
                    )
                    self._class_of.update(dict.fromkeys(map(str, entered), class_id))
                for member, done in batch:
                    if not done.done():
                        done.set_result(member.student.student_id in entered)
        finally:
            del self._enterers[class_id]

    async def _look(self) -> None:
        """Share this node's lists where they changed; looked at once a second at the most."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        async with self._sharing:
            if time.monotonic() - self._looked < _LOOK_SECONDS:
                return
            stamp = [_stamp(self._folder / name) for name in ("classes.csv", "students.csv")]
            if stamp != self._lists_stamp:
                lists = read_lists(self._folder, self._limits, FIRST_CLASS)
                self.problems = list(lists.problems)
                for problem in lists.problems:
                    log.warning("%s", problem)
                await self._share(lists)
                self._lists_stamp = stamp
            self._looked = time.monotonic()

    async def _share(self, lists: Lists) -> None:
        """Let all nodes know this node's lists, and who is no longer in them."""
        await self._add_classes(lists.classes.values())
        known = {s.section.class_id for s in await self._all()}
        for class_id in sorted(known | lists.classes.keys()):
            here = {s.student_id: _Member(s, self._node) for s in lists.students.values() if s.class_id == class_id}
            gone: set[str] = set()

            def share(
                rows: Mapping[str, msgspec.Raw], here: dict[str, _Member] = here, gone: set[str] = gone
            ) -> dict[str, object]:
                there = {id: _decode_member(row) for id, row in rows.items()}
                gone.clear()
                gone.update(id for id, member in there.items() if member.by == self._node and id not in here)
                new = {id: member for id, member in here.items() if _differs(there.get(id), member)}
                return {**new, **dict.fromkeys(gone)}

            await self._records.update(class_key(class_id), share)
            self.forget(class_id)
            for student_id in gone - lists.students.keys():
                await self._records.update(student_row(student_id), lambda rows: {_HELD: None} if _HELD in rows else {})
            await self._rename_listed(here)

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

    async def _add_classes(self, sections: Iterable[Class]) -> None:
        """Add the classes that are not there yet; one without a code gets one that no other class has."""
        wanted = list(sections)
        if not wanted:
            return

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
        self._sections = None
        if new:
            self.on_classes()


def _differs(there: _Member | None, member: _Member) -> bool:
    return there is None or there.student != member.student or not there.by


def _new_id() -> str:
    return "s-" + base64.b32encode(secrets.token_bytes(10))[:10].decode().lower()


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


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
