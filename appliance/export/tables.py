"""Tables of an export: rows of named values, written as CSV, JSON lines or Parquet after the last row.

Columns are declared (`appliance.reducer.Column`). The kind of a column that is not declared, or whose values do not fit
its declaration, follows from its values. So rows first go to a temporary file, and memory stays small.

===========  ==========================  ==================  =========================
kind         CSV                         JSON lines          Parquet
===========  ==========================  ==================  =========================
whole        digits                      number              int64
number       digits, point               number              double
truth        ``true`` or ``false``       true, false         bool
time         ISO 8601, UTC, ms           the same, text      timestamp[ms, UTC]
id, choice,  text                        text                string
text
series, any  JSON text                   JSON                string that holds JSON
===========  ==========================  ==================  =========================

No value: an empty cell, or null. CSV is RFC 4180 in UTF-8 with a byte order mark, by which spreadsheets recognise it.
They treat a text that begins with ``=``, ``+``, ``-`` or ``@`` as a formula (CWE-1236); such a text, and one that
begins with a tab, a line break or ``'``, gets a ``'`` before it. Remove one ``'`` to get the text back.
"""

from __future__ import annotations

import csv
import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import msgspec

from appliance.datafolder.files import text_of, written_new
from appliance.errors import ObserverError
from appliance.reducer import Column, Kind
from appliance.states import to_json

Format = Literal["csv", "jsonl", "parquet"]

UNDECLARED = Column("not described by its reducer")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = -62135596800, 253402300799  # the years 1 and 9999
_GUARDED = ("=", "+", "-", "@", "\t", "\r", "\n", "'", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_BATCH = 5000


class FormatError(ObserverError):
    """A format cannot be written; the text says what to install."""


class Table:
    """A table, which is filled and then written.

    Attributes:
        name: of its file, without the ending.
        meaning: what a row is.
        left_out: columns that are not written, for the codebook.
        rows: number of rows.
    """

    def __init__(
        self, name: str, meaning: str, columns: Mapping[str, Column], folder: Path, *, undeclared: Iterable[str] = ()
    ) -> None:
        """Args:
        name: see above.
        meaning: see above.
        columns: declared columns in their order; further columns of rows come after them.
        folder: the folder of the temporary file.
        undeclared: columns that are written even if no row has them.
        """
        self.name = name
        self.meaning = meaning
        self.left_out: dict[str, Column] = {}
        self.rows = 0
        self._declared = dict(columns)
        self._kinds: dict[str, Kind | None] = {name: column.kind for name, column in columns.items()}
        self._kinds |= dict.fromkeys(undeclared)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, closed with the table

    def __enter__(self) -> Table:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row of JSON values; times in seconds since the epoch."""
        for name, value in row.items():
            kind = self._kinds.get(name)
            if value is not None and (kind is None or not _fits(kind, value, self._declared.get(name))):
                self._kinds[name] = _joined(kind, value)
            else:
                self._kinds.setdefault(name, None)
        self._file.write(to_json(row) + b"\n")
        self.rows += 1

    @property
    def columns(self) -> dict[str, Column]:
        """The columns in the order and with the kinds with which they are written."""
        found = {}
        names = [*self._declared, *sorted(self._kinds.keys() - self._declared.keys())]
        for name in names:
            if name in self.left_out:
                continue
            column = self._declared.get(name) or UNDECLARED
            kind = self._kinds[name]
            # A column without any value can have any kind.
            found[name] = msgspec.structs.replace(column, kind=kind or "text")
        return found

    def write(self, folder: Path, format: Format) -> Path:
        """Write the table to a file, readable by its owner alone; returns the file.

        Raises:
            FormatError: a library for the format is not installed.
            OSError: the file cannot be written.
        """
        path = folder / f"{self.name}.{format}"
        with written_new(path) as file:
            {"csv": self._write_csv, "jsonl": self._write_jsonl, "parquet": self._write_parquet}[format](file)
        return path

    def _read(self) -> Iterator[dict[str, Any]]:
        self._file.seek(0)
        for line in self._file:
            yield msgspec.json.decode(line)

    def _write_csv(self, raw: IO[bytes]) -> None:
        columns = self.columns
        with text_of(raw) as file:
            writer = csv.writer(file)
            writer.writerow(guarded(name) for name in columns)
            for row in self._read():
                writer.writerow(_csv(column.kind, row.get(name)) for name, column in columns.items())

    def _write_jsonl(self, file: IO[bytes]) -> None:
        columns = self.columns
        for row in self._read():
            values = {name: _json(column.kind, row.get(name)) for name, column in columns.items()}
            file.write(msgspec.json.encode(values) + b"\n")

    def _write_parquet(self, file: IO[bytes]) -> None:
        pyarrow, parquet = load_parquet()
        columns = self.columns
        schema = pyarrow.schema(
            [
                pyarrow.field(
                    name, _arrow_type(pyarrow, column.kind), metadata={"meaning": column.meaning, "unit": column.unit}
                )
                for name, column in columns.items()
            ]
        )
        with parquet.ParquetWriter(file, schema) as writer:
            rows: list[dict[str, Any]] = []
            for row in self._read():
                rows.append({name: _arrow(column.kind, row.get(name)) for name, column in columns.items()})
                if len(rows) == _BATCH:
                    writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                    rows = []
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))


def load_parquet() -> tuple[Any, Any]:
    """The modules that write Parquet.

    Raises:
        FormatError: they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet

        return pyarrow, pyarrow.parquet
    except ImportError:
        how = "python -m pip install 'classroom-observer[parquet]'. Or choose --format csv or jsonl."
        if getattr(sys, "frozen", False):
            how = "choose --format csv or jsonl, or export with a classroom-observer that pip installed."
        raise FormatError(f"Parquet needs the library pyarrow, which is not installed: {how}") from None


def guarded(text: str) -> str:
    """A text that no spreadsheet treats as a formula."""
    return f"'{text}" if text.startswith(_GUARDED) else text


def iso(seconds: float) -> str:
    """A time as ISO 8601 in UTC with milliseconds."""
    return _moment(seconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(seconds: float) -> datetime:
    return _EPOCH + timedelta(milliseconds=round(seconds * 1000))


def _fits(kind: Kind, value: Any, column: Column | None) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case "whole":
            return number and isinstance(value, int) and -(2**63) <= value < 2**63
        case "number":
            return number
        case "truth":
            return isinstance(value, bool)
        case "time":
            return number and math.isfinite(value) and _FIRST <= value <= _LAST
        case "series":
            return isinstance(value, dict)
        case "any":
            return True
        case "choice":
            return isinstance(value, str) and (column is None or value in column.choices)
    return isinstance(value, str)


def _joined(kind: Kind | None, value: Any) -> Kind:
    """The kind of a column whose values have had one kind, after a value that does not fit it."""
    candidates: tuple[Kind, ...] = ("truth", "whole", "number", "text")
    if kind is None:
        return next((found for found in candidates if _fits(found, value, None)), "any")
    if kind in ("whole", "time") and _fits("number", value, None):
        return "number"
    if kind in ("choice", "id") and isinstance(value, str):
        return "text"
    return "any"


def _csv(kind: Kind, value: Any) -> str:
    if value is None:
        return ""
    match kind:
        case "whole":
            return str(value)
        case "number":
            return repr(value)
        case "truth":
            return "true" if value else "false"
        case "time":
            return iso(value)
        case "series" | "any":
            text = msgspec.json.encode(value).decode()
            return text if isinstance(value, int | float) else guarded(text)
    return guarded(value)


def _json(kind: Kind, value: Any) -> Any:
    return iso(value) if kind == "time" and value is not None else value


def _arrow(kind: Kind, value: Any) -> Any:
    if value is None:
        return None
    match kind:
        case "time":
            return _moment(value)
        case "series" | "any":
            return msgspec.json.encode(value).decode()
    return value


def _arrow_type(pyarrow: Any, kind: Kind) -> Any:
    types: dict[str, Callable[[], Any]] = {
        "whole": pyarrow.int64,
        "number": pyarrow.float64,
        "truth": pyarrow.bool_,
        "time": lambda: pyarrow.timestamp("ms", tz="UTC"),
    }
    return types.get(kind, pyarrow.string)()
