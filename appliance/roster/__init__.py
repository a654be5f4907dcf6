"""Roster: classes, their students, join codes and students' tokens.

A class has a join code that a teacher can read aloud. A student who joins gets a token, which the browser keeps and
sends at every connection; only its hash is stored. Names and ids are personal data: they are in this store and on
educators' pages, never in a log or an error.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from appliance.backends import Facts, scheme_of
from appliance.counters import Counters
from appliance.errors import SettingsError
from appliance.health import Finding, nothing
from appliance.listeners import Listeners
from appliance.roster.codes import CODE_DIGITS, CODE_LETTERS, new_code
from appliance.roster.errors import JoinError
from appliance.roster.tables import Class, Student, plain_code

if TYPE_CHECKING:
    from appliance.config import LimitSettings, Settings
    from appliance.kvs.records import SharedRecords

__all__ = (
    "CODE_DIGITS",
    "CODE_LETTERS",
    "FIRST_CLASS",
    "Class",
    "JoinError",
    "Joined",
    "Roster",
    "RosterLimits",
    "Student",
    "new_code",
    "new_student_id",
    "new_token",
    "open_roster",
    "open_shared_roster",
    "plain_code",
    "roster_facts",
    "token_hash",
)

FIRST_CLASS = "class-1"
"""The id of the class that is created if there is none, and of students for whom a list names no class."""


class Joined(msgspec.Struct, frozen=True):
    """Result of joining: the student, and the token that only the student's browser keeps."""

    student: Student
    token: str


class RosterLimits(msgspec.Struct, frozen=True):
    """Attributes:
    students: the most students in one class, listed and joined together.
    tokens: the most tokens of one student; a further one replaces the oldest.
    name_characters: the most characters of a student's name.
    file_bytes: the most bytes of one class list.
    requests: the most open questions of one class to its educators.
    request_seconds: after so long such a question is deleted.
    """

    students: int = 1000
    tokens: int = 20
    name_characters: int = 80
    file_bytes: int = 10 * 1024 * 1024
    requests: int = 100
    request_seconds: int = 1800

    @classmethod
    def of(cls, limits: LimitSettings) -> RosterLimits:
        """Those of the configured limits that concern the roster."""
        return cls(
            limits.students_per_class,
            limits.tokens_per_student,
            limits.student_name_characters,
            limits.roster_file_bytes,
            limits.join_requests,
            limits.join_request_seconds,
        )


class Roster(ABC):
    """Classes, students, join codes and tokens. Each change is durable when its method returns.

    Attributes:
        on_change: called when classes were added, or the students of a list of this node have changed. Lists are
            checked when `classes` or `students` is called.
    """

    def __init__(self) -> None:
        self._list_findings: list[Finding] = []
        self.on_change: Listeners[[]] = Listeners("changes of the roster")

    @abstractmethod
    async def classes(self) -> list[Class]:
        """All classes, in the order of their creation. There is always at least one."""

    async def class_ids(self) -> list[str]:
        """The ids of all classes, without making a class that a file names for the first time."""
        return [section.class_id for section in await self.classes()]

    @abstractmethod
    async def change_class(
        self, class_id: str, *, title: str | None = None, code: str | None = None, open: bool | None = None
    ) -> Class:
        """Change the given attributes of a class.

        Raises:
            JoinError: ``unknown_class``.
        """

    @abstractmethod
    async def students(self, class_id: str) -> list[Student]:
        """The students of a class, by name."""

    @abstractmethod
    async def student(self, student_id: str) -> Student | None:
        """The student with this id."""

    @abstractmethod
    async def join(
        self,
        class_id: str,
        *,
        name: str | None = None,
        student_id: str | None = None,
        token: str | None = None,
        new_id: str | None = None,
    ) -> Joined:
        """Let a student into a class.

        A browser that still has a token of this class stays the same student and keeps the token; the name is changed
        to the new one unless it is from the educator's list. Otherwise `student_id` chooses a student of the list.
        `name` does so too if exactly one student of the class's list has it and no token of that student exists; else a
        new student is created, with the id `new_id` (default: any `new_student_id`).

        Raises:
            JoinError: with the code of the reason.
        """

    @abstractmethod
    async def student_by_token(self, token: str) -> Student | None:
        """The student who has this token, None if nobody has it."""

    @abstractmethod
    async def remove(self, student_id: str) -> Student | None:
        """Remove a student from the class and make the student's tokens invalid; returns the student.

        A student of the educator's list stays on the list, and is only signed out.
        """

    def findings(self) -> list[Finding]:
        """Problems of educators' lists and of files, without names of persons."""
        return list(self._list_findings)

    def examine(self) -> AsyncGenerator[Finding, None]:
        """Findings for IT staff on the server of the roster: its version, rights, settings, clock.

        The command `check` prints them, with the section of the configuration as their source. It reads the classes
        itself.

        Raises:
            BackendError: it cannot be reached.
        """
        return nothing()

    def forget(self, class_id: str | None = None) -> None:
        """Read a class, or all, from the store at the next request: another node may have changed it."""

    async def close(self) -> None:
        """Close files and connections."""


def open_shared_roster(settings: Settings, records: SharedRecords, counters: Counters) -> Roster:
    """The roster that all nodes share, with the lists in this node's data folder.

    Args:
        settings: this node's.
        records: what the nodes share.
        counters: counts limits that are hit.
    """
    from appliance.roster.shared import SharedRoster

    folder, limits = settings.data_path / "roster", RosterLimits.of(settings.limits)
    return SharedRoster(records, folder, settings.node_name, limits, counters)


def new_student_id() -> str:
    """An id for a new student: 50 random bits."""
    return "s-" + base64.b32encode(secrets.token_bytes(10))[:10].decode().lower()


def new_token() -> str:
    """A token: 256 random bits, URL-safe."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """The hash under which a token is stored: SHA-256, which is enough for 256 random bits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def roster_facts(url: str) -> Facts:
    """Facts about the roster that a URL names; it is not opened."""
    scheme, _, path = url.partition(":")
    if scheme == "file":
        return Facts(scheme, shared=False, folder=Path(path) if path else None)
    return Facts(scheme, shared=True)


def open_roster(url: str, limits: RosterLimits, counters: Counters) -> Roster:
    """The roster of a URL: ``file:PATH``, a folder. The scheme selects the backend, which is imported only then.

    Raises:
        SettingsError: no backend has that scheme, or its files cannot be read.
    """
    folder = roster_facts(url).folder
    if folder is not None:
        from appliance.roster.flatfile import FlatFileRoster

        return FlatFileRoster(folder, limits, counters)
    raise SettingsError(f"roster: {scheme_of(url)!r} is not a roster this version knows; use file: and a folder.")
