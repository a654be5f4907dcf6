"""Transactions and the statements of PostgreSQL alone; all others are shared with SQLite (`appliance.roster.sql`)."""

from __future__ import annotations

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
