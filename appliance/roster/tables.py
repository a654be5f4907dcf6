"""The tables of the roster: classes, people, students (enrolments), tokens, educators' accounts, sessions, requests.

The words are OneRoster's where it has one. Times are seconds since the epoch. Names and ids are personal data: they are
in the store and on educators' pages, never in a log or an error.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from appliance.roster.names import search_words
from appliance.roster.store import Index, Table

Role = Literal["administrator", "educator", "assistant"]
SecretKind = Literal["pin", "pictures"]
RequestKind = Literal["again", "new"]
Answer = Literal["", "yes", "no"]


class Class(msgspec.Struct, frozen=True):
    """A class (OneRoster: section).

    Attributes:
        class_id: stable id.
        title: name for people.
        code: the join code, such as ``ABC-234``.
        open: whether students may join.
        approval: whether an educator approves each student whom the list does not have.
        source_id: its id in the school's system (OneRoster: sourcedId); "" if it has none.
        order: place among the classes; the first is the oldest.
        ended_at: when it ended, or a list no longer had it; it is hidden, and its students keep their work.
    """

    class_id: str
    title: str
    code: str
    open: bool = True
    approval: bool = False
    source_id: str = ""
    order: int = 0
    ended_at: float | None = None


class Person(msgspec.Struct, frozen=True):
    """A person of a list (OneRoster: user), who may be a student of several classes.

    Attributes:
        person_id: random id.
        source_id: id in the school's system; "" if the list has no ids.
        given: given name; "" if only a whole name is known.
        family: family name.
        preferred: the name that the person goes by; "" if it is the given name.
        name: the name to show.
        origin: which list or import brought the person: its name, such as ``students.csv``.
    """

    person_id: str
    source_id: str
    given: str
    family: str
    preferred: str
    name: str
    origin: str = ""


class Student(msgspec.Struct, frozen=True):
    """A student of one class (OneRoster: enrollment). Events, states and tokens belong to this id.

    Attributes:
        student_id: stable random id.
        name: as the student gave it, or as the list has it.
        class_id: id of the class.
        listed: whether a list names the student; others joined by a name.
        person_id: the person of the list; "" for a student who joined by a name.
        created: when the student was added.
        removed_at: when an educator removed the student; None for a student of the class.
        barred_until: until then the student may not join again.
        merged_into: id of the student with whom an educator merged this one; "" if not merged.
        ends: when the enrolment ends, by the list.
        left_at: when the list no longer had the student; None for others. Such a student is no longer `listed`, and is
            removed when no longer connected.
    """

    student_id: str
    name: str
    class_id: str
    listed: bool = False
    person_id: str = ""
    created: float = 0.0
    removed_at: float | None = None
    barred_until: float | None = None
    merged_into: str = ""
    ends: float | None = None
    left_at: float | None = None

    @property
    def present(self) -> bool:
        """Whether the student is in the class: neither removed nor merged."""
        return self.removed_at is None and not self.merged_into


class Token(msgspec.Struct, frozen=True):
    """The hash of a token of a student's browser (`token_hash`).

    Attributes:
        hash: of the token.
        student_id: who has it.
        created: when it was given.
        device: hash of the id that the browser gave itself; "" if it gave none.
    """

    hash: str
    student_id: str
    created: float = 0.0
    device: str = ""


class Secret(msgspec.Struct, frozen=True):
    """What only the student knows.

    Attributes:
        student_id: of the student.
        kind: digits, or three of nine pictures in their order.
        hash: Argon2id hash.
    """

    student_id: str
    kind: SecretKind
    hash: str


class JoinRequest(msgspec.Struct, frozen=True):
    """A student who waits for an educator's answer.

    Attributes:
        request_id: random id, which educators' pages use.
        class_id: of the class.
        student_id: the student whose identity is asked for (`again`), or the id that a newcomer would get.
        name: as it was typed.
        kind: whether somebody holds the identity already, or newcomers need approval.
        token_hash: hash of the token that the waiting browser has got; it becomes valid with the answer yes.
        created: when it was asked.
        answer: "" until an educator answered.
        answered_at: when.
        looks_like: name of another student of the class that a newcomer's name looks like; "" for none.
    """

    request_id: str
    class_id: str
    student_id: str
    name: str
    kind: RequestKind
    token_hash: str
    created: float
    answer: Answer = ""
    answered_at: float | None = None
    looks_like: str = ""


class ListRecord(msgspec.Struct, frozen=True):
    """A list that was imported: how it was written, and what was decided about it.

    Attributes:
        origin: name of the list, as in `Person.origin`; `EVERY_LIST` for the row that every import changes, so that of
            two at the same time one fails.
        taken_at: when it was imported last.
        digest: SHA-256 of what was imported, or decided to be left.
        kind: ``plain`` or ``oneroster``.
        encoding: Python's name of the encoding.
        separator: between two cells.
        line_end: of a line.
        headings: of the columns.
        meanings: of the columns, as in `appliance.roster.imports.model.Column`.
        standard: version of OneRoster.
        watched: whether it is in the watched folder.
    """

    origin: str
    taken_at: float
    digest: str = ""
    kind: str = "plain"
    encoding: str = ""
    separator: str = ""
    line_end: str = ""
    headings: list[str] = []
    meanings: list[str] = []
    standard: str = ""
    watched: bool = False


class Educator(msgspec.Struct, frozen=True):
    """An educator's account.

    Attributes:
        educator_id: random id.
        name: name to show.
        login: name to sign in with, in the form of `names.compared`.
        password_hash: Argon2id hash; "" if the account has no password yet.
        role: an administrator sees and changes everything; an educator the own classes; an assistant sees them.
        class_ids: ids of the own classes.
        disabled: whether the account may not sign in.
        created: when it was made.
    """

    educator_id: str
    name: str
    login: str
    password_hash: str
    role: Role
    class_ids: list[str] = []
    disabled: bool = False
    created: float = 0.0


class Login(msgspec.Struct, frozen=True):
    """The account of a name to sign in with: a key, so that two accounts never have the same one."""

    login: str
    educator_id: str


class Session(msgspec.Struct, frozen=True):
    """An educator's session in one browser.

    Attributes:
        session_hash: SHA-256 of the cookie's random value.
        educator_id: of the account; "" for the owner of the appliance, who came by a one-use link.
        created: when it began.
        until: when it ends by itself.
        seen: when it was used last, to some minutes.
        agent: kind of browser and system, in words, such as ``Firefox on Windows``.
        how: ``link``, ``password``, ``token`` or ``pairing``.
    """

    session_hash: str
    educator_id: str
    created: float
    until: float
    seen: float
    agent: str = ""
    how: str = ""


class Pairing(msgspec.Struct, frozen=True):
    """A code with which an educator signs in on a further device.

    Attributes:
        owner: id of the account that it signs in to; `OWNER_PAIRING` for the owner of the appliance.
        code_hash: SHA-256 of the six digits.
        link_hash: SHA-256 of the secret in the QR code.
        until: when it ends.
        wrong: how many wrong codes were tried since it was made.
        session: hash of the session in which it was made, with which it ends; "" if it was made with the teacher key.
    """

    owner: str
    code_hash: str
    link_hash: str
    until: float
    wrong: int = 0
    session: str = ""


OWNER_PAIRING = "owner"

CLASSES = Table(
    "classes",
    Class,
    "class_id",
    Index("code", lambda row: [plain_code(row.code)] if row.ended_at is None else []),
    Index("source_id", lambda row: [row.source_id] if row.source_id else []),
)
PEOPLE = Table(
    "people",
    Person,
    "person_id",
    Index("source_id", lambda row: [row.source_id] if row.source_id else []),
    Index("origin", lambda row: [row.origin] if row.origin else []),
)
STUDENTS = Table(
    "students",
    Student,
    "student_id",
    Index("class_id", lambda row: [row.class_id]),
    Index("person_id", lambda row: [row.person_id] if row.person_id else []),
    Index("merged_into", lambda row: [row.merged_into] if row.merged_into else []),
    Index("leaving", lambda row: ["yes"] if row.left_at is not None and row.present else []),
    # Each word of the name, in the form in which names are compared: a search is for the beginning of a word.
    Index("word", lambda row: search_words(row.name) if row.present else [], search=True),
)
TOKENS = Table("tokens", Token, "hash", Index("student_id", lambda row: [row.student_id]))
SECRETS = Table("secrets", Secret, "student_id")
REQUESTS = Table(
    "requests",
    JoinRequest,
    "request_id",
    Index("class_id", lambda row: [row.class_id]),
    Index("token_hash", lambda row: [row.token_hash]),
)
EVERY_LIST = "*"
LISTS = Table("lists", ListRecord, "origin")
EDUCATORS = Table("educators", Educator, "educator_id", Index("role", lambda row: [row.role]))
LOGINS = Table("logins", Login, "login")
SESSIONS = Table("sessions", Session, "session_hash", Index("educator_id", lambda row: [row.educator_id]))
PAIRINGS = Table("pairings", Pairing, "owner", Index("all", lambda row: ["all"]))

TABLES: tuple[Table[Any], ...] = (
    *(CLASSES, PEOPLE, STUDENTS, TOKENS, SECRETS, REQUESTS, LISTS),
    *(EDUCATORS, LOGINS, SESSIONS, PAIRINGS),
)
"""All tables of the roster. Further ones are added here alone."""
INDEX_RULES = 2
"""Raised when an index finds rows under other texts than before, as when names are compared in another way: a store
that was filled by earlier rules makes its indexes anew when it is opened."""


def plain_code(code: str) -> str:
    """A code in the form in which codes are compared: upper case, letters and digits alone."""
    return "".join(character for character in code.upper() if character.isalnum())
