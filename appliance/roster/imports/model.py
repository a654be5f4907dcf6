"""What an import is made of: what a list says, what it leaves open, and how it was written."""

from __future__ import annotations

from typing import Literal

import msgspec

from appliance.errors import ObserverError

QuestionKey = Literal["encoding", "columns", "headings", "no_headings", "class", "schools", "refused", "many", "new"]


class RosterImportError(ObserverError):
    """A list cannot be imported; nothing was changed."""


class ReadOptions(msgspec.Struct, frozen=True):
    """How a list is to be read.

    Attributes:
        encoding: of its text; "" to find it out.
        columns: meaning (a key of `headings.MEANINGS`) -> the heading of its column, or the column's number from 1.
        classes: ids of classes: only their students are read; of a list without classes, the one class of all.
        schools: sourcedIds of schools of a OneRoster export that has several.
        folder: the folder of a OneRoster export that has several; None for the only one.
    """

    encoding: str = ""
    columns: dict[str, str] = {}
    classes: tuple[str, ...] = ()
    schools: tuple[str, ...] = ()
    folder: str | None = None


class Note(msgspec.Struct, frozen=True):
    """A sentence about a row. It may have an id, never a name.

    Attributes:
        file: name of the file.
        line: the row's first line; 0 for the whole file.
        text: what is so, and what to do.
    """

    file: str
    line: int
    text: str


class Choice(msgspec.Struct, frozen=True):
    """One answer to a question that needs more than a yes: what to give back, and how it is shown."""

    key: str
    title: str


class Question(msgspec.Struct, frozen=True):
    """What a person must decide before a list is imported.

    Attributes:
        key: what it is about.
        text: the question.
        yes: whether a yes is an answer; else an option must be given and the list is read again.
        samples: lines or headings that help to decide.
        choices: the possible answers, if they are known.
    """

    key: QuestionKey
    text: str
    yes: bool = True
    samples: list[str] = []
    choices: list[Choice] = []


class Entry(msgspec.Struct, frozen=True):
    """A student in a class, as a list has it.

    Attributes:
        file, line: where.
        source_id: id in the school's system; "" if the list has none for this student.
        given, family, preferred: parts of the name; "" where the list has none.
        name: the name to show, as `names.clean_name` gives it; "" for a person who must be in the roster already.
        class_id: id of the class in the list; "" for the class of a list that names none.
        ends: when the enrolment ends, in seconds since the epoch.
    """

    file: str
    line: int
    source_id: str
    given: str
    family: str
    preferred: str
    name: str
    class_id: str
    ends: float | None = None


class Ended(msgspec.Struct, frozen=True):
    """An enrolment of which a list says that it is over, or a person who is gone from all classes.

    Attributes:
        file, line: where.
        source_id: id of the person.
        class_id: id of the class in the list; "" for all classes.
        why: the reason, as the beginning of a sentence.
    """

    file: str
    line: int
    source_id: str
    class_id: str
    why: str


class ListedClass(msgspec.Struct, frozen=True):
    """A class of a list.

    Attributes:
        file, line: where.
        class_id: its id in the list.
        title: name for people.
        code: its join code; "" if the list has none.
        ended: the reason why it is over, as the beginning of a sentence; "" if it is not.
    """

    file: str
    line: int
    class_id: str
    title: str
    code: str = ""
    ended: str = ""


class Column(msgspec.Struct, frozen=True):
    """A column of a plain list.

    Attributes:
        heading: as the list has it; "" if it has none.
        meaning: a key of `headings.MEANINGS`; ``ignored`` for a known column that is not needed, "" for an unknown one.
        samples: some of its cells.
    """

    heading: str
    meaning: str
    samples: list[str] = []


class Form(msgspec.Struct, frozen=True):
    """How a list was written, so that an export can be written alike.

    Attributes:
        kind: ``plain`` or ``oneroster``.
        encoding: Python's name of the encoding.
        separator: between two cells.
        line_end: of a line.
        headings: of the columns; empty if the list has none.
        meanings: of the columns, as in `Column`.
        version: of OneRoster.
    """

    kind: Literal["plain", "oneroster"] = "plain"
    encoding: str = "utf-8-sig"
    separator: str = ","
    line_end: str = "\r\n"
    headings: list[str] = []
    meanings: list[str] = []
    version: str = ""


class Incoming(msgspec.Struct):
    """What a list says. Only classes in `classes` may be new to the roster.

    Attributes:
        origin: name of the list: its file name.
        form: how it was written.
        entries: its students, in its order.
        people: people about whom it says a name, and nothing about their classes (`Entry.class_id` is "").
        ended: enrolments that it ends.
        classes: its classes by id in the list; also those that only entries name.
        refused: rows that cannot be used.
        left: rows that are about no student, or about one who is not chosen.
        notes: what else to know.
        questions: what must be decided first.
        columns: of a plain list.
        bulk: whether it has all students of its classes, by what it says about itself (OneRoster's manifest).
        whole: whether it was read to its end, so that who is missing in it has left.
        people_too: whether it is about students; a list of classes is not.
    """

    origin: str
    form: Form
    entries: list[Entry] = []
    people: list[Entry] = []
    ended: list[Ended] = []
    classes: dict[str, ListedClass] = {}
    refused: list[Note] = []
    left: list[Note] = []
    notes: list[Note] = []
    questions: list[Question] = []
    columns: list[Column] = []
    bulk: bool = False
    whole: bool = True
    people_too: bool = True
