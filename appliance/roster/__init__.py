"""Roster: who is who. Classes, the students in them, the codes they join by and the tokens they hold.

A class has a join code that a teacher can read aloud. A student who joins gets a token, which the browser
keeps and shows at every connection; only its hash is stored. Names and ids are the student's own data: they
go to educators' pages and into this store, never into a log or an error.
"""

from __future__ import annotations

import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from appliance.backends import Facts, scheme_of
from appliance.counters import Counters
from appliance.errors import ObserverError, SettingsError
from appliance.health import Finding, nothing
from appliance.listeners import Listeners

if TYPE_CHECKING:
    from appliance.config import LimitSettings

FIRST_CLASS = "class-1"
"""The id of the class that is made where there is none, and of students for whom a list names none."""
CODE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
CODE_DIGITS = "23456789"


class Class(msgspec.Struct, frozen=True):
    """A class (OneRoster: section).

    Attributes:
        class_id: stable id.
        title: what the teacher calls it.
        code: the join code, such as ``ABC-234``.
        open: whether students may join.
    """

    class_id: str
    title: str
    code: str
    open: bool = True


class Student(msgspec.Struct, frozen=True):
    """A student of one class.

    Attributes:
        student_id: stable id.
        name: as the student gave it, or as the roster knows it.
        class_id: the class.
        listed: whether the educator's list names the student; others came in by joining.
    """

    student_id: str
    name: str
    class_id: str
    listed: bool = False


class Joined(msgspec.Struct, frozen=True):
    """What joining gives: the student, and the token that only the student's browser keeps."""

    student: Student
    token: str


class RosterLimits(msgspec.Struct, frozen=True):
    """Attributes:
    students: students in one class, listed and joined together.
    tokens: tokens one student may hold; a further one takes the place of the oldest.
    name_characters: length of a student's name.
    file_bytes: length of one class list.
    """

    students: int = 1000
    tokens: int = 20
    name_characters: int = 80
    file_bytes: int = 10 * 1024 * 1024

    @classmethod
    def of(cls, limits: LimitSettings) -> RosterLimits:
        """The roster's share of the configured limits."""
        return cls(
            limits.students_per_class,
            limits.tokens_per_student,
            limits.student_name_characters,
            limits.roster_file_bytes,
        )


class JoinError(ObserverError):
    """A student cannot join.

    Attributes:
        code: a stable word: ``class_closed``, ``class_full``, ``unknown_student``, ``bad_name``, ``unknown_class``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Roster(ABC):
    """Classes, students, codes and tokens. All that a method returns is durable when it returns.

    Attributes:
        on_change: called when classes were added, or a list of this node names other students than before. Lists are
            looked at when `classes` or `students` is asked.
    """

    def __init__(self) -> None:
        self._list_findings: list[Finding] = []
        self.on_change: Listeners[[]] = Listeners("changes of the roster")

    @abstractmethod
    async def classes(self) -> list[Class]:
        """All classes, in the order in which they were made. There is always at least one."""

    async def class_ids(self) -> list[str]:
        """The ids of all classes, without making a class that a file names for the first time."""
        return [section.class_id for section in await self.classes()]

    @abstractmethod
    async def change_class(
        self, class_id: str, *, title: str | None = None, code: str | None = None, open: bool | None = None
    ) -> Class:
        """Change what is given, leave the rest.

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
        self, class_id: str, *, name: str | None = None, student_id: str | None = None, token: str | None = None
    ) -> Joined:
        """Let a student into a class.

        A browser that still holds a token of this class is the same student again, whatever name it gives
        (the name is changed to the new one unless the educator's list gave it), and keeps that token.
        Otherwise `student_id` picks a student from the list. `name` does so too where one student of the class's
        list has it and nobody holds a token of that student; else it makes a new student.

        Raises:
            JoinError: with the code that says why not.
        """

    @abstractmethod
    async def student_by_token(self, token: str) -> Student | None:
        """Whose token this is."""

    @abstractmethod
    async def remove(self, student_id: str) -> Student | None:
        """Make a student's tokens worthless and take the student out of the class; returns who it was.

        A student whom the educator's list names is signed out and stays on the list.
        """

    def findings(self) -> list[Finding]:
        """What is wrong with educators' lists and with files, without anybody's name."""
        return list(self._list_findings)

    def examine(self) -> AsyncGenerator[Finding, None]:
        """What IT staff should know of the server behind the roster: its version, rights, settings, clock.

        The command `check` prints them. It makes the section of the configuration their source, and reads the classes
        by itself.

        Raises:
            BackendError: it cannot be reached.
        """
        return nothing()

    def forget(self, class_id: str | None = None) -> None:
        """Read a class, or all, anew at the next question: another node may have changed it."""

    async def close(self) -> None:
        """Let go of files and connections."""


def new_code() -> str:
    """A join code, ``ABC-234``: no letter or digit that is easily taken for another. About 7 million of them."""
    letters = "".join(secrets.choice(CODE_LETTERS) for _ in range(3))
    return letters + "-" + "".join(secrets.choice(CODE_DIGITS) for _ in range(3))


def plain_code(code: str) -> str:
    """A code as it is compared: upper case, with nothing but letters and digits."""
    return "".join(character for character in code.upper() if character.isalnum())


def new_token() -> str:
    """A token: 256 random bits, URL-safe."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """What is stored of a token. It is random enough that a plain SHA-256 cannot be searched."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def roster_facts(url: str) -> Facts:
    """Facts about the roster that a URL names; it is not opened."""
    scheme, _, path = url.partition(":")
    if scheme == "file":
        return Facts(scheme, shared=False, folder=Path(path) if path else None)
    return Facts(scheme, shared=True)


def open_roster(url: str, limits: RosterLimits, counters: Counters) -> Roster:
    """The roster that a URL names: ``file:PATH``, a folder. The scheme picks the backend, imported only then.

    Raises:
        SettingsError: no backend has that scheme, or its files cannot be read; the text says which and where.
    """
    folder = roster_facts(url).folder
    if folder is not None:
        from appliance.roster.flatfile import FlatFileRoster

        return FlatFileRoster(folder, limits, counters)
    raise SettingsError(f"roster: {scheme_of(url)!r} is not a roster this version knows; use file: and a folder.")
