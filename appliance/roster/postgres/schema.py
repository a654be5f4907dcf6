"""The schema of a PostgreSQL roster: making its tables, and bringing those of an earlier version to the present one.

It is done in one transaction under an advisory lock, since several nodes may start at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from appliance.errors import BackendError
from appliance.roster.postgres.connections import Connection
from appliance.roster.postgres.locks import whole
from appliance.roster.postgres.statements import TABLES_SQL, transaction
from appliance.roster.postgres.url import PostgresUrl
from appliance.roster.sql import (
    POSTGRES,
    SCHEMA,
    SCHEMA_TABLE,
    RowDamageError,
    TableSQL,
    quoted,
    schema_table,
)
from appliance.roster.tables import INDEX_RULES

SETUP_SECONDS = 900.0
"""How long it may take to make the tables, or the indexes of a large roster anew."""
_PAGE = 5000
_COLUMNS = """
SELECT c.relname, a.attname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
"""
_PUT_NUMBER = (
    f"INSERT INTO {SCHEMA_TABLE} (name, number) VALUES ($1, $2) "
    "ON CONFLICT (name) DO UPDATE SET number = excluded.number"
)
_NUMBERS = (("schema", SCHEMA), ("indexes", INDEX_RULES))


class Found(msgspec.Struct):
    """What is in the database.

    Attributes:
        columns: by table, the names of its columns.
        numbers: of the schema and of the indexes' rules.
    """

    columns: dict[str, set[str]]
    numbers: dict[str, int]


async def prepare(connection: Connection, url: PostgresUrl, tables: Mapping[str, TableSQL[Any]] = TABLES_SQL) -> None:
    """Make what is missing.

    Raises:
        BackendError: the database cannot be used: it has another encoding than UTF-8, or tables of a later version.
    """
    encoding = connection.get_settings().server_encoding
    if encoding != "UTF8":
        raise BackendError(
            f"The database of {url.where} has the encoding {encoding}, which lacks letters of names; make one with "
            "ENCODING 'UTF8' TEMPLATE template0."
        )
    if _is_complete(await _find(connection, url), tables):
        return
    async with asyncio.timeout(SETUP_SECONDS):
        begin = (f"SET LOCAL statement_timeout = {round(SETUP_SECONDS * 1000)}", whole(url, "schema"))
        async with transaction(connection, url, begin):
            # Another node may have made it meanwhile.
            found = await _find(connection, url)
            if not _is_complete(found, tables):
                await _make(connection, url, tables, found)


async def _find(connection: Connection, url: PostgresUrl) -> Found:
    """Raises:
    BackendError: a later version made the tables.
    """
    columns: dict[str, set[str]] = {}
    for table, column in await connection.fetch(_COLUMNS, url.schema):
        columns.setdefault(table, set()).add(column)
    numbers: dict[str, int] = {}
    if SCHEMA_TABLE in columns:
        numbers = dict(await connection.fetch(f"SELECT name, number FROM {SCHEMA_TABLE}"))
    if any(numbers.get(name, number) > number for name, number in _NUMBERS):
        raise BackendError(
            f"The roster in {url.where} was written by a later version of this program. Install that one here, too."
        )
    return Found(columns, numbers)


def _is_complete(found: Found, tables: Mapping[str, TableSQL[Any]]) -> bool:
    return all(found.numbers.get(name) == number for name, number in _NUMBERS) and all(
        set(sql.names) <= found.columns.get(sql.table.name, set()) and set(sql.index_names()) <= found.columns.keys()
        for sql in tables.values()
    )


async def _make(connection: Connection, url: PostgresUrl, tables: Mapping[str, TableSQL[Any]], found: Found) -> None:
    if not await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)", url.schema
    ):
        await connection.execute(f"CREATE SCHEMA {quoted(url.schema)}")
    if not found.numbers:
        await connection.execute(schema_table(POSTGRES))
    stale = found.numbers.get("indexes", INDEX_RULES) < INDEX_RULES
    for sql in tables.values():
        columns = found.columns.get(sql.table.name, set())
        for statement in (*sql.missing_columns(sorted(columns)), *sql.create):
            await connection.execute(statement)
        for index, name in zip(sql.table.indexes, sql.index_names(), strict=True):
            if columns and (stale or name not in found.columns):
                await _fill(connection, url, sql, index, name)
    for name, number in _NUMBERS:
        await connection.execute(_PUT_NUMBER, name, number)


async def _fill(connection: Connection, url: PostgresUrl, sql: TableSQL[Any], index: str, name: str) -> None:
    """Fill an index from the rows."""
    await connection.execute(f"TRUNCATE {quoted(name)}")
    after: str | None = ""
    while after is not None:
        rows = await connection.fetch(sql.page, after, _PAGE)
        entries = []
        for values in rows:
            with suppress(RowDamageError):
                row = sql.row_of(values).row
                entries += [(text, sql.table.key_of(row)) for text in sql.texts(row)[index]]
        await connection.copy_records_to_table(name, records=entries, columns=("value", "key"), schema_name=url.schema)
        after = rows[-1][sql.table.key] if len(rows) == _PAGE else None
