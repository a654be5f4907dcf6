"""The rows of a plain list: CSV as spreadsheets and school programs write it, or text that was pasted.

The form is RFC 4180, with any of four separators, and what spreadsheets make of it: a first line ``sep=;``, ids written
as ``="00123"``, cells of which the last ones are left off if they are empty. A row that cannot be read is refused with
its line; the rows after it are read.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence

import msgspec

SEPARATORS = (",", ";", "\t", "|")
_SAMPLED_LINES = 50
_CELL_CHARACTERS = 2000
"""The longest cell; a longer one is a quote that is not closed."""
_CELL_LINES = 20
_ROW_CELLS = 2000

# ="00123": how a spreadsheet is made to keep zeros. '=...: how it is kept from taking text for a formula.
_KEPT_AS_TEXT = re.compile(r'="([^"]*)"')
_GUARDED = re.compile(r"'[=+\-@\t\r]")


class Row(msgspec.Struct, frozen=True):
    """A row: the number of its first line, and its cells, with single spaces and none around them."""

    line: int
    cells: list[str]


class BadRow(msgspec.Struct, frozen=True):
    """A row that cannot be read, and why."""

    line: int
    why: str


class Sheet(msgspec.Struct):
    """The rows of a text.

    Attributes:
        separator: between two cells; "" if each line is one cell.
        line_end: of its first line.
        rows: that are not empty.
        bad: rows that cannot be read.
        cut_off: whether the text ends within a row or without the end of a line.
    """

    separator: str
    line_end: str
    rows: list[Row]
    bad: list[BadRow]
    cut_off: bool


def read_rows(text: str, separator: str | None = None) -> Sheet:
    """The rows of a text.

    Args:
        text: a whole file.
        separator: between two cells; None to find it out, "" if each line is one cell.
    """
    lines = _lines(text)
    skipped = 0
    if lines and re.fullmatch(r"sep=.[\r\n]*", lines[0]):
        separator = lines[0][4] if separator is None else separator
        skipped = 1
    if separator is None:
        separator = separator_of(lines)
    rows: list[Row] = []
    bad: list[BadRow] = []
    for found in _parsed(lines, skipped, separator):
        if isinstance(found, BadRow):
            bad.append(found)
        elif any(found.cells):
            rows.append(found)
    end = next((mark for mark in ("\r\n", "\n", "\r") if lines and lines[0].endswith(mark)), "\r\n")
    return Sheet(separator, end, rows, bad, bool(text) and not text.endswith(("\n", "\r")))


def separator_of(lines: Sequence[str]) -> str:
    """The separator of a list: the one that divides most of its first lines into the same number of cells.

    Returns:
        The separator; "" if no line has one.
    """
    best, best_score = "", 0.0
    sampled = [line for line in lines[:_SAMPLED_LINES] if line.strip()]
    for separator in SEPARATORS:
        counts = [count for count in (_count(line, separator) for line in sampled) if count]
        if counts:
            usual = max(set(counts), key=lambda count: (counts.count(count), count))
            alike = counts.count(usual) / len(sampled)
            # A tab is never part of a name; a comma is the likeliest to be within a cell.
            score = alike + min(usual, 20) / 100 + (0.3 if separator == "\t" else 0) - (0.1 if separator == "," else 0)
            if score > best_score:
                best, best_score = separator, score
    return best


def wrong_number(row: Row, columns: int, used: Sequence[int], last: bool) -> str:
    """Why a row has too many or too few cells; "" if it has not.

    Cells beyond the columns must be empty. Cells may be missing only at the end, in columns that are not used, and not
    in the last row of a text that may have been cut off: spreadsheets leave off empty ones.

    Args:
        row: the row.
        columns: number of columns.
        used: numbers of the columns that are used, from 0.
        last: whether the text ends with this row and without the end of a line.
    """
    number = len(row.cells)
    if number > columns and any(row.cells[columns:]):
        return f"The row has {number} fields, and there are {columns} columns. Put a field with a separator in quotes."
    if number < columns and (last or any(place >= number for place in used)):
        return f"The row has {number} of {columns} fields. Add the missing ones."
    return ""


def _lines(text: str) -> list[str]:
    # Not str.splitlines, for which a form feed or U+2028 within a cell ends a line.
    return re.findall(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+", text)


def _count(line: str, separator: str) -> int:
    """How many separators a line has outside quotes."""
    if '"' not in line:
        return line.count(separator)
    return sum(part.count(separator) for part in line.split('"')[::2])


def _parsed(lines: Sequence[str], begin: int, separator: str) -> Iterator[Row | BadRow]:
    at = begin
    while at < len(lines):
        if not separator and not lines[at].lstrip().startswith('"'):
            yield Row(at + 1, [_cell(lines[at])])
            at += 1
            continue
        first = at
        # A new reader for each row, since a reader cannot go on after an error; it reads only the lines that it needs.
        reader = csv.reader(_bounded(lines, first), delimiter=separator or "\t", strict=True)
        try:
            cells = next(reader, [])
        except csv.Error as error:
            yield BadRow(first + 1, _why(str(error)))
            at = first + 1
            continue
        at = first + max(1, reader.line_num)
        if len(cells) > _ROW_CELLS or any(len(cell) > _CELL_CHARACTERS for cell in cells):
            yield BadRow(
                first + 1, f"The row has more than {_ROW_CELLS} fields or a field of {_CELL_CHARACTERS} letters."
            )
            at = first + 1
            continue
        yield Row(first + 1, [_cell(cell) for cell in cells])


def _bounded(lines: Sequence[str], first: int) -> Iterator[str]:
    """The lines of one row: a quote that is never closed must not take the rest of the list."""
    for number in range(first, min(len(lines), first + _CELL_LINES)):
        if len(lines[number]) > _ROW_CELLS * 100:
            raise csv.Error("the line is too long")
        yield lines[number]


def _why(error: str) -> str:
    if "too long" in error or "larger than" in error:
        return "The line is too long for a list."
    if "unexpected end" in error:
        return "A quote is opened and not closed. Close it, or write a quote within a field twice."
    return "A field continues after its closing quote. Write a quote within a field twice."


def _cell(cell: str) -> str:
    cell = " ".join(cell.split())
    kept = _KEPT_AS_TEXT.fullmatch(cell)
    if kept:
        return kept.group(1).strip()
    return cell[1:] if _GUARDED.match(cell) else cell
