"""Transactions and the statements of PostgreSQL alone; all others are shared with SQLite (`appliance.roster.sql`)."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from appliance.roster.postgres.connections import Connection
from appliance.roster.postgres.errors import FAILURES, explained, is_lost
from appliance.roster.postgres.url import PostgresUrl
from appliance.roster.sql import POSTGRES, TableSQL, quoted, tables_sql
from appliance.roster.tables import TABLES

TABLES_SQL: Mapping[str, TableSQL[Any]] = tables_sql(TABLES, POSTGRES)


def by_keys(sql: TableSQL[Any], *, locked: bool = False) -> str:
    """Statement: the rows of keys (``$1``, an array); `locked` against changes until the transaction ends."""
    listed = ", ".join(map(quoted, sql.names))
    name, key = quoted(sql.table.name), quoted(sql.table.key)
    ordered = f" ORDER BY {key} FOR UPDATE" if locked else ""
    return f"SELECT {listed} FROM {name} WHERE {key} = ANY($1::text[]){ordered}"


@functools.cache
def versions(tables: tuple[str, ...]) -> str:
    """Statement: name of the table, key and version of each row that is there, of keys in an array for each table."""
    return " UNION ALL ".join(
        f"SELECT '{name}', {quoted(sql.table.key)}, version FROM {quoted(name)} "
        f"WHERE {quoted(sql.table.key)} = ANY(${number}::text[])"
        for number, (name, sql) in enumerate(((name, TABLES_SQL[name]) for name in tables), 1)
    )


class Changes:
    """Changes of many rows and indexes as one statement, so that a commit has few round trips.

    Its parts change different rows, so it does not matter in which order the server does them.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._parameters: list[list[Any]] = []

    async def run(self, connection: Connection) -> None:
        """Do them."""
        if self._parts:
            parts = ", ".join(f"p{number} AS ({part})" for number, part in enumerate(self._parts))
            await connection.execute(f"WITH {parts} SELECT", *self._parameters)

    def put(self, sql: TableSQL[Any], rows: Sequence[Sequence[Any]]) -> None:
        """Add rows, or put them in the place of those with their keys."""
        if rows:
            listed = ", ".join(map(quoted, sql.names))
            arrays = self._arrays(sql.types, rows)
            self._parts.append(
                f"INSERT INTO {quoted(sql.table.name)} ({listed}) SELECT * FROM unnest({arrays}) {sql.on_conflict}"
            )

    def remove(self, sql: TableSQL[Any], keys: Sequence[str]) -> None:
        """Remove the rows of keys."""
        if keys:
            array = self._arrays(["TEXT"], [(key,) for key in keys])
            self._parts.append(f"DELETE FROM {quoted(sql.table.name)} WHERE {quoted(sql.table.key)} = ANY({array})")

    def add_entries(self, index: str, entries: Sequence[tuple[str, str]]) -> None:
        """Rows are found by an index, given its table, under further texts."""
        if entries:
            arrays = self._arrays(["TEXT", "TEXT"], entries)
            self._parts.append(
                f"INSERT INTO {quoted(index)} (value, key) SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING"
            )

    def remove_entries(self, index: str, entries: Sequence[tuple[str, str]]) -> None:
        """Rows are found by an index, given its table, under some texts no more."""
        if entries:
            arrays = self._arrays(["TEXT", "TEXT"], entries)
            self._parts.append(
                f"DELETE FROM {quoted(index)} AS i USING unnest({arrays}) AS g (value, key) "
                "WHERE i.value = g.value AND i.key = g.key"
            )

    def _arrays(self, types: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
        """Parameters for the columns of rows, an array each."""
        named = []
        for number, kind in enumerate(types):
            self._parameters.append([row[number] for row in rows])
            named.append(f"${len(self._parameters)}::{kind.partition(' COLLATE')[0]}[]")
        return ", ".join(named)


@asynccontextmanager
async def transaction(connection: Connection, url: PostgresUrl, begin: Sequence[str] = ()) -> AsyncIterator[None]:
    """A transaction, committed at the end.

    It sends nothing over a connection that may hang: after an error other than one of the server, the caller ends the
    connection.

    Args:
        connection: the connection.
        url: of the server, for errors.
        begin: statements that are sent together with the first one.

    Raises:
        BackendError: the connection was lost while it was committed: the changes may have been done.
    """
    try:
        await connection.execute("; ".join(["BEGIN", *begin]))
        yield
    except asyncpg.PostgresError as error:
        if not is_lost(error):
            await connection.execute("ROLLBACK")
        raise
    try:
        await connection.execute("COMMIT")
    except FAILURES as error:
        if is_lost(error):
            raise explained(error, url) from None
        raise
