"""The classes of a plan: which class of the roster a list means, and which are new, renamed or over."""

from __future__ import annotations

from msgspec.structs import replace

from appliance.roster.codes import new_code
from appliance.roster.identity import FIRST_CLASS
from appliance.roster.imports.model import Choice, Incoming, ListedClass, Question
from appliance.roster.imports.plan import Item
from appliance.roster.imports.snapshot import Snapshot
from appliance.roster.tables import Class, plain_code
from appliance.text import counted


class PlannedClasses:
    """The classes that a list names.

    Attributes:
        sections: name in the list ("" for the class of those without one) -> the class, as it will be.
        changed: new and changed classes, by id.
        items: what happens to classes.
        questions: which class is meant, if that is open.
    """

    def __init__(self, incoming: Incoming, snapshot: Snapshot, now: float) -> None:
        self.sections: dict[str, Class] = {}
        self.changed: dict[str, Class] = {}
        self.items: list[Item] = []
        self.questions: list[Question] = []
        self._incoming = incoming
        self._old = snapshot
        self._now = now
        self._plan()

    def _plan(self) -> None:
        for entry in self._incoming.entries:
            known = self._old.class_named(entry.class_id) if entry.class_id else None
            if known is not None and entry.class_id not in self._incoming.classes:
                self.sections[entry.class_id] = known
        for name, of_list in self._incoming.classes.items():
            known = self._old.class_named(name)
            if of_list.ended:
                self._end_class(known, of_list)
            elif known is None:
                self.sections[name] = self._new_class(of_list)
            else:
                self.sections[name] = self._known_class(known, of_list)
        if any(not entry.class_id for entry in self._incoming.entries):
            self._class_of_all()

    def _new_class(self, listed: ListedClass) -> Class:
        orders = [section.order for section in (*self._old.classes.values(), *self.changed.values())]
        order = max(orders, default=-1) + 1
        code = listed.code if listed.code and not self._is_taken(listed.code) else self._free_code()
        section = Class(listed.class_id, listed.title, code, source_id=listed.class_id, order=order)
        self.changed[section.class_id] = section
        self.items.append(Item("class_added", listed.file, listed.line, "", section.title))
        return section

    def _known_class(self, known: Class, listed: ListedClass) -> Class:
        section = known
        if section.title in (section.class_id, section.source_id) and listed.title != listed.class_id:
            # The title of the list; one that an educator has chosen is kept.
            section = replace(section, title=listed.title)
        if section.ended_at is not None:
            section = replace(section, ended_at=None)
        if section != known:
            self.changed[section.class_id] = section
            detail = "It was over, and is open again." if known.ended_at is not None else ""
            before = known.title if known.title != section.title else ""
            self.items.append(Item("class_changed", listed.file, listed.line, "", section.title, before, detail))
        return section

    def _end_class(self, known: Class | None, listed: ListedClass) -> None:
        if known is None or known.ended_at is not None:
            return
        self.changed[known.class_id] = replace(known, ended_at=self._now)
        detail = f"{listed.ended}. Its students keep their work."
        self.items.append(Item("class_ended", listed.file, listed.line, "", known.title, detail=detail))

    def _class_of_all(self) -> None:
        """Find the class of students for whom the list names none."""
        sections = self._old.visible_classes()
        if not sections:
            listed = ListedClass(self._incoming.origin, 0, FIRST_CLASS, "My class")
            self.sections[""] = self._new_class(listed)
        elif len(sections) == 1:
            self.sections[""] = sections[0]
        else:
            unnamed = sum(not entry.class_id for entry in self._incoming.entries)
            text = f"The list names no class for {counted(unnamed, 'student')}. Of which class are they?"
            choices = [Choice(section.class_id, section.title) for section in sections]
            self.questions.append(Question("class", text, yes=False, choices=choices))

    def _is_taken(self, code: str) -> bool:
        sections = (*self._old.classes.values(), *self.changed.values())
        return any(plain_code(section.code) == plain_code(code) for section in sections)

    def _free_code(self) -> str:
        while self._is_taken(code := new_code()):
            pass
        return code
