"""Tables are read back as they were filled, in every format; no cell is a formula."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.export import codebook
from appliance.export.tables import FormatError, Table, guarded, iso
from appliance.reducer import Column
from tests.export.world import read_csv, rows

FORMATS = ("csv", "jsonl", "parquet")
COLUMNS = {
    "whole": Column("a", "whole", "s"),
    "number": Column("b", "number"),
    "truth": Column("c", "truth"),
    "time": Column("d", "time"),
    "choice": Column("e", "choice", choices=("one", "two")),
    "id": Column("f", "id"),
    "text": Column("g", "text"),
    "series": Column("h", "series"),
    "any": Column("i", "any"),
}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["=1+1", "@a", "'", "-5", "\t="]
)
WHOLES = st.integers(-(2**63), 2**63 - 1)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=64)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "whole": WHOLES,
    "number": NUMBERS,
    "truth": st.booleans(),
    "time": st.integers(-62_135_596_800_000, 253_402_300_799_000).map(lambda ms: ms / 1000),
    "choice": st.sampled_from(["one", "two"]),
    "id": TEXTS,
    "text": TEXTS,
    "series": st.dictionaries(st.integers(0, 99).map(str), st.integers(0, 99), max_size=3),
    "any": JSON,
}
ROW = st.fixed_dictionaries({}, optional={name: st.none() | values for name, values in VALUES.items()})


def write(folder: Path, columns: dict[str, Column], *found: dict[str, Any], format: Any) -> list[dict[str, Any]]:
    """Fill a table, write it, and read it again."""
    folder.mkdir(exist_ok=True)
    with Table("table", "Rows.", columns, folder) as table:
        for row in found:
            table.add(row)
        path = table.write(folder, format)
        lines = codebook.describe(path.name, format, [(name, column, "") for name, column in table.columns.items()])
        codebook.write_codebook(folder, [codebook.ExportedFile(path.name, "Rows.", table.rows, lines)], [])
    return rows(path)


def as_read(row: dict[str, Any], columns: dict[str, Column]) -> dict[str, Any]:
    read = {}
    for name, column in columns.items():
        value = row.get(name)
        if column.kind == "time" and value is not None:
            value = iso(value)
        if column.kind in ("id", "text", "choice") and value == "":
            value = None
        read[name] = value
    return read


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@given(found=st.lists(ROW, max_size=6))
@settings(max_examples=60, deadline=None)
def test_every_value_is_read_back(tmp_path_factory: pytest.TempPathFactory, format: str, found: list[Any]) -> None:
    read = write(tmp_path_factory.mktemp("t"), COLUMNS, *found, format=format)
    if format != "csv":
        read = [{name: None if value == "" else value for name, value in row.items()} for row in read]
    expected = [as_read(row, COLUMNS) for row in found]
    if format != "csv":
        expected = [{name: None if value == "" else value for name, value in row.items()} for row in expected]
    assert read == expected


@given(st.text(max_size=6) | st.sampled_from("=+-@\t\r\n'＝＠").map(lambda sign: sign + "cmd"))  # noqa: RUF001
def test_no_text_is_a_formula_and_each_comes_back(text: str) -> None:
    shown = guarded(text)
    assert not shown.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))  # noqa: RUF001
    assert shown.removeprefix("'") == text


def test_csv_opens_in_a_spreadsheet(tmp_path: Path) -> None:
    write(tmp_path, {"text": Column("t", "text"), "n": Column("n", "whole")}, {"text": "=é\nb", "n": -5}, format="csv")
    assert (tmp_path / "table.csv").read_bytes() == '\ufefftext,n\r\n"\'=é\nb",-5\r\n'.encode()


def test_names_of_columns_are_no_formulas_either(tmp_path: Path) -> None:
    with Table("table", "Rows.", {}, tmp_path) as table:
        table.add({"=1+1": 1})
        table.write(tmp_path, "csv")
    assert list(read_csv(tmp_path / "table.csv")[0]) == ["'=1+1"]


@pytest.mark.parametrize(
    ("values", "type"),
    [
        ([1, 2], "whole number"),
        ([1, 2.5], "number"),
        ([2**63], "number"),
        ([True, None], "true or false"),
        (["a", None], "text"),
        (["a", 1], "JSON"),
        ([True, 1], "JSON"),
        ([[1], {"a": 2}], "JSON"),
        ([None], "text"),
    ],
)
def test_a_column_that_nobody_declared_is_taken_by_its_values(tmp_path: Path, values: list[Any], type: str) -> None:
    read = write(tmp_path, {}, *({"x": value} for value in values), format="csv")
    assert [row["x"] for row in read] == values
    assert [row["type"] for row in read_csv(tmp_path / "codebook.csv")] == [type]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("kind", "value"),
    [("whole", 1.5), ("whole", "x"), ("time", 1e15), ("truth", 1), ("series", [1]), ("text", {"a": 1})],
)
def test_values_that_do_not_fit_their_declaration_are_not_lost(
    tmp_path: Path, format: str, kind: Any, value: Any
) -> None:
    assert [row["x"] for row in write(tmp_path, {"x": Column("", kind)}, {"x": value}, {}, format=format)] == [
        value,
        None,
    ]


def test_a_choice_that_is_none_of_the_words_is_text(tmp_path: Path) -> None:
    columns = {"choice": COLUMNS["choice"]}
    assert write(tmp_path, columns, {"choice": "three"}, format="parquet") == [{"choice": "three"}]


def test_columns_are_the_same_without_any_row(tmp_path: Path) -> None:
    for format in FORMATS:
        assert write(tmp_path, COLUMNS, format=format) == []
    import pyarrow.parquet

    schema = pyarrow.parquet.read_schema(tmp_path / "table.parquet")
    assert schema.names == list(COLUMNS)
    assert [str(kind) for kind in schema.types[:4]] == ["int64", "double", "bool", "timestamp[ms, tz=UTC]"]
    assert schema.field("whole").metadata == {b"meaning": b"a", b"unit": b"s"}


def test_without_pyarrow_parquet_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(FormatError, match=r"pip install 'classroom-observer\[parquet\]'"):
        write(tmp_path, {}, format="parquet")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(FormatError, match="choose --format csv or jsonl, or export with"):
        write(tmp_path / "packaged", {}, format="parquet")


def test_numbers_are_exact(tmp_path: Path) -> None:
    values = [0.1, 1e300, math.pi, 60.002]
    for format in FORMATS:
        columns = {"x": Column("", "number")}
        assert [
            row["x"] for row in write(tmp_path / format, columns, *({"x": v} for v in values), format=format)
        ] == values
