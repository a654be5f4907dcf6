"""Making a plan.

A person of a list is a person of the roster by id; one without an id, or with an id that the roster does not know, by
class and name. A list speaks for the classes that it names, and for the students whom it brought: one whom it has in
another class is moved, and keeps the work.
"""

from __future__ import annotations

import time
from collections import Counter
from functools import cached_property
from typing import Any

from msgspec.structs import replace

from appliance.roster.identity import new_id, new_student_id
from appliance.roster.imports.class_planning import PlannedClasses
from appliance.roster.imports.ids import without_zeros
from appliance.roster.imports.model import Ended, Entry, Incoming, Note, Question
from appliance.roster.imports.plan import Change, Item, ItemKind, Plan, PlanOptions
from appliance.roster.imports.snapshot import Snapshot, earlier_id
from appliance.roster.limits import RosterLimits
from appliance.roster.names import compared
from appliance.roster.store import Table
from appliance.roster.tables import CLASSES, PEOPLE, STUDENTS, Class, Person, Student
from appliance.text import counted

ASKED_SHARE = 0.2
"""Besides `PlanOptions.ask_removed`: the share of a class, or of all, that may change at once without a question."""
_SAID = {"removed": "taken out", "renamed": "renamed", "moved": "moved", "id_changed": "with a new id"}
"""What is asked about if it happens to many students at once."""


def make_plan(incoming: Incoming, snapshot: Snapshot, limits: RosterLimits, options: PlanOptions) -> Plan:
    """Compare a list with the roster. Pure, but for the ids and join codes of what is new.

    Args:
        incoming: the list.
        snapshot: the roster.
        limits: of a class.
        options: what the list may take out.
    """
    planner = _Planner(incoming, snapshot, limits, options)
    planner.plan_people()
    planner.plan_ended()
    planner.plan_missing()
    planner.check_many()
    return planner.result()


class _Planner:
    def __init__(self, incoming: Incoming, snapshot: Snapshot, limits: RosterLimits, options: PlanOptions) -> None:
        self.incoming = incoming
        self.old = snapshot
        self.limits = limits
        self.options = options
        self.notes = list(incoming.notes)
        if incoming.form.kind == "oneroster" and not incoming.bulk and options.scope != "none":
            self.options = replace(options, scope="none")
            text = "The export has only what has changed (delta), so nobody is taken out who is not in it."
            self.notes.append(Note(incoming.origin, 0, text))
        self.now = time.time()
        self.items: list[Item] = []
        self.questions = list(incoming.questions)
        self.unchanged = self.kept = 0
        # New states of rows; None for none yet.
        planned = PlannedClasses(incoming, snapshot, self.now)
        self.sections = planned.sections
        self.classes = planned.changed
        self.items += planned.items
        self.questions += planned.questions
        self.people: dict[str, Person] = {}
        self.students: dict[str, Student] = {}
        self.sizes = Counter(s.class_id for s in snapshot.students.values() if s.present)
        self.seen: set[str] = set()
        self.many: dict[str, int] = {}
        self.ids = {entry.source_id for entry in incoming.entries if entry.source_id}
        self.zeros = {stripped: source_id for source_id in snapshot.by_source if (stripped := without_zeros(source_id))}
        self.in_list = Counter((entry.class_id, compared(entry.name)) for entry in incoming.entries)

    # ---- People ----

    def plan_people(self) -> None:
        """Find or make the person of each row."""
        groups: dict[object, list[Entry]] = {}
        for entry in self.incoming.entries:
            if entry.class_id in self.sections:
                groups.setdefault(entry.source_id or entry, []).append(entry)
            elif entry.class_id:
                detail = f"Neither the list nor the roster has a class {entry.class_id}."
                self.items.append(Item("refused", entry.file, entry.line, entry.name, detail=detail))
        for entries in groups.values():
            self._plan_person(entries)
        for entry in self.incoming.people:
            self._rename_person(entry)

    def _plan_person(self, entries: list[Entry]) -> None:
        entry = entries[0]
        stripped_from = self.zeros.get(entry.source_id)
        if stripped_from and entry.source_id not in self.old.by_source:
            self._refuse(
                entries,
                f"The roster has the id {stripped_from}: a spreadsheet removed its zeros. Format the column as text.",
            )
            return
        person, adopted = self._person_of(entries)
        if person is _AMBIGUOUS:
            self._refuse(entries, "Two students of this class have this name. The list needs a column with ids.")
            return
        if person is None and not entry.name:
            self._refuse(entries, f"Neither the export nor the roster has the user {entry.source_id}.")
            return
        if person is None:
            person_id = new_id("p")
            person = Person(person_id, *_names_of(entry), self.incoming.origin)
            self.people[person_id] = person
            self._plan_enrolments(entries, person, None, [adopted] if adopted else [])
            return
        changed = self._changed_person(person, entry)
        if changed != person:
            self.people[person.person_id] = changed
        self.seen.add(person.person_id)
        self._plan_enrolments(entries, changed, person, self.old.of_person.get(person.person_id, []))

    def _person_of(self, entries: list[Entry]) -> tuple[Person | None, Student | None]:
        """The person of a row; else a student who joined by the name."""
        entry = entries[0]
        known = self.old.by_source.get(entry.source_id, [])
        if known:
            own = [person for person in known if person.origin == self.incoming.origin]
            return (own or known)[0], None
        for entry in entries:
            found = self._by_name(entry)
            if len(found) > 1:
                return _AMBIGUOUS, None
            if found and found[0].person_id and (person := self.old.people.get(found[0].person_id)):
                return person, None
            if found:
                return None, found[0]
        return self._from_another_class(entries[0]), None

    def _by_name(self, entry: Entry) -> list[Student]:
        """The students of a class who have the name of a row, and no other row by id."""
        section = self.sections[entry.class_id]
        name = compared(entry.name)
        found = [
            student
            for student in self.old.named.get((section.class_id, name), ())
            if not self._is_another(student, entry)
        ]
        if entry.source_id and self.in_list[entry.class_id, name] > 1:
            # Two of one name, of whom this one has a new id: nothing says which of the roster's students it is.
            return []
        listed = [student for student in found if student.listed]
        return listed or found

    def _is_another(self, student: Student, entry: Entry) -> bool:
        if student.person_id in self.seen:
            return True
        person = self.old.people.get(student.person_id)
        if person is None or not person.source_id:
            return False
        # Somebody with an id is another person than a row with another id, unless the list no longer has that id.
        return bool(entry.source_id) and person.source_id in self.ids

    def _from_another_class(self, entry: Entry) -> Person | None:
        """The person of the same list and name who is no longer in the class of before; for lists without ids."""
        if entry.source_id or self.options.scope == "none":
            return None
        wanted = compared(entry.name)
        found = [person for person in self._own_by_name.get(wanted, ()) if person.person_id not in self.seen]
        if len(found) != 1:
            return None
        theirs = self.old.of_person.get(found[0].person_id, ())
        still = any((student.class_id, wanted) in self._listed_names for student in theirs if student.listed)
        return None if still else found[0]

    @cached_property
    def _own_by_name(self) -> dict[str, list[Person]]:
        """The people without ids whom this list brought, by name as it is compared."""
        found: dict[str, list[Person]] = {}
        for person in self.old.people.values():
            if person.origin == self.incoming.origin and not person.source_id:
                found.setdefault(compared(person.name), []).append(person)
        return found

    @cached_property
    def _listed_names(self) -> set[tuple[str, str]]:
        """Class id and name, as it is compared, of each row."""
        return {
            (self.sections[class_id].class_id, name) for class_id, name in self.in_list if class_id in self.sections
        }

    def _rename_person(self, entry: Entry) -> None:
        """Give a person of the roster another name, in all classes."""
        own = [p for p in self.old.by_source.get(entry.source_id, ()) if p.person_id not in self.seen]
        for person in own[:1]:
            changed = self._changed_person(person, entry)
            if changed != person:
                self.people[person.person_id] = changed
            for student in self.old.of_person.get(person.person_id, ()):
                if student.present and student.listed and self._is_renamed(student, changed, person):
                    self.students[student.student_id] = replace(student, name=changed.name)
                    title = self._title_of(student.class_id)
                    self.items.append(Item("renamed", entry.file, entry.line, changed.name, title, student.name))
                    self.many[student.class_id] = self.many.get(student.class_id, 0) + 1

    def _title_of(self, class_id: str) -> str:
        section = self.old.classes.get(class_id)
        return section.title if section is not None else ""

    def _changed_person(self, person: Person, entry: Entry) -> Person:
        if not entry.name:
            return person
        source_id, given, family, preferred, name = _names_of(entry)
        return replace(
            person,
            source_id=source_id or person.source_id,
            given=given or (person.given if name == person.name else ""),
            family=family or (person.family if name == person.name else ""),
            preferred=preferred or (person.preferred if name == person.name else ""),
            name=name,
            origin=person.origin if person.origin and self.options.scope == "none" else self.incoming.origin,
        )

    # ---- Enrolments ----

    def _plan_enrolments(
        self, entries: list[Entry], person: Person, before: Person | None, students: list[Student]
    ) -> None:
        if before is not None and before.source_id and before.source_id != person.source_id:
            self._say("id_changed", entries[0], person.name, before.source_id)
            self._count_many(entries[0])
        wanted = {self.sections[entry.class_id].class_id: entry for entry in entries}
        theirs: dict[str, Student] = {}
        for student in students:
            if student.class_id not in theirs or student.present:
                theirs[student.class_id] = student
        spare = [s for s in students if s.present and s.listed and s.class_id not in wanted and self._speaks_for(s)]
        changes = [
            self._enrol(theirs.get(class_id), spare, entry, person, before) for class_id, entry in wanted.items()
        ]
        for student in spare:
            if self.incoming.bulk or self.options.scope != "none":
                self._remove(student, "The list has the student in another class.")
            else:
                self.kept += 1
        self.unchanged += not any(changes)

    def _enrol(
        self, known: Student | None, spare: list[Student], entry: Entry, person: Person, before: Person | None
    ) -> bool:
        """Put a person into a class; whether that changes anything, or is said.

        Args:
            known: the student whom the person is in this class, also one who was removed.
            spare: students of the person in classes that the list does not give; one who is moved is taken from it.
            entry: the row.
            person: as the person will be.
            before: as the person was; None for a new one.
        """
        if known is None and not spare:
            joined = [student for student in self._by_name(entry) if not student.person_id]
            known = joined[0] if len(joined) == 1 else None
        if known is not None and known.present:
            return self._keep_student(known, entry, person, before)
        if known is not None and self._was_removed(known, entry):
            return True
        if spare:
            self._move(spare.pop(0), entry, person, before)
        elif known is not None:
            self._take_back(known, entry, person)
        else:
            self._add(entry, person)
        return True

    def _speaks_for(self, student: Student) -> bool:
        """Whether the list decides that a student is no longer in a class which it does not give."""
        section = self.classes.get(student.class_id) or self.old.classes.get(student.class_id)
        if section is not None and section.ended_at is not None:
            # The class is over, and its students stay in it.
            return False
        named = any(known.class_id == student.class_id for known in self.sections.values())
        person = self.old.people.get(student.person_id)
        own = person is not None and person.origin == self.incoming.origin
        return named or own or self.options.scope == "all" or section is None

    def _was_removed(self, student: Student, entry: Entry) -> bool:
        """Whether an educator has removed a student; then a list does not bring the student back."""
        if student.left_at is not None or not student.listed:
            return False
        detail = "An educator removed this student, and can undo that on the page of people."
        self._say("left", entry, student.name, detail=detail)
        return True

    def _keep_student(self, student: Student, entry: Entry, person: Person, before: Person | None) -> bool:
        """A student who stays in the class: the name may be new, or the student joined by a name before."""
        new = replace(student, listed=True, person_id=person.person_id, ends=entry.ends, left_at=None)
        if not student.listed:
            kind: ItemKind = "back" if student.left_at is not None else "linked"
            detail = "" if kind == "back" else "The student joined by this name, and is now one of the list."
            new = replace(new, name=person.name)
            self._say(kind, entry, person.name, student.name if student.name != person.name else "", detail)
        elif self._is_renamed(student, person, before):
            new = replace(new, name=person.name)
            self._say("renamed", entry, person.name, student.name)
            self._count_many(entry)
        if new != student:
            self.students[student.student_id] = new
        return new != student and (not student.listed or new.name != student.name)

    @staticmethod
    def _is_renamed(student: Student, person: Person, before: Person | None) -> bool:
        """Whether the name of the list is new; a name that an educator gave stays while the list has the old one."""
        return student.name != person.name and (before is None or before.name != person.name)

    def _move(self, student: Student, entry: Entry, person: Person, before: Person | None) -> None:
        section = self.sections[entry.class_id]
        if not self._has_room(section, entry, student.name):
            return
        self.sizes[student.class_id] -= 1
        self.sizes[section.class_id] += 1
        name = person.name if self._is_renamed(student, person, before) else student.name
        self.students[student.student_id] = replace(
            student, class_id=section.class_id, name=name, person_id=person.person_id, ends=entry.ends, left_at=None
        )
        self._say("moved", entry, name, self._title_of(student.class_id))
        self._count_many(entry)

    def _take_back(self, student: Student, entry: Entry, person: Person) -> None:
        section = self.sections[entry.class_id]
        if self._has_room(section, entry, person.name):
            self.sizes[section.class_id] += 1
            self.students[student.student_id] = replace(
                student,
                name=person.name,
                listed=True,
                person_id=person.person_id,
                removed_at=None,
                left_at=None,
                ends=entry.ends,
            )
            self._say("back", entry, person.name)

    def _add(self, entry: Entry, person: Person) -> None:
        section = self.sections[entry.class_id]
        if self._has_room(section, entry, person.name):
            self.sizes[section.class_id] += 1
            earlier = earlier_id(entry)
            student_id = earlier if earlier in self.old.held else new_student_id()
            self.students[student_id] = Student(
                student_id, person.name, section.class_id, True, person.person_id, self.now, ends=entry.ends
            )
            self._say("added", entry, person.name)

    def _has_room(self, section: Class, entry: Entry, name: str) -> bool:
        if self.sizes[section.class_id] < self.limits.students:
            return True
        detail = f"A class may have {counted(self.limits.students, 'student')}."
        self._say("refused", entry, name, detail=detail)
        return False

    def _remove(self, student: Student, detail: str, file: str = "", line: int = 0) -> None:
        self.students[student.student_id] = replace(student, listed=False, left_at=self.now)
        title = self._title_of(student.class_id)
        self.items.append(Item("removed", file or self.incoming.origin, line, student.name, title, detail=detail))
        self.many[student.class_id] = self.many.get(student.class_id, 0) + 1

    # ---- Who is gone ----

    def plan_ended(self) -> None:
        """Take out students whose enrolment the list ends."""
        for ended in self.incoming.ended:
            for person in self.old.by_source.get(ended.source_id, ()):
                for student in self.old.of_person.get(person.person_id, ()):
                    if self._is_ended(student, ended):
                        self._remove(student, f"{ended.why}.", ended.file, ended.line)

    def _is_ended(self, student: Student, ended: Ended) -> bool:
        if not student.present or not student.listed or student.student_id in self.students:
            return False
        now = self.classes.get(student.class_id) or self.old.classes.get(student.class_id)
        if now is not None and now.ended_at is not None:
            return False
        section = self.old.class_named(ended.class_id) if ended.class_id else None
        return not ended.class_id or (section is not None and section.class_id == student.class_id)

    def plan_missing(self) -> None:
        """Take out or keep those whom the list does not have."""
        if not self.incoming.people_too or any(not question.yes for question in self.questions):
            return
        named = {section.class_id for section in self.sections.values()}
        missing = [
            student
            for student in self.old.students.values()
            if student.present
            and student.listed
            and student.person_id not in self.seen
            and student.student_id not in self.students
        ]
        # A row of a OneRoster export that is refused has an id of its own; a row of a plain list could be anybody's.
        plain = self.incoming.form.kind == "plain"
        refused = plain and (bool(self.incoming.refused) or any(item.kind == "refused" for item in self.items))
        for student in sorted(missing, key=lambda row: (row.class_id, compared(row.name), row.student_id)):
            if self._takes_out(student, named):
                if self.incoming.whole and not refused:
                    self._remove(student, "The list does not have the student.")
                else:
                    detail = "The list does not have the student. Nobody is taken out while rows of it are refused."
                    self._stay(student, detail)
            elif student.class_id in named and self.options.scope == "none":
                self._stay(student, "The list does not have the student, who stays.")
            else:
                self.kept += 1

    def _takes_out(self, student: Student, named: set[str]) -> bool:
        scope = self.options.scope
        if scope == "all":
            chosen = {
                section.class_id for name in self.options.classes if (section := self.old.class_named(name)) is not None
            }
            return not self.options.classes or student.class_id in chosen
        if scope == "origin":
            person = self.old.people.get(student.person_id)
            return person is not None and person.origin == self.incoming.origin
        return self.incoming.bulk and student.class_id in named

    def _stay(self, student: Student, detail: str) -> None:
        self.kept += 1
        title = self._title_of(student.class_id)
        self.items.append(Item("left", self.incoming.origin, 0, student.name, title, detail=detail))

    # ---- Many at once ----

    def _count_many(self, entry: Entry) -> None:
        section = self.sections[entry.class_id]
        self.many[section.class_id] = self.many.get(section.class_id, 0) + 1

    def check_many(self) -> None:
        """Ask if many students of a class, or all of a list, would be taken out or changed."""
        sizes = Counter(s.class_id for s in self.old.students.values() if s.present and s.listed)
        total, number = sum(sizes.values()), sum(self.many.values())
        most = self.options.ask_removed
        many = [class_id for class_id, count in self.many.items() if count > max(most, ASKED_SHARE * sizes[class_id])]
        removed = sum(item.kind == "removed" for item in self.items)
        emptied = removed > 0 and not self.incoming.entries
        if many or emptied or number > max(most, ASKED_SHARE * total):
            counts = Counter[str](item.kind for item in self.items)
            what = ", ".join(f"{counts[kind]} {said}" for kind, said in _SAID.items() if counts[kind])
            text = f"Many students would change at once: {what}. Is that right?"
            self.questions.append(Question("many", text))

    # ---- The result ----

    def result(self) -> Plan:
        self.items += [Item("refused", note.file, note.line, detail=note.text) for note in self.incoming.refused]
        self.items += [Item("left", note.file, note.line, detail=note.text) for note in self.incoming.left]
        refused = sum(item.kind == "refused" for item in self.items)
        if refused:
            text = f"{counted(refused, 'row is', 'rows are')} refused. Import the others?"
            self.questions.append(Question("refused", text))
        self.items.sort(key=lambda item: (item.line == 0, item.line))
        return Plan(
            self.items,
            self.notes,
            self.questions,
            self.unchanged,
            self.kept,
            [
                *_changes(CLASSES, self.old.classes, self.classes),
                *_changes(PEOPLE, self.old.people, self.people),
                *_changes(STUDENTS, self.old.students, self.students),
            ],
            self.old.revision,
            self.incoming,
        )

    def _say(self, kind: ItemKind, entry: Entry, name: str, before: str = "", detail: str = "") -> None:
        title = self.sections[entry.class_id].title
        self.items.append(Item(kind, entry.file, entry.line, name, title, before, detail))

    def _refuse(self, entries: list[Entry], detail: str) -> None:
        for entry in entries:
            self._say("refused", entry, entry.name, detail=detail)


_AMBIGUOUS = Person("", "", "", "", "", "")


def _names_of(entry: Entry) -> tuple[str, str, str, str, str]:
    return entry.source_id, entry.given, entry.family, entry.preferred, entry.name


def _changes(table: Table[Any], before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    return [Change(table, key, before.get(key), row) for key, row in after.items() if before.get(key) != row]
