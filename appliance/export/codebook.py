"""The codebook of an export: what each column is, made from the same declarations as the columns themselves."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from appliance.export.tables import Format, guarded
from appliance.reducer import Column, Kind
from appliance.text import counted

_CSV_TYPES: dict[Kind, str] = {
    "whole": "whole number",
    "number": "number",
    "truth": "true or false",
    "time": "time, ISO 8601, UTC",
    "choice": "one of these words",
    "id": "id",
    "text": "text",
    "series": "JSON object",
    "any": "JSON",
}
_PARQUET_TYPES: dict[Kind, str] = {
    "whole": "int64",
    "number": "double",
    "truth": "bool",
    "time": "timestamp[ms, UTC]",
    "choice": "string, one of these words",
    "series": "string, JSON object",
    "any": "string, JSON",
}


class Entry(NamedTuple):
    """One column of one file: what it holds, and what was done to it."""

    file: str
    column: str
    type: str
    unit: str
    meaning: str
    treatment: str


class Sheet(msgspec.Struct, frozen=True):
    """What one file of the export is."""

    file: str
    meaning: str
    rows: int
    entries: list[Entry]


def entries(file: str, format: Format, columns: Iterable[tuple[str, Column, str]]) -> list[Entry]:
    """The codebook's lines on one file; of each column its name, what it is, and what was done to it."""
    types = _CSV_TYPES | _PARQUET_TYPES if format == "parquet" else _CSV_TYPES
    return [
        Entry(
            file,
            name,
            types.get(column.kind, "string") + (f": {', '.join(column.choices)}" if column.choices else ""),
            column.unit,
            column.meaning,
            treatment,
        )
        for name, column, treatment in columns
    ]


def write(folder: Path, sheets: Sequence[Sheet], remarks: Sequence[str]) -> None:
    """Write ``codebook.csv`` and ``codebook.md``.

    Args:
        folder: of the export.
        sheets: its files.
        remarks: sentences on how it was made.

    Raises:
        OSError: they cannot be written.
    """
    with (folder / "codebook.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Entry._fields)
        for sheet in sheets:
            writer.writerows(map(guarded, entry) for entry in sheet.entries)
    lines = ["# Codebook", "", *(f"- {remark}" for remark in remarks)]
    for sheet in sheets:
        lines += ["", f"## {sheet.file}", "", f"{sheet.meaning} {counted(sheet.rows, 'row')}.", ""]
        lines += ["| column | type | unit | meaning | in this export |", "|---|---|---|---|---|"]
        lines += [f"| {' | '.join(map(_plain, entry[1:]))} |" for entry in sheet.entries]
    (folder / "codebook.md").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _plain(cell: str) -> str:
    return " ".join(cell.replace("\\", "\\\\").replace("|", "\\|").split())
