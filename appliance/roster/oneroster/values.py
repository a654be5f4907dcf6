"""Cells of a row by heading, and what their texts mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from functools import lru_cache
from operator import itemgetter

from appliance.roster.oneroster.findings import Findings, OneRosterError
from appliance.roster.oneroster.records import State
from appliance.roster.oneroster.rows import Sheet
from appliance.roster.oneroster.tables import TABLES
from appliance.text import counted

DELETED = ("tobedeleted", "inactive")
"""What a status says of a row that is to be removed; OneRoster 1.0 had the second one too."""
NO_NAME = "-"
"""What is written for a given or family name that a person does not have, since both are required."""
# Better ones come first, where several rows are about the same.
STATES: tuple[State, ...] = ("current", "future", "ended", "disabled", "deleted")


@lru_cache(maxsize=4096)
def plain(heading: str) -> str:
    """A heading, or a role, in the form in which they are compared: lower case, letters and digits alone."""
    return "".join(character for character in heading.casefold() if character.isalnum())


def picked(
    sheet: Sheet, wanted: Mapping[str, tuple[str, ...]], needed: tuple[str, ...], findings: Findings | None
) -> Iterator[tuple[int, list[str]]]:
    """The rows of a file that can be used, each with its line and the wanted cells in their order.

    Args:
        sheet: the file.
        wanted: our name of a column, at least two -> its headings, as `plain` gives them; a missing column gives "".
        needed: our names of columns without which the file cannot be used.
        findings: get the rows that cannot be used; None if that was done at an earlier reading.

    Raises:
        OneRosterError: a needed column is missing.
    """
    headings = [plain(heading) for heading in sheet.heading]
    places = [_place(headings, spellings) for spellings in wanted.values()]
    for (name, spellings), place in zip(wanted.items(), places, strict=True):
        if place < 0 and name in needed:
            raise OneRosterError(
                f"{sheet.file}: the header, which is line 1, has no column {_HEADINGS[spellings[0]]}. Export it again."
            )
    width = len(headings)
    choose = itemgetter(*places)

    def note(rule: str, line: int, text: str) -> None:
        if findings is not None:
            findings.add(rule, "error", text, sheet.file, line)

    sheet.on_bad_row = lambda line, wrong: note("bad-quotes", line, f"{bad_row(wrong)} The row is left out.")
    for line, cells in sheet.rows():
        if len(cells) != width:
            wrong = _wrong_length(sheet, cells, width)
            if wrong:
                note("row-length", line, wrong)
                continue
            if not any(cells):
                continue
            cells = [*cells[:width], *[""] * (width - len(cells))]
        cells.append("")
        chosen = list(map(str.strip, choose(cells)))
        if any(chosen):
            yield line, chosen


_HEADINGS = {
    plain(column.name): column.name
    for table in TABLES.values()
    for columns in table.columns.values()
    for column in columns
}


def _place(headings: list[str], spellings: tuple[str, ...]) -> int:
    return next((headings.index(spelling) for spelling in spellings if spelling in headings), -1)


def _wrong_length(sheet: Sheet, cells: list[str], width: int) -> str:
    """What is wrong with a row of another length than the header; "" if nothing is in doubt.

    A spreadsheet leaves out empty cells at the end of a row. A further cell may mean that a comma of a name separates.
    """
    if len(cells) > width and any(cells):
        return (
            f"The row has {counted(len(cells), 'cell')} and the header {width}. Put a field with a comma into quotation "
            "marks. The row is left out."
        )
    if 1 < len(cells) < width and not sheet.last_line_ended:
        return "The file ends within this row. Export it again. The row is left out."
    return ""


def bad_row(wrong: str) -> str:
    """A sentence on a row that is no CSV, from what the CSV parser says."""
    if "end of data" in wrong:
        return "A quotation mark is opened here and not closed until the end of the file. Close it."
    if "limit" in wrong:
        return "A field is too long; perhaps a quotation mark is opened here and not closed. Close it."
    return "Something follows a closing quotation mark. Write a quotation mark within a field twice."


def deleted(status: str) -> bool:
    return bool(status) and status.casefold() in DELETED


def several(cell: str) -> tuple[str, ...]:
    """The values of a field that may have several."""
    return tuple(part for value in cell.split(",") if (part := value.strip()))


@lru_cache(maxsize=4096)
def day(text: str) -> date | None:
    """The day of a date or time; None if the text is neither.

    Years, months and days in this order, with hyphens, as ISO 8601 has them.
    """
    try:
        return date.fromisoformat(text[:10]) if text.isascii() and text[4:5] == "-" else None
    except ValueError:
        return None


def state_of(begins: date | None, ends: date | None, today: date) -> State:
    """The state of what has a first day and a first day after its end."""
    if ends is not None and ends <= today:
        return "ended"
    return "future" if begins is not None and begins > today else "current"


def worse(first: State, second: State) -> State:
    """The one of two states that counts where both do: a current enrolment in an ended class has ended."""
    return first if second == "current" else max(first, second, key=STATES.index)
