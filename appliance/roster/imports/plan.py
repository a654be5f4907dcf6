"""A plan: what the import of a list would change, row by row, and what it would leave."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from appliance.roster.imports.model import Incoming, Note, Question
from appliance.roster.store import Table

ItemKind = Literal[
    "added",
    "renamed",
    "moved",
    "id_changed",
    "linked",
    "back",
    "removed",
    "left",
    "refused",
    "class_added",
    "class_changed",
    "class_ended",
]
Scope = Literal["none", "origin", "all"]
"""Whom a list takes out if it does not have them: nobody, students of its own, or all students of lists."""


class Item(msgspec.Struct, frozen=True):
    """One line of a preview.

    Attributes:
        kind: what happens; ``left`` and ``refused`` are rows that change nothing.
        file, line: the row; line 0 for a student or class that no row names.
        name: of the student, or title of the class; "" for a row that was not understood.
        class_title: title of the class, after the change.
        before: the earlier name, class or id.
        detail: the reason, a sentence; "" where the kind says all.
    """

    kind: ItemKind
    file: str
    line: int
    name: str = ""
    class_title: str = ""
    before: str = ""
    detail: str = ""


class Change(msgspec.Struct, frozen=True):
    """A change of a row: as the plan saw it (None if there was none), and as it is to be."""

    table: Table[Any]
    key: str
    before: Any
    after: Any


class PlanOptions(msgspec.Struct, frozen=True):
    """Attributes:
    scope: whom the list takes out.
    classes: ids of classes in the list, to which a scope is limited; empty for all.
    ask_removed: so many students may be taken out or changed at once without a question.
    """

    scope: Scope = "none"
    classes: tuple[str, ...] = ()
    ask_removed: int = 5


class Plan(msgspec.Struct):
    """What an import would do.

    Attributes:
        items: what is changed, left and refused; in the order of the list, those without a line at the end.
        notes: what else to know, by line.
        questions: what must be decided first.
        unchanged: students who stay as they are, as the list has them.
        kept: students of lists who are not in this one, and stay.
        changes: of the rows of the roster.
        revision: of the roster, as `Snapshot.revision`.
        incoming: the list.
    """

    items: list[Item]
    notes: list[Note]
    questions: list[Question]
    unchanged: int
    kept: int
    changes: list[Change]
    revision: int
    incoming: Incoming

    @property
    def counts(self) -> Counter[str]:
        """How many items there are of each kind."""
        return Counter(item.kind for item in self.items)

    @property
    def fingerprint(self) -> str:
        """Equal for two plans that a person would see as the same, and that begin from the same rows."""
        before = [
            (change.table.name, change.key, change.before) for change in self.changes if change.before is not None
        ]
        return hashlib.sha256(msgspec.msgpack.encode((self.items, before))).hexdigest()

    def open_questions(self, answered: Iterable[str]) -> list[Question]:
        """The questions that have no answer; those that need more than a yes always are among them.

        Args:
            answered: keys of questions that were answered by yes; ``*`` for all.
        """
        yes = set(answered)
        return [question for question in self.questions if not question.yes or not yes & {"*", question.key}]
