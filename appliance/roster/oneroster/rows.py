"""Rows of one CSV file of an export, one after the other: memory does not grow with the file.

RFC 4180, with the restrictions of OneRoster CSV Binding 1.2.1, section 3: UTF-8 with or without a byte order mark, one
header row, no line breaks within a field.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

from appliance.roster.oneroster.findings import OneRosterError
from appliance.roster.oneroster.package import Export, lines_of, text_of
from appliance.text import counted

UNDECODABLE = "\ufffd"
"""What stands for bytes that are not text in the file's encoding."""


class Sheet:
    """An open CSV file.

    Attributes:
        file: its name, as sentences have it.
        heading: the cells of the header row.
        encoding: what it is decoded by.
        mark: whether it begins with a byte order mark.
        separator: what is between its cells.
        line_ends: the kinds of line ends so far.
        last_line_ended: whether the latest line has a line end.
        undecodable: lines with bytes that are not text in the encoding: how many so far, and the first of them.
        on_bad_row: called with the line and what is wrong for a row that is no CSV; such rows are passed over.
    """

    def __init__(self, export: Export, path: str, lines: Iterator[str], encoding: str, mark: bool) -> None:
        self.file = path.rpartition("/")[2]
        self.encoding = encoding
        self.mark = mark
        self.line_ends: set[str] = set()
        self.last_line_ended = True
        self.undecodable = 0
        self.first_undecodable = 0
        self.on_bad_row: Callable[[int, str], None] = lambda line, wrong: None
        self._rows_limit = export.limits.rows
        self._line = 0
        watched = self._watched(lines)
        first = next(watched, "")
        self.separator = max((",", ";", "\t", "|"), key=first.count)
        self._reader = csv.reader(chain((first,), watched), delimiter=self.separator, strict=True)
        self.heading = self._header()
        if len(self.heading) > export.limits.columns:
            raise OneRosterError(
                f"{self.file} has {counted(len(self.heading), 'column')}; {export.limits.columns} are allowed."
            )

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The rows after the header, each with the number of its first line; an empty line is an empty list."""
        reader = self._reader
        for _ in range(self._rows_limit + 1):
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                # The reader goes on with the next line.
                self.on_bad_row(line, str(error))
                continue
            yield line, cells
        raise OneRosterError(f"{self.file} has more than {counted(self._rows_limit, 'row')}.")

    def _header(self) -> list[str]:
        try:
            return next(self._reader, [])
        except csv.Error as error:
            raise OneRosterError(f"{self.file}, line 1: the header is no CSV ({error}). Export it again.") from None

    def _watched(self, lines: Iterator[str]) -> Iterator[str]:
        ends = self.line_ends
        for line in lines:
            self._line += 1
            self.last_line_ended = line[-1] in "\r\n"
            if self.last_line_ended:
                ends.add(line[-2:] if line.endswith("\r\n") else line[-1])
            if UNDECODABLE in line:
                self.undecodable += 1
                self.first_undecodable = self.first_undecodable or self._line
            yield line


@contextmanager
def open_sheet(export: Export, folder: str, table: str, encoding: str | None = None) -> Iterator[Sheet]:
    """Open the CSV file of a table.

    Args:
        export: has the file.
        folder: within the export.
        table: name of the table.
        encoding: as for `text_of`.

    Raises:
        OneRosterError: the file, or its header, cannot be read.
    """
    path = export.path(folder, table)
    with text_of(export, path, encoding) as (text, used, mark):
        yield Sheet(export, path, lines_of(export, path, text), used, mark)
