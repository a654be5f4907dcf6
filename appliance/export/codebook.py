"""The codebook of an export: describes each column, from the same declarations as the columns themselves."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from appliance.datafolder.files import text_of, write_private, written_whole
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


class ColumnDescription(NamedTuple):
    """A row of the codebook: one column of one file.

    Attributes:
        file: name of the file.
        column: name of the column.
        type: of its values.
        unit: of its values, "" for none.
        meaning: of its values.
        treatment: how the export changed its values.
    """

    file: str
    column: str
    type: str
    unit: str
    meaning: str
    treatment: str


class ExportedFile(msgspec.Struct, frozen=True):
    """A file of the export.

    Attributes:
        name: of the file.
        meaning: what a row is.
        rows: number of rows.
        columns: of the file.
    """

    name: str
    meaning: str
    rows: int
    columns: list[ColumnDescription]


def describe(file: str, format: Format, columns: Iterable[tuple[str, Column, str]]) -> list[ColumnDescription]:
    """The rows of the codebook for one file, given the name, declaration and treatment of each column."""
    types = _CSV_TYPES | _PARQUET_TYPES if format == "parquet" else _CSV_TYPES
    return [
        ColumnDescription(
            file,
            name,
            types.get(column.kind, "string") + (f": {', '.join(column.choices)}" if column.choices else ""),
            column.unit,
            column.meaning,
            treatment,
        )
        for name, column, treatment in columns
    ]


def write_codebook(folder: Path, files: Sequence[ExportedFile], remarks: Sequence[str]) -> None:
    """Write ``codebook.csv`` and ``codebook.md``.

    Args:
        folder: of the export.
        files: of the export.
        remarks: sentences on how it was made.

    Raises:
        OSError: they cannot be written.
    """
    with written_whole(folder / "codebook.csv") as raw, text_of(raw) as codebook:
        writer = csv.writer(codebook)
        writer.writerow(ColumnDescription._fields)
        for file in files:
            writer.writerows(map(guarded, column) for column in file.columns)
    lines = ["# Codebook", "", *(f"- {remark}" for remark in remarks)]
    for file in files:
        lines += ["", f"## {file.name}", "", f"{file.meaning} {counted(file.rows, 'row')}.", ""]
        lines += ["| column | type | unit | meaning | in this export |", "|---|---|---|---|---|"]
        lines += [f"| {' | '.join(map(_plain, column[1:]))} |" for column in file.columns]
    write_private(folder / "codebook.md", ("\n".join(lines) + "\n").encode())


def _plain(cell: str) -> str:
    return " ".join(cell.replace("\\", "\\\\").replace("|", "\\|").split())
