"""The schema of a SQLite roster: making it, and bringing that of an earlier version to the present one.

Beside the roster's tables there is `SCHEMA_TABLE`, with the numbers of the schema and of the indexes' rules, and for
each table the number of its rows and the sum of their checksums.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from appliance.errors import SettingsError
from appliance.roster.sql import (
    SCHEMA,
    SCHEMA_TABLE,
    SQLITE,
    RowDamageError,
    TableSQL,
    numbered,
    quoted,
    schema_table,
    tables_sql,
)
from appliance.roster.tables import INDEX_RULES, TABLES

TABLES_SQL: Mapping[str, TableSQL[Any]] = tables_sql(TABLES, SQLITE)
APPLICATION = 0x436C4F62
"""The application id in the header of the file: ``ClOb``."""
SCHEMA_SUM = "sum of the schema"
_MASK = (1 << 64) - 1
PUT_NUMBER = (
    f"INSERT INTO {SCHEMA_TABLE} (name, number) VALUES (?1, ?2) "
    "ON CONFLICT (name) DO UPDATE SET number = excluded.number"
)
"""Statement that sets a number of `SCHEMA_TABLE`: name, number."""


def set_up(connection: sqlite3.Connection, tables: Mapping[str, TableSQL[Any]] = TABLES_SQL) -> None:
    """Make the tables and columns that are missing, and the indexes anew if their rules have changed.

    Raises:
        SettingsError: a later version wrote the file.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(schema_table(SQLITE))
        numbers = dict(connection.execute(f"SELECT name, number FROM {SCHEMA_TABLE}"))
        if numbers.get("schema", SCHEMA) > SCHEMA or numbers.get("indexes", INDEX_RULES) > INDEX_RULES:
            raise SettingsError(
                "The roster was written by a later version of this program. Install that version again, or restore a "
                "backup."
            )
        there = tables_of(connection)
        for sql in tables.values():
            columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({quoted(sql.table.name)})")]
            for statement in (*sql.missing_columns(columns), *sql.create):
                connection.execute(statement)
            stale = numbers.get("indexes", INDEX_RULES) < INDEX_RULES
            indexes = zip(sql.table.indexes, sql.index_names(), strict=True)
            for index, name in indexes:
                if columns and (stale or name not in there):
                    _fill(connection, sql, index)
        for name, number in (("schema", SCHEMA), ("indexes", INDEX_RULES)):
            if numbers.get(name) != number:
                connection.execute(PUT_NUMBER, (name, number))
        if numbers.get(SCHEMA_SUM) != (total := schema_sum(connection)):
            connection.execute(PUT_NUMBER, (SCHEMA_SUM, total))
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _fill(connection: sqlite3.Connection, sql: TableSQL[Any], index: str) -> None:
    """Fill an index from the rows."""
    connection.execute(sql.empty(index))
    for values in connection.execute(sql.all):
        with suppress(RowDamageError):
            row = sql.row_of(values).row
            for text in sql.texts(row)[index]:
                connection.execute(numbered(sql.add_entry(index)), (text, sql.table.key_of(row)))


def tables_of(connection: sqlite3.Connection) -> set[str]:
    return {name for [name] in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def schema_sum(connection: sqlite3.Connection) -> int:
    """A checksum of the statements that made the tables."""
    found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()
    digest = hashlib.blake2b(repr(found).encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def total_names(table: str) -> tuple[str, str]:
    return f"rows of {table}", f"sum of {table}"


def signed(number: int) -> int:
    number &= _MASK
    return number - (1 << 64) if number >> 63 else number
