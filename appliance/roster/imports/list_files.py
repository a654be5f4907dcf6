"""Import of a school's list of students into the roster's ``students.csv`` and ``classes.csv``.

The source is a CSV file as `appliance.roster.lists` reads it, or a OneRoster 1.1 or 1.2 CSV export (a folder or a
``.zip`` with ``users.csv``, ``enrollments.csv`` and, for titles, ``classes.csv``). If a row is bad, nothing is written,
unless bad rows are to be skipped.
"""

from __future__ import annotations

import csv
import io
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from appliance.datafolder.files import make_folder, write_private
from appliance.errors import ObserverError
from appliance.roster import FIRST_CLASS, Class, RosterLimits, Student
from appliance.roster.lists import (
    CLASSES,
    STUDENTS,
    Lists,
    UnreadableError,
    add_student,
    line_finding,
    read_lists,
    read_students,
    rows,
    unknown_columns,
)

_CORRECT = "Correct the row, or remove it."
_USERS = {
    "student_id": ("sourcedid",),
    "status": ("status",),
    "enabled": ("enableduser",),
    "role": ("role",),
    "given": ("givenname",),
    "family": ("familyname",),
}
_ENROLLMENTS = {
    "user": ("usersourcedid",),
    "class_id": ("classsourcedid",),
    "role": ("role",),
    "status": ("status",),
}
_CLASSES = {"class_id": ("sourcedid",), "title": ("title",), "status": ("status",)}


class RosterImportError(ObserverError):
    """A list cannot be imported; nothing was changed."""


class Outcome(msgspec.Struct, frozen=True):
    """The result of an import, in numbers of students unless stated otherwise.

    Attributes:
        students: students of the imported list.
        classes: number of their classes.
        added: new students.
        changed: students with a new name or class.
        gone: students who are removed from the roster's list, since the imported one replaces it.
        staying: students of the roster's list who are not in the imported one.
        problems: a sentence for each row that cannot be used, with its file and line and what to do.
    """

    students: int
    classes: int
    added: int
    changed: int
    gone: int
    staying: int
    problems: list[str]


def import_list(
    source: Path,
    folder: Path,
    limits: RosterLimits,
    *,
    classes: Iterable[str] = (),
    replace: bool = False,
    skip_bad: bool = False,
    dry_run: bool = False,
) -> Outcome:
    """Import a list into a roster's folder.

    Args:
        source: a CSV file, or a folder or zip file as OneRoster defines it.
        folder: the roster's folder.
        limits: limits of names, files and classes.
        classes: ids of classes; if there are any, only their students are imported.
        replace: whether the imported list replaces the roster's; else they are merged.
        skip_bad: whether to import the good rows if some are bad.
        dry_run: whether to write nothing.

    Raises:
        RosterImportError: the list cannot be read, or the roster's own list would lose something.
        OSError: the roster cannot be written.
    """
    chosen = frozenset(classes)
    found = _chosen(_read(source, limits, chosen), chosen)
    before = read_lists(folder, limits)
    unnamed = sum(student.class_id == FIRST_CLASS for student in found.students.values())
    others = ", ".join(sorted(before.classes.keys() - {FIRST_CLASS}))
    if unnamed and others and FIRST_CLASS not in before.classes:
        raise RosterImportError(
            f"{source.name} names no class for {unnamed} of its students, and the list has the classes {others}. Add a "
            "column with the heading class."
        )
    if not replace:
        _check_nothing_is_lost(folder, before)
    kept = {} if replace else {key: student for key, student in before.students.items() if key not in found.students}
    students = {**kept, **found.students}
    counts = Counter(student.class_id for student in students.values())
    if counts and max(counts.values()) > limits.students:
        raise RosterImportError(f"A class would have {max(counts.values())} students; it may have {limits.students}.")
    old = before.students
    outcome = Outcome(
        len(found.students),
        len({student.class_id for student in found.students.values()}),
        len(found.students.keys() - old.keys()),
        sum(key in old and old[key] != student for key, student in found.students.items()),
        len(old.keys() - found.students.keys()) if replace else 0,
        len(kept),
        [bad.text for bad in found.findings],
    )
    if not dry_run and (skip_bad or not found.findings):
        if not found.students:
            raise RosterImportError(f"{source.name} names no student; nothing was changed.")
        used = {student.class_id for student in students.values()}
        _write(folder, students, [_titled(class_id, before, found) for class_id in sorted(used)])
    return outcome


def _read(source: Path, limits: RosterLimits, chosen: frozenset[str]) -> Lists:
    if source.is_dir():
        return _read_oneroster(source, limits, chosen)
    if not source.exists():
        raise RosterImportError(f"There is no file {source}.")
    if zipfile.is_zipfile(source):
        return _read_zip(source, limits, chosen)
    lists = Lists()
    read_students(lists, source, limits, _CORRECT)
    return lists


def _read_zip(source: Path, limits: RosterLimits, chosen: frozenset[str]) -> Lists:
    with zipfile.ZipFile(source) as packed, tempfile.TemporaryDirectory() as name:
        members = {Path(member.filename).name: member for member in packed.infolist()}
        if "users.csv" not in members:
            raise RosterImportError(
                f"{source.name} is neither CSV nor a OneRoster export. Save a spreadsheet as CSV (UTF-8) first."
            )
        for file in ("users.csv", "enrollments.csv", "classes.csv"):
            if file in members:
                if members[file].file_size > limits.file_bytes:
                    raise RosterImportError(f"{file} in {source.name} is larger than {limits.file_bytes:,} bytes.")
                (Path(name) / file).write_bytes(packed.read(members[file]))
        return _read_oneroster(Path(name), limits, chosen)


def _read_oneroster(folder: Path, limits: RosterLimits, chosen: frozenset[str]) -> Lists:
    """Students with their classes; of several enrolments of a student the first counts, the others are reported."""
    for file in ("users.csv", "enrollments.csv"):
        if not (folder / file).is_file():
            raise RosterImportError(f"A OneRoster export has a file {file}; {folder} has none.")
    lists = Lists()
    numbers: Counter[str] = Counter()
    try:
        titles = {
            row["class_id"]: row.get("title", "")
            for _, row in rows(folder / "classes.csv", _CLASSES, ("class_id",), limits)
            if row.get("class_id") and _active(row)
        }
        users = {
            row["student_id"]: row
            for _, row in rows(folder / "users.csv", _USERS, ("student_id",), limits)
            if row.get("student_id") and _active(row)
        }
        for line, row in rows(folder / "enrollments.csv", _ENROLLMENTS, ("user",), limits):
            of_student = _active(row) and row.get("role", "student").casefold() == "student"
            if not of_student or (chosen and row.get("class_id") not in chosen):
                continue
            wrong = _enroll(lists, row, users, limits, numbers)
            if wrong:
                lists.findings.append(line_finding("enrollments.csv", line, wrong))
    except UnreadableError as error:
        raise RosterImportError(str(error)) from None
    for class_id, section in lists.classes.items():
        lists.classes[class_id] = Class(class_id, titles.get(class_id) or section.title, "")
    return lists


def _enroll(
    lists: Lists,
    row: Mapping[str, str],
    users: Mapping[str, Mapping[str, str]],
    limits: RosterLimits,
    numbers: Counter[str],
) -> str | None:
    user = users.get(row.get("user", ""))
    if user is None:
        return "users.csv has no such user who is active. Remove the row, or add the user."
    if not row.get("class_id"):
        return f"It names no class. {_CORRECT}"
    if row["user"] in lists.students:
        if lists.students[row["user"]].class_id == row["class_id"]:
            return None
        return "This student is in another class already, and a student is in one here. Choose classes with --class."
    named = {"given": user.get("given", ""), "family": user.get("family", "")}
    wrong = add_student(lists, {**named, "student_id": row["user"], "class_id": row["class_id"]}, limits, numbers)
    return f"{wrong} Correct the user in users.csv." if wrong else None


def _active(row: Mapping[str, str]) -> bool:
    status, enabled = row.get("status", "").casefold(), row.get("enabled", "").casefold()
    return status in ("", "active") and enabled not in ("false", "0")


def _chosen(lists: Lists, classes: frozenset[str]) -> Lists:
    if not classes:
        return lists
    students = {key: student for key, student in lists.students.items() if student.class_id in classes}
    return Lists(
        {key: section for key, section in lists.classes.items() if key in classes}, students, findings=lists.findings
    )


def _check_nothing_is_lost(folder: Path, before: Lists) -> None:
    bad = [found for found in before.findings if found.subject.startswith(STUDENTS)]
    if bad:
        raise RosterImportError(
            f"The roster's own list has rows that cannot be used: {bad[0].text} Correct it, or use --replace."
        )
    unknown = unknown_columns(folder / STUDENTS)
    if unknown:
        raise RosterImportError(
            f"The roster's own {STUDENTS} has a column {unknown[0]!r}, which would be lost. "
            "Remove it, or use --replace."
        )


def _titled(class_id: str, before: Lists, found: Lists) -> Class:
    """A class with the educator's title and code, or else those of the imported list."""
    plain = Class(class_id, class_id, "")
    own = before.classes.get(class_id, plain)
    return own if own.code or own.title != class_id else found.classes.get(class_id, plain)


def _write(folder: Path, students: Mapping[str, Student], classes: Iterable[Class]) -> None:
    make_folder(folder)
    sections = [(section.class_id, section.title, section.code) for section in classes]
    if (folder / CLASSES).exists() or any(title != class_id or code for class_id, title, code in sections):
        # The classes first: otherwise a reader would create missing classes from their students, with other titles.
        _write_csv(folder / CLASSES, ("class", "title", "code"), sections)
    ordered = sorted(students.values(), key=lambda student: (student.class_id, student.name.casefold()))
    lines = [(student.student_id, student.name, student.class_id) for student in ordered]
    _write_csv(folder / STUDENTS, ("student_id", "name", "class"), lines)


def _write_csv(path: Path, heading: Iterable[str], lines: Iterable[Iterable[str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(heading)
    writer.writerows(lines)
    write_private(path, text.getvalue().encode("utf-8-sig"))
