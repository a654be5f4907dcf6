"""The shared roster: classes and students of all nodes that share a key-value store, the same on each of them.

It is kept in shared records (`appliance.kvs.records`), which nodes put back if the store has lost them; its rows are
those of `appliance.roster.shared_rows`. An educator's lists (`lists.py`) are read from this node's folder and shared
with all other nodes, so a list in any node's folder counts everywhere. Tokens are never cached.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from appliance.coalescing import RequestCoalescer
from appliance.counters import Counters
from appliance.health import Finding, finding
from appliance.kvs.records import SharedRecords
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
from appliance.roster.class_members import FRESH_SECONDS, ClassMembers
from appliance.roster.lists import ListFolder, Lists, read_lists
from appliance.roster.policy import JoinPolicy
from appliance.roster.shared_rows import (
    CLASSES,
    ClassRecord,
    MemberRecord,
    StudentRecord,
    class_key,
    decode_class,
    decode_member,
    student_change,
    student_in,
    student_row,
)
from appliance.roster.store import RosterStore

_TOKEN_CHARACTERS = 2000


class SharedRoster(JoinPolicy):
    """Classes and students of all nodes that share a store."""

    def __init__(
        self,
        records: SharedRecords,
        store: RosterStore,
        folder: Path,
        node: str,
        limits: RosterLimits,
        counters: Counters,
    ) -> None:
        """Args:
        records: what the nodes share.
        store: the tables of this node.
        folder: the folder of this node's lists; it need not exist.
        node: this node's name.
        limits: limits of the roster.
        counters: counts limits that are hit.
        """
        # Accounts and sessions are in a file of this node.
        super().__init__(store, limits, counters)
        self._list_findings: list[Finding] = []
        self._records = records
        self._folder = folder
        self._node = node
        self._class_list: list[ClassRecord] = []
        self._class_list_read = self._class_list_forgotten = float("-inf")
        self._members = ClassMembers(records, limits.students)
        self._list_folder = ListFolder(folder, limits)
        self._sharing = asyncio.Lock()
        # When a whole school reconnects at once, its tokens are read together.
        self._students: RequestCoalescer[str, StudentRecord | None] = RequestCoalescer(self._read_students)

    async def classes(self) -> list[Class]:
        await self._share_changed_lists()
        sections = await self._classes()
        if not sections:
            if await self._add_classes([Class(FIRST_CLASS, "My class", "")]):
                self.on_change()
            sections = await self._classes()
        others = [s for s in sections if s.section.class_id != FIRST_CLASS]
        # The first class is hidden as soon as there are others, unless students have joined it.
        if others and len(others) < len(sections) and not await self._members.of(FIRST_CLASS):
            sections = others
        return [s.section for s in sections]

    async def change_class(
        self,
        class_id: str,
        *,
        title: str | None = None,
        code: str | None = None,
        open: bool | None = None,
        approval: bool | None = None,
    ) -> Class:
        changed: list[Class] = []

        def change(row: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            if class_id not in row:
                raise JoinError("unknown_class", "There is no such class.")
            record = decode_class(row[class_id])
            before = record.section
            after = Class(
                class_id,
                before.title if title is None else title,
                before.code if code is None else code,
                before.open if open is None else open,
                before.approval if approval is None else approval,
            )
            changed[:] = [after]
            return {} if after == before else {class_id: ClassRecord(after, record.order)}

        await self._records.update(CLASSES, change)
        self._forget_class_list()
        return changed[0]

    async def class_ids(self) -> list[str]:
        return [section.class_id for section in await self.classes()]

    async def class_by_code(self, code: str) -> Class | None:
        plain = plain_code(code)
        return next((one for one in await self.classes() if plain and plain_code(one.code) == plain), None)

    async def students(self, class_id: str) -> list[Student]:
        await self._share_changed_lists()
        found = [member.student for member in (await self._members.of(class_id)).values()]
        return sorted(found, key=lambda student: (student.name.casefold(), student.student_id))

    async def student(self, student_id: str) -> Student | None:
        class_id = self._members.class_of(student_id)
        if class_id is not None:
            member = (await self._members.of(class_id)).get(student_id)
            if member is not None:
                return member.student
        [record] = await self._read_students([student_id])
        return record.student if record else None

    async def student_by_token(self, token: str) -> Student | None:
        student_id = _student_of(token)
        record = await self._students(student_id) if student_id is not None else None
        return record.student if record is not None and token_hash(token) in record.tokens else None

    async def discard(self, student_id: str) -> Student | None:
        return await self.remove(student_id)

    async def remove(self, student_id: str, *, barred_until: float | None = None) -> Student | None:
        removed: list[Student] = []

        def remove(row: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            record = student_in(row)
            if record is None:
                return {}
            removed[:] = [record.student]
            return student_change(StudentRecord(record.student) if record.student.listed else None)

        await self._records.update(student_row(student_id), remove)
        student = removed[0] if removed else await self._member_without_row(student_id)
        if student is not None and not student.listed:
            await self._records.update(
                class_key(student.class_id), lambda row: {student_id: None} if student_id in row else {}
            )
        if student is not None:
            self.forget(student.class_id)
        return student

    def findings(self) -> list[Finding]:
        return [*self._list_findings, *self.store.findings()]

    async def examine(self) -> AsyncGenerator[Finding, None]:
        for found in read_lists(self._folder, self.limits).findings:
            yield found
        sections = await self._classes()
        students = [await self._members.of(s.section.class_id) for s in sections]
        yield finding("roster.shared", classes=len(sections), students=sum(map(len, students)))

    def forget(self, class_id: str | None = None) -> None:
        self._forget_class_list()
        self._members.forget(class_id)

    async def close(self) -> None:
        await self._members.close()
        await super().close()

    def _forget_class_list(self) -> None:
        self._class_list_forgotten = time.monotonic()

    async def _classes(self) -> list[ClassRecord]:
        """All classes, also the first one while it is hidden."""
        read = self._class_list_read
        if read <= self._class_list_forgotten or time.monotonic() - read > FRESH_SECONDS:
            read = time.monotonic()
            [row] = await self._records.read(CLASSES)
            self._class_list = sorted(map(decode_class, row.values()), key=lambda c: (c.order, c.section.class_id))
            self._class_list_read = read
        return self._class_list

    async def _read_students(self, student_ids: Sequence[str]) -> list[StudentRecord | None]:
        return [student_in(row) for row in await self._records.read(*map(student_row, student_ids))]

    async def _member_without_row(self, student_id: str) -> Student | None:
        """A student of a class who has no row: the node that removed the student ended before it was done."""
        for record in await self._classes():
            member = (await self._members.of(record.section.class_id)).get(student_id)
            if member is not None:
                return member.student
        return None

    async def _listed(self, class_id: str, student_id: str) -> Student | None:
        member = (await self._members.of(class_id)).get(student_id)
        return member.student if member is not None and member.student.listed else None

    async def _rename(self, student: Student) -> None:
        def rename(row: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            record = student_in(row)
            if record is None:
                raise JoinError("unknown_student", "Your teacher has removed you. Join again.")
            return student_change(StudentRecord(student, record.tokens))

        await self._records.update(student_row(student.student_id), rename)
        await self._records.update(
            class_key(student.class_id),
            lambda row: {student.student_id: MemberRecord(student)} if student.student_id in row else {},
        )
        self.forget(student.class_id)

    async def _admit_new(self, student: Student) -> Joined:
        if len(await self._members.of(student.class_id)) >= self.limits.students:
            self.forget(student.class_id)
        if len(await self._members.of(student.class_id)) >= self.limits.students:
            raise self.full()
        # The student's own row comes first, so a node that ends in between leaves nobody in the class who never came.
        joined = await self._add_token(student)
        if not await self._members.add(MemberRecord(student)):
            await self._records.update(student_row(student.student_id), lambda row: student_change(None))
            raise self.full()
        return joined

    async def _add_token(self, student: Student) -> Joined:
        token = _token_for(student.student_id)

        def add(row: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            record = student_in(row) or StudentRecord(student)
            if len(record.tokens) >= self.limits.tokens:
                self.counters.add("limit_tokens_per_student")
            tokens = (*record.tokens, token_hash(token))[-self.limits.tokens :]
            return student_change(StudentRecord(student, tokens))

        await self._records.update(student_row(student.student_id), add)
        return Joined(student, token)

    async def _claim_listed(self, listed: Student) -> Joined | None:
        token = _token_for(listed.student_id)
        claimed: list[bool] = []

        def claim(row: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            record = student_in(row)
            claimed[:] = [record is None or not record.tokens]
            return student_change(StudentRecord(listed, (token_hash(token),))) if claimed[0] else {}

        await self._records.update(student_row(listed.student_id), claim)
        return Joined(listed, token) if claimed[0] else None

    async def _share_changed_lists(self) -> None:
        """Share this node's lists if they have changed."""
        async with self._sharing:
            lists = self._list_folder.changed()
            if lists is not None:
                changed = await self._share(lists)
                self._list_folder.accept()
                self._list_findings = lists.findings
                if changed:
                    self.on_change()

    async def _share(self, lists: Lists) -> bool:
        """Write this node's lists for all nodes; returns whether anything has changed."""
        changed = await self._add_classes(lists.classes.values())
        known = {record.section.class_id for record in await self._classes()}
        for class_id in sorted(known | lists.classes.keys()):
            listed = {
                s.student_id: MemberRecord(s, self._node) for s in lists.students.values() if s.class_id == class_id
            }
            changed |= await self._share_class(class_id, listed, lists)
            await self._update_student_rows(listed)
        return changed

    async def _share_class(self, class_id: str, listed: Mapping[str, MemberRecord], lists: Lists) -> bool:
        """Add this node's listed students to a class, and remove those who are no longer listed.

        Returns:
            Whether anything has changed.
        """
        new: dict[str, object] = {}
        gone: set[str] = set()

        def share(row: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            stored = {id: decode_member(record) for id, record in row.items()}
            new.clear()
            new.update((id, member) for id, member in listed.items() if _differs(stored.get(id), member))
            gone.clear()
            # If a list could not be read, its students stay.
            if not lists.unread:
                gone.update(id for id, member in stored.items() if member.by == self._node and id not in listed)
            return {**new, **dict.fromkeys(gone)}

        await self._records.update(class_key(class_id), share)
        self.forget(class_id)
        for student_id in gone - lists.students.keys():
            await self._records.update(
                student_row(student_id), lambda row: student_change(None) if student_in(row) else {}
            )
        return bool(new or gone)

    async def _update_student_rows(self, listed: Mapping[str, MemberRecord]) -> None:
        """Update the rows of listed students who have joined, if the list has changed them."""
        rows = await self._records.read(*map(student_row, listed))
        for member, row in zip(listed.values(), rows, strict=True):
            record = student_in(row)
            if record is not None and record.student != member.student:
                await self._update_student_row(member.student)

    async def _update_student_row(self, student: Student) -> None:
        def update(row: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            record = student_in(row)
            return student_change(StudentRecord(student, record.tokens)) if record else {}

        await self._records.update(student_row(student.student_id), update)

    async def _add_classes(self, sections: Iterable[Class]) -> bool:
        """Add classes that are new, with a new join code where they have none; returns whether there were any."""
        wanted = list(sections)
        if not wanted:
            return False
        new: dict[str, object] = {}

        def add(row: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            stored = [decode_class(record) for record in row.values()]
            taken = {plain_code(c.section.code) for c in stored} | {plain_code(c.code) for c in wanted if c.code}
            order = max((c.order for c in stored), default=0)
            new.clear()
            for section in wanted:
                if section.class_id in row:
                    continue
                code = section.code
                while not code or (code != section.code and plain_code(code) in taken):
                    code = new_code()
                taken.add(plain_code(code))
                order += 1
                new[section.class_id] = ClassRecord(Class(section.class_id, section.title, code), order)
            return new

        await self._records.update(CLASSES, add, first_wins=True)
        self._forget_class_list()
        return bool(new)


def _differs(stored: MemberRecord | None, member: MemberRecord) -> bool:
    return stored is None or stored.student != member.student or not stored.by


def _token_for(student_id: str) -> str:
    """A token that contains its student's id: 256 random bits, a full stop, and the id in base 64."""
    return f"{new_token()}.{base64.urlsafe_b64encode(student_id.encode()).decode().rstrip('=')}"


def _student_of(token: str) -> str | None:
    """The id of the student in a token, whether or not the token is valid; None if there is none."""
    _, dot, encoded = token.partition(".")
    if not dot or not encoded or len(token) > _TOKEN_CHARACTERS:
        return None
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        return None
