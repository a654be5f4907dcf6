"""Reading of a plain list: a spreadsheet's CSV, a school program's export, or names that were pasted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import msgspec

from appliance.roster.imports.decoding import Decoded, decode
from appliance.roster.imports.headings import (
    IGNORED,
    Headings,
    heading_hits,
    is_gone,
    is_no_student,
    plain,
    read_class_headings,
    read_headings,
)
from appliance.roster.imports.ids import id_trouble, looks_like_a_date
from appliance.roster.imports.model import (
    Choice,
    Column,
    Entry,
    Form,
    Incoming,
    ListedClass,
    Note,
    Question,
    ReadOptions,
    RosterImportError,
)
from appliance.roster.imports.rows import Row, read_rows, separator_of, wrong_number
from appliance.roster.limits import RosterLimits
from appliance.roster.names import clean_name, compared, look
from appliance.roster.tables import plain_code

_HEADING_ROWS = 20
"""Within how many rows the headings must be: school programs write a title above them."""
_SAMPLES = 3
_CLASS_CHARACTERS = 100
_GRADEBOOK_ROWS = frozenset(("pointspossible", "points", "date", "duedate", "classaverage", "average", "classaverages"))
_WORD_CHARACTERS = 20
# A student for tests of a course, whom Canvas adds.
_TEST_STUDENT = frozenset(("studenttest", "teststudent"))
_BULLET = re.compile(r"(?:\d{1,3}[.)]|[-*\u2022\u2013\u25aa\u25cf])\s+")
_AND = re.compile(r", and |, | and | et | und | y | i ")


class _LeftError(Exception):
    """A row is about no student; the text says why."""


class _RefusedError(Exception):
    """A row cannot be used; the text says why and what to do."""


def read_plain(
    content: bytes | str, name: str, options: ReadOptions, limits: RosterLimits, *, pasted: bool = False
) -> Incoming:
    """Read a plain list.

    Args:
        content: the file, or text that was pasted.
        name: name of the file.
        options: how to read it.
        limits: of names and files.
        pasted: whether it may be names alone, with numbers or dots before them.

    Raises:
        RosterImportError: it cannot be read at all; the text says why and what to do.
    """
    if len(content) > limits.file_bytes:
        raise RosterImportError(f"{name} is larger than {limits.file_bytes:,} bytes and was not read.")
    if isinstance(content, str):
        decoded = Decoded(content.removeprefix("\ufeff"), "utf-8")
    else:
        decoded = decode(content, options.encoding, heading_hits)
    if not decoded.text.strip():
        raise RosterImportError(f"{name} is empty.")
    reader = _Reader(decoded, name, options, limits, pasted)
    return reader.read()


def read_classes(content: bytes, name: str, options: ReadOptions, limits: RosterLimits) -> Incoming:
    """Read a list of classes, with the columns class, title and code.

    Raises:
        RosterImportError: it cannot be read.
    """
    if len(content) > limits.file_bytes:
        raise RosterImportError(f"{name} is larger than {limits.file_bytes:,} bytes and was not read.")
    decoded = decode(content, options.encoding, heading_hits)
    sheet = read_rows(decoded.text)
    form = Form("plain", decoded.encoding, sheet.separator, sheet.line_end)
    incoming = Incoming(name, form, people_too=False)
    incoming.refused += [Note(name, bad.line, bad.why) for bad in sheet.bad]
    if not sheet.rows:
        return incoming
    heading, *rows = sheet.rows
    meanings = read_class_headings(heading.cells)
    if "class_id" not in meanings:
        raise RosterImportError(f"{name}: the first line must name the columns, with a column 'class'.")
    codes: set[str] = set()
    for row in rows:
        cells = {meaning: cell for meaning, cell in zip(meanings, row.cells, strict=False) if meaning}
        class_id, code = cells.get("class_id", ""), cells.get("code", "")
        if not class_id:
            incoming.refused.append(Note(name, row.line, "The column class is empty."))
        elif class_id in incoming.classes:
            incoming.refused.append(Note(name, row.line, "This class is in the list twice."))
        else:
            if code and (len(plain_code(code)) < 4 or plain_code(code) in codes):
                text = "A join code needs 4 or more letters or digits of its own; the program chooses one."
                incoming.notes.append(Note(name, row.line, text))
                code = ""
            codes.add(plain_code(code))
            title = cells.get("title") or class_id
            incoming.classes[class_id] = ListedClass(name, row.line, class_id, title[:_CLASS_CHARACTERS], code)
    return incoming


class _Reader:
    """Reads one list of students."""

    def __init__(self, decoded: Decoded, name: str, options: ReadOptions, limits: RosterLimits, pasted: bool) -> None:
        self._decoded = decoded
        self._name = name
        self._options = options
        self._limits = limits
        self._pasted = pasted
        self._sheet = read_rows(decoded.text)
        self._headings = Headings([])
        self._rows: list[Row] = []
        self._family_first = False
        self._has_classes = False
        self._chosen = {compared(class_id) for class_id in options.classes}
        self.incoming = Incoming(name, Form("plain", decoded.encoding))

    def read(self) -> Incoming:
        self._ask_about_encoding()
        self._find_headings()
        incoming, sheet = self.incoming, self._sheet
        incoming.form = Form(
            "plain",
            self._decoded.encoding,
            sheet.separator or ",",
            sheet.line_end,
            [column.heading for column in incoming.columns] if any(c.heading for c in incoming.columns) else [],
            [column.meaning for column in incoming.columns],
        )
        if not self._headings.has_names:
            return incoming
        incoming.refused += [Note(self._name, bad.line, bad.why) for bad in sheet.bad]
        self._read_students()
        self._split_sections()
        self._check_twins()
        self._ask_about_rows()
        self._note_alike()
        incoming.refused.sort(key=lambda note: note.line)
        return incoming

    # ---- Questions ----

    def _ask_about_encoding(self) -> None:
        decoded = self._decoded
        if decoded.certain:
            return
        language = f" ({decoded.language})" if decoded.language else ""
        text = f"The encoding seems to be {decoded.encoding}{language}. Are the letters of these lines right?"
        choices = [Choice(name, name) for name in decoded.others]
        self.incoming.questions.append(Question("encoding", text, samples=decoded.samples, choices=choices))

    def _find_headings(self) -> None:
        """Find the row of headings, and what the columns mean."""
        rows, chosen = self._sheet.rows, self._options.columns
        for place, row in enumerate(rows[:_HEADING_ROWS]):
            if not read_headings(row.cells).has_names and not _names_columns(chosen, row.cells):
                continue
            self._headings = read_headings(row.cells, chosen)
            self._rows = rows[place + 1 :]
            above = "It is above the headings."
            self.incoming.left += [Note(self._name, title.line, above) for title in rows[:place]]
            self._set_columns(row.cells)
            unknown = [c.heading for c in self.incoming.columns if not c.meaning and c.heading]
            if unknown:
                text = "These columns are not known and would not be read. Is that right?"
                self.incoming.questions.append(Question("headings", text, samples=unknown[:50]))
            return
        self._without_headings()

    def _without_headings(self) -> None:
        rows, chosen = self._sheet.rows, self._options.columns
        if self._pasted or not self._sheet.separator:
            self._unnumber()
            rows = self._sheet.rows
        if self._are_turned_names():
            self._sheet = read_rows(self._decoded.text, "")
            rows = self._sheet.rows
        width = Counter(len(row.cells) for row in rows).most_common(1)[0][0] if rows else 0
        self._rows = rows
        if chosen and all(column.strip().isdecimal() for column in chosen.values()):
            self._headings = read_headings([""] * width, chosen)
        elif width == 1:
            self._headings = Headings(["name"], True)
            samples = [row.cells[0] for row in rows[:_SAMPLES]]
            text = "The list has no headings. Is each line the name of a student?"
            self.incoming.questions.append(Question("no_headings", text, samples=samples))
        else:
            self._headings = Headings([""] * width)
            text = (
                "The first line must name the columns, with a column 'name'. "
                "Say which column is the name, or which are the given and the family name."
            )
            self.incoming.questions.append(Question("columns", text, yes=False))
        self._set_columns([""] * width)

    def _are_turned_names(self) -> bool:
        """Whether what was pasted has no separator but one comma in each name: ``Lovelace, Ada``."""
        sheet = self._sheet
        found = sheet.separator == "," and self._pasted and not self._options.columns
        return found and all(len(row.cells) == 2 and all(row.cells) for row in sheet.rows)

    def _unnumber(self) -> None:
        """Remove the numbers or dots before pasted names, if every line has one."""
        lines = [line for line in self._decoded.text.splitlines() if line.strip()]
        if lines and all(_BULLET.match(line.strip()) for line in lines):
            text = "\n".join(_BULLET.sub("", line.strip(), count=1) for line in self._decoded.text.splitlines())
            self._decoded = msgspec.structs.replace(self._decoded, text=text)
            self._sheet = read_rows(text, separator_of(text.splitlines()))

    def _set_columns(self, headings: Sequence[str]) -> None:
        samples: list[list[str]] = [[] for _ in headings]
        for row in self._rows[:50]:
            for found, cell in zip(samples, row.cells, strict=False):
                if cell and len(found) < _SAMPLES:
                    found.append(cell[:60])
        meanings = self._headings.meanings
        self.incoming.columns = [
            Column(heading, meaning, found) for heading, meaning, found in zip(headings, meanings, samples, strict=True)
        ]

    def _ask_about_rows(self) -> None:
        incoming = self.incoming
        if not incoming.entries and not incoming.questions and not incoming.refused:
            incoming.notes.append(Note(self._name, 0, "The list names no student."))

    # ---- Rows ----

    def _read_students(self) -> None:
        meanings = self._headings.meanings
        used = [place for place, meaning in enumerate(meanings) if meaning not in ("", IGNORED)]
        place = meanings.index("name") if "name" in meanings else -1
        self._family_first = self._headings.family_first or (
            place >= 0 and all(_is_turned(row.cells[place : place + 1]) for row in self._rows)
        )
        places = [place for place, meaning in enumerate(meanings) if meaning in ("class", "classes")]
        self._has_classes = any(
            row.cells[place : place + 1] not in ([], [""]) for row in self._rows for place in places
        )
        for number, row in enumerate(self._rows):
            last = self._sheet.cut_off and number == len(self._rows) - 1
            try:
                wrong = wrong_number(row, len(meanings), used, last)
                if wrong:
                    raise _RefusedError(wrong)
                cells = {m: row.cells[at] for at, m in enumerate(meanings) if m and at < len(row.cells)}
                self.incoming.entries += self._students_of(row.line, cells)
            except _LeftError as skipped:
                self.incoming.left.append(Note(self._name, row.line, str(skipped)))
            except _RefusedError as refused:
                self.incoming.refused.append(Note(self._name, row.line, str(refused)))

    def _students_of(self, line: int, cells: dict[str, str]) -> list[Entry]:
        cells.pop(IGNORED, None)
        self._skip_no_student(cells)
        given, family, name = self._names(cells)
        source_id = cells.get("id", "")
        trouble = id_trouble(source_id)
        if trouble:
            raise _RefusedError(trouble)
        try:
            preferred = " ".join(cells.get("preferred", "").split())
            shown = clean_name(name or f"{preferred or given} {family}", self._limits.name_characters)
        except ValueError as error:
            raise _RefusedError(str(error)) from None
        classes = self._classes_of(cells)
        chosen = [class_id for class_id in classes if not self._chosen or compared(class_id) in self._chosen]
        if not chosen:
            raise _LeftError("It is of a class that was not chosen.")
        return [Entry(self._name, line, source_id, given, family, preferred, shown, class_id) for class_id in chosen]

    def _skip_no_student(self, cells: dict[str, str]) -> None:
        """Raise `_LeftError` for a row that is about no student."""
        if not any(cells.values()):
            raise _LeftError("It has no name, id or class.")
        role = cells.get("role", "")
        if role and is_no_student(role):
            raise _LeftError("By its role it is no student.")
        if is_gone(cells.get("status", "")):
            raise _LeftError("By its status the student is no longer there.")
        written = [cells[part] for part in ("name", "given", "family") if cells.get(part)]
        if not written or len(written[0]) > _WORD_CHARACTERS or not written[0].isascii():
            return
        names = [plain(cell) for cell in written]
        if not cells.get("id") and set(names) <= _GRADEBOOK_ROWS:
            raise _LeftError("It is a row of a gradebook that is about no student.")
        if "".join(names) in _TEST_STUDENT:
            raise _LeftError("It is the test student of a course.")

    def _names(self, cells: dict[str, str]) -> tuple[str, str, str]:
        """Given name, family name, and the whole name if the list has one."""
        given, family, name = cells.get("given", ""), cells.get("family", ""), cells.get("name", "")
        if cells.get("family2"):
            family = f"{family} {cells['family2']}".strip()
        if name and self._family_first and name.count(",") == 1:
            last, _, first = name.partition(",")
            last, first = last.strip(), first.strip()
            given, family, name = given or first, family or last, f"{first} {last}".strip()
        if name and given and family and self._headings.family_first:
            name = ""
        return given, family, name

    def _classes_of(self, cells: dict[str, str]) -> list[str]:
        if "classes" in cells:
            found = [" ".join(part.split()) for part in re.split(r"[,;]", cells["classes"])]
            classes = list(dict.fromkeys(part for part in found if part))
        else:
            classes = [cells["class"]] if cells.get("class") else []
        for class_id in classes:
            if len(class_id) > _CLASS_CHARACTERS:
                raise _RefusedError(f"The name of a class may have {_CLASS_CHARACTERS} characters.")
            if not class_id.isprintable():
                raise _RefusedError("The name of the class has characters that cannot be seen.")
        chosen = self._options.classes
        return classes or [chosen[0] if len(chosen) == 1 and not self._has_classes else ""]

    def _split_sections(self) -> None:
        """Divide ``7a and 7b``, as Canvas writes it, into both classes, if the list has each of them by itself."""
        known = {entry.class_id for entry in self.incoming.entries}
        divided: list[Entry] = []
        for entry in self.incoming.entries:
            parts = [part for part in _AND.split(entry.class_id) if part]
            if len(parts) > 1 and known.issuperset(parts):
                divided += [msgspec.structs.replace(entry, class_id=part) for part in dict.fromkeys(parts)]
            else:
                divided.append(entry)
        self.incoming.entries = divided
        for entry in divided:
            if entry.class_id and entry.class_id not in self.incoming.classes:
                listed = ListedClass(self._name, entry.line, entry.class_id, entry.class_id)
                self.incoming.classes[entry.class_id] = listed
                if looks_like_a_date(entry.class_id):
                    text = "The class is a date: a spreadsheet may have changed a name such as 7-8. Check it."
                    self.incoming.notes.append(Note(self._name, entry.line, text))

    def _check_twins(self) -> None:
        """Refuse or leave rows that name a student again."""
        by_id: dict[tuple[str, str], Entry] = {}
        by_name: dict[tuple[str, str], Entry] = {}
        people: dict[str, Entry] = {}
        kept = []
        for entry in self.incoming.entries:
            wrong, same = self._twin(entry, by_id, by_name, people)
            if wrong:
                self.incoming.refused.append(Note(self._name, entry.line, wrong))
            elif same:
                self.incoming.left.append(Note(self._name, entry.line, same))
            else:
                kept.append(entry)
        self.incoming.entries = kept

    @staticmethod
    def _twin(
        entry: Entry,
        by_id: dict[tuple[str, str], Entry],
        by_name: dict[tuple[str, str], Entry],
        people: dict[str, Entry],
    ) -> tuple[str, str]:
        """Why a row is refused, and why it is left; both are "" for a student who is new in the list."""
        if not entry.source_id:
            known = by_name.setdefault((entry.class_id, compared(entry.name)), entry)
            if known is entry:
                return "", ""
            return f"Line {known.line} has this name too; two students of one name need a column with ids.", ""
        person = people.setdefault(entry.source_id, entry)
        if compared(person.name) != compared(entry.name):
            return f"Line {person.line} has this id with another name.", ""
        known = by_id.setdefault((entry.class_id, entry.source_id), entry)
        return "", "" if known is entry else f"It is the same as line {known.line}."

    def _note_alike(self) -> None:
        """Note names of one class that look alike and are different."""
        looks: dict[tuple[str, str], Entry] = {}
        for entry in self.incoming.entries:
            known = looks.setdefault((entry.class_id, look(entry.name)), entry)
            if compared(known.name) != compared(entry.name):
                text = f"The name looks like that in line {known.line}, and has other letters."
                self.incoming.notes.append(Note(self._name, entry.line, text))


def _names_columns(chosen: dict[str, str], cells: Sequence[str]) -> bool:
    """Whether a row has a chosen heading of a name."""
    headings = {plain(cell) for cell in cells if cell}
    return any(
        meaning in ("name", "given", "family") and plain(column) in headings for meaning, column in chosen.items()
    )


def _is_turned(cell: Sequence[str]) -> bool:
    """Whether a cell is like ``Lovelace, Ada``; an empty one may be."""
    return not cell or not cell[0] or (cell[0].count(",") == 1 and all(part.strip() for part in cell[0].split(",")))
