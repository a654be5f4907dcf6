"""What all parts of the reader share: the export, how to read it, and where findings go."""

from __future__ import annotations

from datetime import date

from appliance.roster.oneroster import values
from appliance.roster.oneroster.findings import Findings
from appliance.roster.oneroster.package import Export
from appliance.roster.oneroster.records import Manifest
from appliance.roster.oneroster.rows import Sheet
from appliance.text import counted


class Source:
    """A folder of an export that is read.

    Attributes:
        export: the open export.
        folder: path of the folder in it.
        encoding: of the files; None is UTF-8.
        manifest: version, and mode of each table.
        findings: get what is wrong.
    """

    def __init__(
        self, export: Export, folder: str, encoding: str | None, manifest: Manifest, findings: Findings
    ) -> None:
        self.export = export
        self.folder = folder
        self.encoding = encoding
        self.manifest = manifest
        self.findings = findings

    def present(self, table: str) -> bool:
        """Whether a table is there and not called absent."""
        return self.manifest.modes[table] != "absent"

    def complete(self, table: str) -> bool:
        """Whether all rows of a table are there, so that a row that is not there does not exist."""
        return self.manifest.modes[table] == "bulk"

    def day(self, text: str, file: str, line: int, column: str) -> date | None:
        """The day of a cell; a finding and None if it is none."""
        found = values.day(text) if text else None
        if text and found is None:
            self.findings.add(
                "date", "error", "This is no date of the form 2026-11-30. It is not used.", file, line, column
            )
        return found

    def report_id(self, file: str, line: int, *, empty: bool) -> None:
        """Report a row that cannot be used since its sourcedId is empty, or was there before."""
        if empty:
            self.findings.add("required", "error", "The row has no sourcedId. It is left out.", file, line, "sourcedId")
        else:
            text = "An earlier row has this sourcedId. This row is left out."
            self.findings.add("duplicate-id", "error", text, file, line, "sourcedId")

    def report_encoding(self, sheet: Sheet) -> None:
        """Report a file that is not in the encoding by which it was read. Call it after the last row."""
        if sheet.undecodable:
            self.findings.add(
                "encoding",
                "error",
                f"The file is not {sheet.encoding.upper()}: {counted(sheet.undecodable, 'line has', 'lines have')} bytes "
                "that are no letters. Export it as UTF-8, or say its encoding.",
                sheet.file,
                sheet.first_undecodable,
            )
        if sheet.separator != ",":
            text = "The cells are separated by another character than a comma. They were read so."
            self.findings.add("separator", "warning", text, sheet.file, 1)
