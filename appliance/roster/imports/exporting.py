"""Export of the students of classes, as a list in the form in which it came.

A cell that a spreadsheet would take for a formula gets an apostrophe before it, which `rows` removes when it is read.
"""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterable, Sequence

import msgspec

from appliance.roster.imports.headings import is_family_first
from appliance.roster.imports.model import Form
from appliance.roster.oneroster.tables import Version
from appliance.roster.oneroster_export import write_roster
from appliance.roster.store import RosterStore
from appliance.roster.tables import CLASSES, EVERY_LIST, LISTS, PEOPLE, STUDENTS, Class, ListRecord, Person, Student

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_READ_AT_ONCE = 500
OWN_FORM = Form(headings=["student id", "name", "class"], meanings=["id", "name", "class"])
"""The form of a list that never came from elsewhere."""


class Exported(msgspec.Struct, frozen=True):
    """A list that was written.

    Attributes:
        content: its bytes.
        encoding: Python's name of their encoding: UTF-8 where that of the form has not all the letters.
        students: how many rows it has.
    """

    content: bytes
    encoding: str
    students: int


class Enrolled(msgspec.Struct, frozen=True):
    """A student, with class, and with the person where a list has one."""

    student: Student
    section: Class
    person: Person | None


async def enrolled(store: RosterStore, class_ids: Iterable[str]) -> list[Enrolled]:
    """The students of classes, by class and name.

    Raises:
        BackendError: the store cannot be reached.
    """
    found: list[tuple[Student, Class]] = []
    for section in await store.read(CLASSES, list(class_ids)):
        if section is not None:
            rows = [versioned.row for versioned in await store.find(STUDENTS, "class_id", section.row.class_id)]
            present = [row for row in rows if row.present]
            found += [(row, section.row) for row in sorted(present, key=lambda s: (s.name.casefold(), s.student_id))]
    ids = sorted({student.person_id for student, _ in found if student.person_id})
    people: dict[str, Person] = {}
    for begin in range(0, len(ids), _READ_AT_ONCE):
        for person in await store.read(PEOPLE, ids[begin : begin + _READ_AT_ONCE]):
            if person is not None:
                people[person.row.person_id] = person.row
    return [Enrolled(student, section, people.get(student.person_id)) for student, section in found]


async def known_lists(store: RosterStore) -> list[ListRecord]:
    """The lists that were imported, the last one first."""
    records = [record async for record in store.scan(LISTS) if record.origin != EVERY_LIST]
    return sorted(records, key=lambda record: -record.taken_at)


def grouped_by_list(
    students: Iterable[Enrolled], lists: Sequence[ListRecord]
) -> list[tuple[str, ListRecord | None, list[Enrolled]]]:
    """Students by the list that brought them: name of a file, the list, and its students.

    Students whom no list has are with those of the list that was imported last.

    Args:
        students: with their people.
        lists: as `known_lists` gives them.
    """
    known = {record.origin: record for record in lists}
    first = next((record for record in lists if record.kind == "oneroster" or record.meanings), None)
    groups: dict[str, list[Enrolled]] = {}
    for one in students:
        origin = one.person.origin if one.person is not None else ""
        if origin not in known:
            origin = first.origin if first is not None else ""
        groups.setdefault(origin, []).append(one)
    if not groups:
        groups[first.origin if first is not None else ""] = []
    found = []
    for origin, group in groups.items():
        record = known.get(origin)
        name = origin.rpartition("/")[2] or "students.csv"
        ending = ".zip" if record is not None and record.kind == "oneroster" else ".csv"
        found.append((name if "." in name else name + ending, record, group))
    return found


def form_of(record: ListRecord | None) -> Form:
    """The form in which a list came; our own for one that came without columns."""
    if record is None or record.kind != "plain" or not {"name", "given", "family"} & set(record.meanings):
        return OWN_FORM
    if not record.headings:
        return msgspec.structs.replace(OWN_FORM, encoding=record.encoding or OWN_FORM.encoding)
    return Form(
        "plain",
        record.encoding or "utf-8-sig",
        record.separator or ",",
        record.line_end or "\r\n",
        record.headings,
        record.meanings,
    )


def written(students: Iterable[Enrolled], form: Form) -> Exported:
    """Students as a plain list of a form. Columns that are not about the roster stay empty."""
    rows = list(_rows(students, form))
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=form.separator, lineterminator=form.line_end)
    writer.writerow([guarded(heading) for heading in form.headings])
    writer.writerows([[guarded(cell) for cell in row] for row in rows])
    try:
        return Exported(text.getvalue().encode(form.encoding), form.encoding, len(rows))
    except UnicodeEncodeError:
        return Exported(text.getvalue().encode("utf-8-sig"), "utf-8-sig", len(rows))


def packed(students: Sequence[Enrolled], version: Version = "1.2") -> Exported:
    """Students as a bulk OneRoster export: a zip. Blocks.

    Args:
        students: with their classes.
        version: of OneRoster.
    """
    file = io.BytesIO()
    sections = {one.section.class_id: one.section for one in students}
    people = {one.person.person_id: one.person for one in students if one.person is not None}
    write_roster(
        file,
        sections.values(),
        [one.student for one in students],
        people,
        today=datetime.date.today(),
        version=version,
    )
    return Exported(file.getvalue(), "utf-8", len(students))


def guarded(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _rows(students: Iterable[Enrolled], form: Form) -> Iterable[list[str]]:
    if "classes" not in form.meanings:
        for one in students:
            yield [
                _cell(one, meaning, heading, "") for meaning, heading in zip(form.meanings, form.headings, strict=True)
            ]
        return
    grouped: dict[str, list[Enrolled]] = {}
    for one in students:
        grouped.setdefault(one.student.person_id or one.student.student_id, []).append(one)
    for group in grouped.values():
        classes = ",".join(_name_of(one.section) for one in group)
        yield [
            _cell(group[0], meaning, heading, classes)
            for meaning, heading in zip(form.meanings, form.headings, strict=True)
        ]


def _cell(one: Enrolled, meaning: str, heading: str, classes: str) -> str:
    given, family = _parts(one)
    if meaning == "name":
        turned = is_family_first(heading) and given and family
        return f"{family}, {given}" if turned else one.student.name
    cells = {
        "id": one.person.source_id if one.person is not None else "",
        "given": given,
        "family": family,
        "preferred": one.person.preferred if one.person is not None else "",
        "class": _name_of(one.section),
        "classes": classes,
        "role": "LEARNER" if "USER_TYPE" in heading else "student",
        "status": "active",
    }
    return cells.get(meaning, "")


def _parts(one: Enrolled) -> tuple[str, str]:
    """Given and family name: those of the list, if the student still has that name; else divided at the last space."""
    person = one.person
    if person is not None and person.name == one.student.name and (person.given or person.family):
        return person.given, person.family
    given, _, family = one.student.name.rpartition(" ")
    return (given, family) if given else (family, "")


def _name_of(section: Class) -> str:
    """What a list calls a class."""
    return section.source_id or section.title
