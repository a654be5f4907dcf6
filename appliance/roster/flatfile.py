"""The flat-file roster: an educator's class lists (`lists.py`), and a journal of all that the program learns.

``roster.jsonl`` in the same folder holds, a line each, classes, students who joined, hashes of their tokens, and who
was taken out. Lines are only ever added and are on the disk before anybody is told. A line torn by a power cut was
never answered; it and any damaged line are moved into ``roster-damaged.jsonl`` at the next change. One program at a
time may write here: the one that serves.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from appliance.counters import Counters
from appliance.errors import BackendError, SettingsError
from appliance.files import sync_folder, write_all, write_private
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

log = logging.getLogger(__name__)

FIRST_CLASS = "class-1"
_LOOK_SECONDS = 1.0


class _Token(msgspec.Struct, frozen=True):
    student_id: str
    hash: str


class _Entry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line of the journal; one field is set."""

    section: Class | None = msgspec.field(default=None, name="class")
    student: Student | None = None
    token: _Token | None = None
    removed: str | None = None


_decode_entry = msgspec.json.Decoder(_Entry).decode


class FlatFileRoster(Roster):
    """Keeps a school's classes in one folder of text files.

    Attributes:
        problems: what is wrong with the files, each a sentence without anybody's name.
    """

    def __init__(self, folder: Path, limits: RosterLimits, counters: Counters) -> None:
        """Read the folder; nothing is written before something changes.

        Raises:
            SettingsError: the folder or the journal cannot be read.
        """
        self.problems: list[str] = []
        self._folder = folder
        self._journal = folder / "roster.jsonl"
        self._limits = limits
        self._counters = counters
        self._classes: dict[str, Class] = {}
        self._students: dict[str, Student] = {}
        self._owners: dict[str, str] = {}
        self._tokens: dict[str, list[str]] = {}
        self._lists = Lists()
        self._lists_stamp: object = None
        self._looked = 0.0
        self._damaged: list[bytes] = []
        self._joining: dict[str, int] = {}
        self._claiming: set[str] = set()
        self._waiting: list[tuple[list[_Entry], asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._load()
        self._look(now=True)

    @property
    def class_ids(self) -> list[str]:
        """The ids of all classes that the files know; nothing is written."""
        return list(dict.fromkeys([*self._classes, *self._lists.classes]))

    async def classes(self) -> list[Class]:
        self._look()
        missing = [section for section in self._lists.classes.values() if section.class_id not in self._classes]
        new = [Class(s.class_id, s.title, s.code or self._free_code()) for s in missing]
        if not self._classes and not new:
            new = [Class(FIRST_CLASS, "My class", self._free_code())]
        if new:
            await self._write(_Entry(section=section) for section in new if section.class_id not in self._classes)
        return [section for section in self._classes.values() if self._is_used(section.class_id)]

    async def change_class(
        self, class_id: str, *, title: str | None = None, code: str | None = None, open: bool | None = None
    ) -> Class:
        section = next((section for section in await self.classes() if section.class_id == class_id), None)
        if section is None:
            raise JoinError("unknown_class", "There is no such class.")
        changed = Class(
            class_id,
            section.title if title is None else title,
            section.code if code is None else code,
            section.open if open is None else open,
        )
        if changed != section:
            await self._write([_Entry(section=changed)])
        return changed

    async def students(self, class_id: str) -> list[Student]:
        self._look()
        found = [s for s in self._lists.students.values() if s.class_id == class_id]
        found += [s for s in self._students.values() if s.class_id == class_id and not self._is_listed(s.student_id)]
        return sorted(found, key=lambda student: (student.name.casefold(), student.student_id))

    async def student(self, student_id: str) -> Student | None:
        self._look()
        return self._lists.students.get(student_id) or self._students.get(student_id)

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
            listed = self._lists.students.get(student_id)
            if listed is None or listed.class_id != class_id:
                raise JoinError("unknown_student", "The class list has no such student.")
            return await self._admit(listed)
        if name is None:
            raise JoinError("bad_name", "Write a name first.")
        listed = listed_as(name, await self.students(class_id))
        if listed is not None and not self._tokens.get(listed.student_id) and listed.student_id not in self._claiming:
            return await self._claim(listed)
        number = len(await self.students(class_id)) + self._joining.get(class_id, 0)
        if number >= self._limits.students:
            self._counters.add("limit_students_per_class")
            raise JoinError("class_full", "This class is full. Ask your teacher.")
        self._joining[class_id] = self._joining.get(class_id, 0) + 1
        try:
            return await self._admit(Student(_new_id(), name, class_id))
        finally:
            self._joining[class_id] -= 1

    async def student_by_token(self, token: str) -> Student | None:
        owner = self._owners.get(token_hash(token))
        return None if owner is None else await self.student(owner)

    async def remove(self, student_id: str) -> Student | None:
        student = await self.student(student_id)
        if student is not None:
            await self._write([_Entry(removed=student_id)])
        return student

    async def close(self) -> None:
        while self._writer is not None:
            await asyncio.wait([self._writer])

    async def _return(self, student: Student, name: str | None, token: str) -> Joined:
        """The same browser again; a name it gives takes the place of the one it gave before."""
        if name is not None and name != student.name and not student.listed:
            student = Student(student.student_id, name, student.class_id)
            await self._write([_Entry(student=student)])
        return Joined(student, token)

    async def _claim(self, listed: Student) -> Joined:
        """Let in who typed a listed name first; others who type it meanwhile are others."""
        self._claiming.add(listed.student_id)
        try:
            return await self._admit(listed)
        finally:
            self._claiming.discard(listed.student_id)

    async def _admit(self, student: Student) -> Joined:
        token = new_token()
        entries = [] if student.listed else [_Entry(student=student)]
        await self._write([*entries, _Entry(token=_Token(student.student_id, token_hash(token)))])
        return Joined(student, token)

    def _is_listed(self, student_id: str) -> bool:
        return student_id in self._lists.students

    def _is_used(self, class_id: str) -> bool:
        """The class that is made at first vanishes once there are lists, unless students came into it."""
        return (
            class_id != FIRST_CLASS
            or not self._lists.classes
            or class_id in self._lists.classes
            or any(student.class_id == class_id for student in self._students.values())
        )

    def _free_code(self) -> str:
        taken = {plain_code(section.code) for section in (*self._classes.values(), *self._lists.classes.values())}
        while plain_code(code := new_code()) in taken:
            pass
        return code

    def _look(self, *, now: bool = False) -> None:
        """Read the lists again where they changed; looked at once a second at the most."""
        clock = time.monotonic()
        if not now and clock - self._looked < _LOOK_SECONDS:
            return
        self._looked = clock
        stamp = [_stamp(self._folder / name) for name in ("classes.csv", "students.csv")]
        if stamp == self._lists_stamp:
            return
        self._lists_stamp = stamp
        self._lists = read_lists(self._folder, self._limits, FIRST_CLASS)
        self.problems = [*self._lists.problems, *self._journal_problem()]
        for problem in self._lists.problems:
            log.warning("%s", problem)

    def _journal_problem(self) -> list[str]:
        if not self._damaged:
            return []
        return [f"roster.jsonl: {len(self._damaged)} lines were damaged and are left out."]

    def _load(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            content = self._journal.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise SettingsError(f"The roster {self._folder} cannot be used: {error.strerror}.") from error
        lines = content.split(b"\n")
        torn = lines.pop()
        for line in lines:
            try:
                self._apply(_decode_entry(line))
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._damaged.append(line)
        if torn:
            self._damaged.append(torn)
        if self._damaged:
            self._counters.add("roster_lines_damaged", len(self._damaged))
            log.warning(
                "%s: %d lines are damaged, as after a power cut, and are left out.", self._journal, len(self._damaged)
            )

    def _apply(self, entry: _Entry) -> None:
        if entry.section is not None:
            self._classes[entry.section.class_id] = entry.section
        if entry.student is not None:
            self._students[entry.student.student_id] = entry.student
        if entry.token is not None:
            self._owners[entry.token.hash] = entry.token.student_id
            tokens = self._tokens.setdefault(entry.token.student_id, [])
            tokens.append(entry.token.hash)
            while len(tokens) > self._limits.tokens:
                self._owners.pop(tokens.pop(0), None)
                self._counters.add("limit_tokens_per_student")
        if entry.removed is not None:
            self._students.pop(entry.removed, None)
            for hash in self._tokens.pop(entry.removed, ()):
                self._owners.pop(hash, None)

    async def _write(self, entries: Iterable[_Entry]) -> None:
        """Make entries durable, then true; entries of many who join at once share one fsync.

        Raises:
            BackendError: the disk does not take them; nothing has changed then.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((list(entries), done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_waiting(), name="roster journal")
        # Who asked may go away; what was asked for is done all the same.
        await asyncio.shield(done)

    async def _write_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                entries = [entry for group, _ in batch for entry in group]
                error = await asyncio.to_thread(self._append, entries)
                for entry in [] if error else entries:
                    self._apply(entry)
                for _, done in batch:
                    if done.done():
                        continue
                    if error:
                        done.set_exception(BackendError(f"The roster cannot be written: {error.strerror}."))
                        # Where who asked has gone away nobody looks at the error; it is logged below.
                        done.exception()
                    else:
                        done.set_result(None)
                if error:
                    log.error("%s cannot be written: %s.", self._journal, error.strerror)
        finally:
            self._writer = None

    def _append(self, entries: list[_Entry]) -> OSError | None:
        """Add lines to the journal and sync it; on failure it is as before."""
        lines = b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
        try:
            self._mend()
            new = not self._journal.exists()
            handle = os.open(self._journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
            try:
                size = os.fstat(handle).st_size
                try:
                    write_all(handle, lines)
                    os.fsync(handle)
                except OSError:
                    os.ftruncate(handle, size)
                    raise
            finally:
                os.close(handle)
            if new:
                sync_folder(self._folder)
        except OSError as error:
            return error
        return None

    def _mend(self) -> None:
        """Write the journal without its damaged lines, which are kept beside it."""
        if not self._damaged:
            return
        aside = self._folder / "roster-damaged.jsonl"
        before = aside.read_bytes() if aside.exists() else b""
        write_private(aside, before + b"".join(line + b"\n" for line in self._damaged))
        good = [line for line in self._journal.read_bytes().split(b"\n") if line and line not in self._damaged]
        write_private(self._journal, b"".join(line + b"\n" for line in good))
        self._damaged = []


def _new_id() -> str:
    return "s-" + base64.b32encode(secrets.token_bytes(10))[:10].decode().lower()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
