"""The check of all that a SQLite roster holds: pages, rows, totals, indexes.

Not covered are bytes that belong to no row and change nothing, such as free space within pages.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from appliance.roster.sql import SCHEMA_TABLE, RowDamageError, TableSQL
from appliance.roster.sqlite_schema import (
    APPLICATION,
    SCHEMA_SUM,
    TABLES_SQL,
    schema_sum,
    signed,
    tables_of,
    total_names,
)


def check(connection: sqlite3.Connection, tables: Mapping[str, TableSQL[Any]] = TABLES_SQL) -> Iterator[str]:
    """Check every page, row and index; yields what is wrong, as clauses without anything of a person.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    # All is read as it is now, whatever the program commits meanwhile.
    connection.execute("BEGIN")
    try:
        for [line] in connection.execute("PRAGMA integrity_check(20)"):
            if line != "ok":
                yield "its pages are damaged"
                break
        if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION,):
            yield "a byte of its header is damaged"
        numbers = dict(connection.execute(f"SELECT name, number FROM {SCHEMA_TABLE}"))
        if numbers.get(SCHEMA_SUM) != schema_sum(connection):
            yield "its schema is damaged"
        there = tables_of(connection)
        for sql in tables.values():
            # A file of an earlier version may lack some.
            if sql.table.name in there:
                yield from _check_table(connection, sql, numbers)
    finally:
        with suppress(sqlite3.Error):
            connection.execute("COMMIT")


def _check_table(connection: sqlite3.Connection, sql: TableSQL[Any], numbers: dict[str, int]) -> Iterator[str]:
    name = sql.table.name
    rows = total = damaged = 0
    expected = dict.fromkeys(sql.table.indexes, 0)
    before = None
    for values in connection.execute(sql.all):
        try:
            found = sql.row_of(values)
        except RowDamageError:
            damaged += 1
            continue
        key = sql.table.key_of(found.row)
        if before is not None and key <= before:
            yield f"rows of {name} are not in their order"
        before = key
        rows, total = rows + 1, total + int(values[-1])
        for index, texts in sql.texts(found.row).items():
            expected[index] += sum(_entry(text, key) for text in texts)
    if damaged:
        yield f"{damaged} of {rows + damaged} rows of {name} are not as they were written"
    elif (rows, signed(total)) != tuple(int(numbers.get(one, 0)) for one in total_names(name)):
        yield f"{name} has not the rows that were written"
    for index, wanted in expected.items():
        entries = sum(_entry(text, key) for text, key in connection.execute(sql.entries(index)))
        if entries != wanted and not damaged:
            yield f"the index {index} of {name} does not have the rows"


def _entry(text: object, key: object) -> int:
    """A number for an entry of an index; the sum over all entries does not depend on their order."""
    content = repr((text, key)).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
