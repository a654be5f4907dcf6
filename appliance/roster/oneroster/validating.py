"""Checks an export against the specification; `tables` says what it is, `rules` has each rule with its severity.

One row after the other: memory grows by about 70 bytes for each sourcedId that is referred to, or that must be unique.
"""

from __future__ import annotations

import msgspec

from appliance.roster.oneroster.contents import check_contents, report
from appliance.roster.oneroster.fields import check_of, wrong_with
from appliance.roster.oneroster.findings import FINDINGS_KEPT, Findings
from appliance.roster.oneroster.headings import columns_in
from appliance.roster.oneroster.package import Export
from appliance.roster.oneroster.relations import Ids, Relations, RowRule, read_ids
from appliance.roster.oneroster.rows import Sheet, open_sheet
from appliance.roster.oneroster.tables import MANIFEST, TABLES, Column, Version
from appliance.roster.oneroster.values import bad_row, several
from appliance.text import counted


class TableReport(msgspec.Struct, frozen=True):
    """A file that was checked, with its mode and its number of rows."""

    file: str
    mode: str
    rows: int


class Report(msgspec.Struct, frozen=True):
    """The result of a check of one folder of an export.

    Attributes:
        folder: path of the folder; "" for the top.
        version: version of OneRoster by which it was checked.
        tables: the files that were checked.
        findings: what is wrong.
    """

    folder: str
    version: Version
    tables: list[TableReport]
    findings: Findings


def validate(export: Export, keep: int = FINDINGS_KEPT) -> list[Report]:
    """Check all that a zip or folder has.

    Args:
        export: from `open_export`.
        keep: the most findings of each rule to keep; all are counted.

    Returns:
        A report for each folder that is an export: usually one.

    Raises:
        OneRosterError: it cannot be read.
    """
    return [_Validation(export, folder, keep).report() for folder in export.exports or sorted(export.folders)]


class _Validation:
    def __init__(self, export: Export, folder: str, keep: int) -> None:
        self._export = export
        self._folder = folder
        self._findings = Findings(keep)
        self._contents = check_contents(export, folder, self._findings)
        self._relations = Relations()

    def report(self) -> Report:
        version, modes = self._contents.version, self._contents.modes
        referred = {column.refers for table in modes for column in TABLES[table].columns[version] if column.refers}
        for table in sorted(referred & modes.keys()):
            if modes[table] == "bulk":
                self._relations.ids[table] = read_ids(self._export, self._folder, table, version)
        if self._export.has(self._folder, MANIFEST.name):
            self._check(MANIFEST.name, "bulk")
        tables = [TableReport(TABLES[table].file, mode, self._check(table, mode)) for table, mode in modes.items()]
        return Report(self._folder, version, tables, self._findings)

    def _check(self, table: str, mode: str) -> int:
        """Check one file; returns the number of its rows."""
        columns = TABLES[table].columns[self._contents.version]
        with open_sheet(self._export, self._folder, table) as sheet:
            places, wrong = columns_in(sheet.heading, columns)
            for rule, heading, text in wrong:
                report(self._findings, rule, text, sheet.file, 1, heading)
            rows = _Rows(sheet, table, mode, columns, places, self._relations, self._findings).check()
            self._check_form(sheet, rows)
        return rows

    def _check_form(self, sheet: Sheet, rows: int) -> None:
        """What is known of a file after its last row."""
        found = self._findings
        if not rows:
            report(found, "no-rows", "The file has no rows. Remove it, and write absent in the manifest.", sheet.file)
        if sheet.undecodable or sheet.encoding.startswith("utf-16"):
            text = (
                "The file is UTF-16. Export it as UTF-8."
                if sheet.encoding.startswith("utf-16")
                else f"{counted(sheet.undecodable, 'line has', 'lines have')} bytes that are not UTF-8. Export it as UTF-8."
            )
            report(found, "encoding", text, sheet.file, sheet.first_undecodable)
        elif sheet.mark:
            report(found, "byte-order-mark", "The file begins with a byte order mark.", sheet.file)
        if sheet.separator != ",":
            report(found, "separator", "The cells are not separated by commas. Export it with commas.", sheet.file, 1)
        if len(sheet.line_ends) > 1 or "\r" in sheet.line_ends:
            report(found, "line-ends", "End all lines by CR LF, or all by LF.", sheet.file)


class _Reference(msgspec.Struct, frozen=True):
    place: int
    column: Column
    ids: Ids


class _Rows:
    """The check of the rows of one file."""

    def __init__(
        self,
        sheet: Sheet,
        table: str,
        mode: str,
        columns: tuple[Column, ...],
        places: dict[str, int],
        relations: Relations,
        findings: Findings,
    ) -> None:
        self._sheet = sheet
        self._findings = findings
        self._width = len(sheet.heading)
        self._places = places
        found = [(places[column.name], check_of(column, mode)) for column in columns if column.name in places]
        self._fields = [(place, check.required, check.empty, check.ok, check.column) for place, check in found]
        self._references = [
            _Reference(places[column.name], column, relations.ids[column.refers])
            for column in columns
            if column.refers in relations.ids and column.name in places
        ]
        self._id = places.get("sourcedId", -1)
        self._status = places.get("status", -1)
        self._repeated = relations.ids[table].repeated if table in relations.ids else None
        self._seen: set[int] = set()
        used = relations.columns.get(table, ())
        self._rule = relations.rule(table, mode) if all(name in places for name in used) else None
        self._used = [(name, places[name]) for name in used if name in places]

    def check(self) -> int:
        """Check all rows; returns their number."""
        number = 0
        sheet, width, fields, references = self._sheet, self._width, self._fields, self._references
        has_id, status, rule = self._id >= 0, self._status, self._rule
        sheet.on_bad_row = lambda line, wrong: self._report("bad-quotes", bad_row(wrong), line)
        for line, cells in sheet.rows():
            if len(cells) != width and not self._is_usable(line, cells):
                continue
            number += 1
            for place, required, empty, ok, column in fields:
                value = cells[place]
                if not value:
                    if required:
                        self._report("required", "The field is empty. Write a value.", line, column.name)
                elif empty or not ok(value):
                    self._check_value(line, value, required, empty, column)
            if has_id:
                self._check_id(line, cells[self._id])
            if status >= 0 and cells[status] == "tobedeleted":
                continue
            if references:
                self._check_references(line, cells)
            if rule is not None:
                self._check_rule(line, cells, rule)
        return number

    def _report(self, rule: str, text: str, line: int, column: str = "") -> None:
        report(self._findings, rule, text, self._sheet.file, line, column)

    def _is_usable(self, line: int, cells: list[str]) -> bool:
        """Report a row of another length than the header; whether the rest of it is checked."""
        if not any(cells):
            self._report("blank-line", "The line is empty. Remove it.", line)
            return False
        if len(cells) < self._width and not self._sheet.last_line_ended:
            self._report("row-length", "The file ends within this row. Export it again.", line)
        elif len(cells) < self._width:
            text = f"The row has {counted(len(cells), 'cell')}, and the header {self._width}. Write the empty ones too."
            self._report("row-length", text, line)
        else:
            has = f"The row has {counted(len(cells), 'cell')}, and the header {self._width}."
            text = f"{has} Quote a field that has a comma."
            self._report("row-length", text, line)
        return False

    def _check_value(self, line: int, value: str, required: bool, empty: bool, column: Column) -> None:
        if empty:
            self._report("bulk-status", "The field is left empty in a bulk file.", line, column.name)
        if required and not value.strip():
            self._report("required", "The field has spaces alone. Write a value.", line, column.name)
            return
        for rule, text in wrong_with(column, value):
            self._report(rule, text, line, column.name)

    def _check_id(self, line: int, key: str) -> None:
        """Report a sourcedId that an earlier row has."""
        code = hash(key)
        if not key or (self._repeated is not None and code not in self._repeated):
            return
        if code in self._seen:
            self._report("duplicate-id", "An earlier row has this sourcedId. Give each its own.", line, "sourcedId")
        self._seen.add(code)

    def _check_references(self, line: int, cells: list[str]) -> None:
        for reference in self._references:
            value = cells[reference.place]
            if not value:
                continue
            column, ids = reference.column, reference.ids
            for key in several(value) if column.many else (value,):
                if hash(key) not in ids.known:
                    text = f"{column.refers}.csv has no row with this sourcedId. Add it, or correct the field."
                    self._report("unknown-reference", text, line, column.name)
                elif ids.deleted and hash(key) in ids.deleted:
                    text = f"The row of {column.refers}.csv is to be deleted, and this one is not."
                    self._report("deleted-reference", text, line, column.name)

    def _check_rule(self, line: int, cells: list[str], rule: RowRule) -> None:
        for name, column, text in rule({name: cells[place] for name, place in self._used}):
            self._report(name, text, line, column)
