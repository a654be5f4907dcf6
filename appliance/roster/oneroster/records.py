"""Rows of a OneRoster export as the importer needs them. The words are OneRoster's.

A state is what a row means on the day of the import. ``deleted``: status ``tobedeleted`` (or ``inactive``, which
OneRoster 1.0 had). Dates: ``beginDate`` and ``startDate`` are the first day, ``endDate`` is the first day after the end
(OneRoster CSV Tables 1.1.1 and CSV Binding 1.2.1, section 3: academicSessions.csv, enrollments.csv).
"""

from __future__ import annotations

from datetime import date
from typing import Literal

import msgspec

State = Literal["current", "future", "ended", "disabled", "deleted"]
"""``disabled`` is a user with ``enabledUser`` false; ``future`` and ``ended`` are of classes and enrolments."""
Mode = Literal["bulk", "delta", "absent"]
Suggestion = Literal["administrator", "educator", "assistant"]


class Manifest(msgspec.Struct, frozen=True):
    """The manifest of an export; where it has none, what its files show.

    Attributes:
        version: ``1.1`` or ``1.2``.
        modes: mode by table, such as ``users`` -> ``bulk``: all rows of a bulk file are what there is; a delta file has
            only the changed rows, and others stay as they are. A table that is not in the export is ``absent``.
        found: whether there is a manifest.
        system: name of the system that wrote it; "" if it is not given.
    """

    version: str
    modes: dict[str, Mode]
    found: bool = True
    system: str = ""


class Org(msgspec.Struct, frozen=True):
    """A school, or what it belongs to.

    Attributes:
        source_id: sourcedId.
        name: name for people.
        type: ``school``, ``district`` and so on.
        parent: sourcedId of the org above; "" if there is none.
        state: ``current`` or ``deleted``.
        file, line: where its row begins.
    """

    source_id: str
    name: str
    type: str
    parent: str
    state: State
    file: str
    line: int


class Term(msgspec.Struct, frozen=True):
    """An academic session. `begins` and `ends` are its first day and the first day after it; None if not given."""

    source_id: str
    title: str
    begins: date | None
    ends: date | None
    state: State
    file: str
    line: int


class Section(msgspec.Struct, frozen=True):
    """A class. (The roster's own class is `appliance.roster.tables.Class`.)

    Attributes:
        source_id: sourcedId.
        title: name for people; that of the course where the row has none, else the sourcedId.
        code: classCode, which is a number of the school and no join code.
        org_id: sourcedId of its school.
        course_id: sourcedId of its course.
        term_ids: sourcedIds of its terms.
        state: ``current``, ``future`` or ``ended`` by its terms; ``deleted``.
        file, line: where its row begins.
    """

    source_id: str
    title: str
    code: str
    org_id: str
    course_id: str
    term_ids: tuple[str, ...]
    state: State
    file: str
    line: int


class User(msgspec.Struct, frozen=True):
    """A person.

    Attributes:
        source_id: sourcedId.
        given: given name.
        middle: middle names.
        family: family name.
        preferred_given: the given name that the person goes by; "" if it is `given`. OneRoster 1.2 has the preferred
            names, and 1.1 in columns ``metadata.``.
        preferred_middle: likewise.
        preferred_family: likewise.
        username: name to sign in with in the school's systems.
        identifier: number that people know, such as a pupil's number.
        email: address.
        state: ``current``, ``disabled`` or ``deleted``.
        file, line: where its row begins.
    """

    source_id: str
    given: str
    middle: str
    family: str
    preferred_given: str
    preferred_middle: str
    preferred_family: str
    username: str
    identifier: str
    email: str
    state: State
    file: str
    line: int

    @property
    def name(self) -> str:
        """The name to show: preferred names where there are any. Not cleaned; "" if the row has no name."""
        given, family = self.preferred_given or self.given, self.preferred_family or self.family
        return " ".join(part for part in (given, family) if part)


class Enrollment(msgspec.Struct, frozen=True):
    """A person in a class. Of several rows about one person, class and kind of role the one that counts today is given.

    Attributes:
        source_id: sourcedId of the row.
        user_id: sourcedId of the user.
        class_id: sourcedId of the class.
        role: role in lower case: ``student``, ``teacher``, ``aide`` and so on; never empty.
        state: by status, dates, and the state of the class.
        begins: first day; None if not given.
        ends: first day after the end; None if not given.
        file, line: where its row begins.
    """

    source_id: str
    user_id: str
    class_id: str
    role: str
    state: State
    begins: date | None
    ends: date | None
    file: str
    line: int

    @property
    def is_student(self) -> bool:
        return self.role == "student"


class Educator(msgspec.Struct, frozen=True):
    """Somebody of the school's staff, for whom an account may be made. It is a suggestion: an administrator decides.

    Attributes:
        user: the person.
        roles: roles in lower case, without repetition, such as ``teacher``.
        suggestion: role of the account, the highest that the roles suggest.
        class_ids: sourcedIds of the current classes in which the person is not a student.
    """

    user: User
    roles: tuple[str, ...]
    suggestion: Suggestion
    class_ids: tuple[str, ...]


class Option(msgspec.Struct, frozen=True):
    """One of several schools, of which the reader needs to know which are meant.

    Attributes:
        kind: ``folder`` for one of several exports in one zip or folder; ``org`` for a school of one export.
        key: what to give back: the folder's path in the zip, or the org's sourcedId.
        title: name for people.
        classes: number of its classes that are not deleted.
    """

    kind: Literal["folder", "org"]
    key: str
    title: str
    classes: int
