"""An educator's class lists: ``classes.csv`` and ``students.csv``, as a spreadsheet saves them.

Commas, semicolons or tabs between the columns; UTF-8 or the Windows code page 1252. The first row names the columns.

``students.csv``: ``name`` (or ``given name`` and ``family name``), ``class``, and ``student id``, with which
a renamed student stays the same. ``classes.csv``, which is only needed to choose titles or codes: ``class``, ``title``,
``code``; the last two are valid until they are changed in the dashboard. The names of OneRoster's columns
(``sourcedId``, ``givenName``, ``classSourcedId`` ...) are accepted too.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from appliance.health import Finding, finding
from appliance.roster.identity import FIRST_CLASS
from appliance.roster.limits import RosterLimits
from appliance.roster.names import clean_name
from appliance.roster.tables import Class, Student, plain_code

CHECK_SECONDS = 1.0
"""The shortest time between two checks of the lists for changes."""
STUDENTS = "students.csv"
CLASSES = "classes.csv"

_STUDENT_COLUMNS = {
    "student_id": ("studentid", "sourcedid", "id", "usersourcedid"),
    "name": ("name", "student", "studentname", "fullname"),
    "given": ("givenname", "firstname", "given"),
    "family": ("familyname", "lastname", "surname", "family"),
    "class_id": ("class", "classid", "classsourcedid", "section", "sectionid", "group"),
}
_CLASS_COLUMNS = {
    "class_id": ("class", "classid", "sourcedid", "section", "sectionid", "id"),
    "title": ("title", "name", "classtitle"),
    "code": ("code", "joincode"),
}


class Lists(msgspec.Struct, frozen=True):
    """The content of the lists.

    Attributes:
        classes: by id, in the order of the files; `code` is "" if the list has none.
        students: by id, each of them `listed`.
        without_id: keys of students to whom the list gives no id; theirs is computed from class and name.
        findings: lines that could not be used, with file and line number, without names of persons.
        unread: names of files that could not be read, or not to their end.
    """

    classes: dict[str, Class] = {}
    students: dict[str, Student] = {}
    without_id: set[str] = set()
    findings: list[Finding] = []
    unread: list[str] = []


class UnreadableError(Exception):
    """A whole list, or the rest of it, cannot be read."""


class ListFolder:
    """The lists in a folder, read again after they have changed and then been the same at two checks.

    A spreadsheet that saves may leave a list empty, or remove it, for a moment. No student must be removed for that.
    """

    def __init__(self, folder: Path, limits: RosterLimits) -> None:
        self._folder = folder
        self._limits = limits
        self._checked = float("-inf")
        self._seen: object = None
        self._accepted: object = None

    def is_due(self) -> bool:
        """Whether it is time for another check."""
        return time.monotonic() - self._checked >= CHECK_SECONDS

    def read(self) -> Lists:
        """The lists as they are now."""
        return read_lists(self._folder, self._limits)

    def changed(self) -> Lists | None:
        """The lists if they have changed since the last `accept`; None if not, or if that is not certain yet."""
        if not self.is_due():
            return None
        stamp = [_stamp(self._folder / name) for name in (CLASSES, STUDENTS)]
        before, self._seen = self._seen, stamp
        if stamp == self._accepted or (self._accepted is not None and stamp != before):
            self._checked = time.monotonic()
            return None
        return self.read()

    def accept(self) -> None:
        """Note that the lists that `changed` returned are in use."""
        self._accepted = self._seen
        self._checked = time.monotonic()


def read_lists(folder: Path, limits: RosterLimits) -> Lists:
    """Read both lists; a missing one counts as empty. A student without a class is in `FIRST_CLASS`.

    Args:
        folder: the folder of the lists.
        limits: limits of names, classes and files.
    """
    lists = Lists()
    try:
        _read_classes(lists, folder, limits)
    except UnreadableError as error:
        lists.findings.append(finding("roster.file", CLASSES, detail=str(error)))
        lists.unread.append(CLASSES)
    read_students(lists, folder / STUDENTS, limits)
    return lists


def line_finding(file: str, line: int, detail: str) -> Finding:
    """A finding about a line of a list; the detail is a sentence without names of persons."""
    return finding("roster.line", f"{file}:{line}", file=file, line=line, detail=detail)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _read_classes(lists: Lists, folder: Path, limits: RosterLimits) -> None:
    codes: set[str] = set()
    for line, row in rows(folder / CLASSES, _CLASS_COLUMNS, ("class_id",), limits):
        class_id, code = row.get("class_id", ""), row.get("code", "")
        wrong = None
        if not class_id:
            wrong = "the column class is empty; the line is left out."
        elif class_id in lists.classes:
            wrong = "this class is in the list twice; the line is left out."
        elif code and (len(plain_code(code)) < 4 or plain_code(code) in codes):
            wrong = "a join code needs 4 or more letters or digits of its own; the program chooses one."
            code = ""
        if wrong:
            lists.findings.append(line_finding(CLASSES, line, wrong))
        if class_id and class_id not in lists.classes:
            codes.add(plain_code(code))
            lists.classes[class_id] = Class(class_id, row.get("title") or class_id, code)


def read_students(lists: Lists, path: Path, limits: RosterLimits, what_to_do: str = "The line is left out.") -> None:
    """Add a list of students.

    Args:
        lists: get the students.
        path: the list; a missing one counts as empty.
        limits: as for `read_lists`.
        what_to_do: a sentence that follows each finding about a line.
    """
    numbers = Counter(student.class_id for student in lists.students.values())
    try:
        for line, row in rows(path, _STUDENT_COLUMNS, ("name", "given", "family"), limits):
            wrong = add_student(lists, row, limits, numbers)
            if wrong:
                lists.findings.append(line_finding(path.name, line, f"{wrong} {what_to_do}"))
    except UnreadableError as error:
        lists.findings.append(finding("roster.file", path.name, detail=str(error)))
        lists.unread.append(path.name)


def add_student(lists: Lists, row: Mapping[str, str], limits: RosterLimits, numbers: Counter[str]) -> str | None:
    """Add the student of a row; returns a sentence that says what is wrong if the row cannot be used.

    Args:
        lists: get the student.
        row: our column name -> text.
        limits: as for `read_lists`.
        numbers: number of students by class so far; it is updated.
    """
    class_id = row.get("class_id") or FIRST_CLASS
    try:
        name = clean_name(_full_name(row), limits.name_characters)
    except ValueError as error:
        return str(error)
    student_id = row.get("student_id") or key_without_id(class_id, name)
    if student_id in lists.students:
        return "This student is in the list twice; two students of one name need a column student_id."
    if numbers[class_id] >= limits.students:
        return f"A class may have {limits.students} students."
    numbers[class_id] += 1
    lists.classes.setdefault(class_id, Class(class_id, class_id, ""))
    lists.students[student_id] = Student(student_id, name, class_id, listed=True)
    if not row.get("student_id"):
        lists.without_id.add(student_id)
    return None


def without(path: Path, keys: frozenset[str], limits: RosterLimits) -> bytes | None:
    """The content of a list of students without a student's rows, all other bytes unchanged; None if it has none.

    Args:
        path: the list.
        keys: ids of the student to leave out, as the list has them or `key_without_id` computes them.
        limits: as for `read_lists`.

    Raises:
        ValueError: the list cannot be read; the text says why.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        text = _text(path, content)
        listed = list(rows(path, _STUDENT_COLUMNS, ("name", "given", "family"), limits))
    except UnreadableError as error:
        raise ValueError(str(error)) from None
    lines = list(io.StringIO(text, newline=""))
    ends = [line for line, _ in csv_rows(lines, _separator(content))]
    begins = dict(zip(ends, [0, *ends], strict=False))
    gone: set[int] = set()
    for end, row in listed:
        class_id = row.get("class_id") or FIRST_CLASS
        try:
            name = clean_name(_full_name(row), limits.name_characters)
            found = row.get("student_id") or key_without_id(class_id, name)
        except ValueError:
            found = row.get("student_id") or ""
        if found in keys:
            gone.update(range(begins[end], end))
    if not gone:
        return None
    left = "".join(line for number, line in enumerate(lines) if number not in gone)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return left.encode("utf-16")
    try:
        content.decode()
    except UnicodeDecodeError:
        return left.encode("cp1252")
    return left.encode("utf-8-sig" if content.startswith(b"\xef\xbb\xbf") else "utf-8")


def is_cut_off(path: Path) -> bool:
    """Whether a list ends within a row: its last row has no line break, and fewer cells than the first."""
    try:
        content = path.read_bytes()
        text = _text(path, content)
        found = [cells for _, cells in csv_rows(io.StringIO(text, newline=""), _separator(content)) if cells]
    except (OSError, UnreadableError, csv.Error):
        # Reading the list reports it.
        return False
    return bool(found) and not text.endswith(("\n", "\r")) and len(found[-1]) < len(found[0])


def csv_rows(lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV text, each with the number of its last line; the first line is 1."""
    reader = csv.reader(lines, delimiter=separator, strict=True)
    for cells in reader:
        yield reader.line_num, cells


def _full_name(row: Mapping[str, str]) -> str:
    return row.get("name") or f"{row.get('given', '')} {row.get('family', '')}"


def key_without_id(class_id: str, name: str) -> str:
    """A key for a student without an id: the same at every reading, as long as class and name are the same."""
    digest = hashlib.sha256(f"{class_id}\0{name}".encode()).digest()
    return "l-" + base64.b32encode(digest)[:10].decode().lower()


def rows(
    path: Path, columns: Mapping[str, tuple[str, ...]], needed: tuple[str, ...], limits: RosterLimits
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a list, each with its line number, as our column name -> text.

    Args:
        path: the list; a missing one has no rows.
        columns: our column name -> accepted spellings, in lower case, letters and digits alone.
        needed: columns of which one must be present.
        limits: as for `read_lists`.

    Raises:
        UnreadableError: the list, or the rest of it, cannot be read.
    """
    try:
        if path.stat().st_size > limits.file_bytes:
            raise UnreadableError(f"{path.name} is larger than {limits.file_bytes:,} bytes and was not read.")
        content = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise UnreadableError(f"{path.name} cannot be read: {error.strerror}.") from error
    reader = csv.reader(io.StringIO(_text(path, content), newline=""), delimiter=_separator(content), strict=True)
    try:
        heading = next(reader, [])
        names = [_column(cell, columns) for cell in heading]
        if not any(name in needed for name in names):
            raise UnreadableError(
                f"{path.name}: the first line must name the columns, with a column {needed[0].replace('_id', '')!r}."
            )
        for cells in reader:
            if any(cell.strip() for cell in cells):
                pairs = zip(names, cells, strict=False)
                yield reader.line_num, {name: " ".join(cell.split()) for name, cell in pairs if name}
    except csv.Error as error:
        raise UnreadableError(f"{path.name}, line {reader.line_num}: {error}; the rest was not read.") from None


def unknown_columns(path: Path) -> list[str]:
    """The names of columns in a list of students that this program does not know."""
    try:
        content = path.read_bytes()
        lines = io.StringIO(_text(path, content), newline="")
    except (OSError, UnreadableError):
        return []
    heading = next(csv.reader(lines, delimiter=_separator(content)), [])
    return [cell for cell in heading if cell.strip() and not _column(cell, _STUDENT_COLUMNS)]


def _column(cell: str, columns: Mapping[str, tuple[str, ...]]) -> str | None:
    plain = "".join(character for character in cell.casefold() if character.isalnum())
    return next((name for name, spellings in columns.items() if plain in spellings), None)


def _text(path: Path, content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        # What spreadsheets call "Unicode text".
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            return content.decode("cp1252")
        except UnicodeDecodeError:
            raise UnreadableError(f"{path.name} is neither UTF-8 nor Windows text; save it as CSV UTF-8.") from None


def _separator(content: bytes) -> str:
    first = content.replace(b"\0", b"").split(b"\n", 1)[0]
    return max((b",", b";", b"\t"), key=first.count).decode()
