"""A commit: check the versions of rows, and change them, in one transaction."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from appliance.roster.postgres.connections import Connection
from appliance.roster.postgres.errors import CONFLICTS
from appliance.roster.postgres.locks import MOST_LOCKS, locks_of
from appliance.roster.postgres.statements import TABLES_SQL, by_keys, transaction
from appliance.roster.postgres.url import PostgresUrl
from appliance.roster.sql import RowDamageError, TableSQL, is_storable
from appliance.roster.store import Versioned, Write

TRIES = 5
"""How often a transaction is tried that the server ends because of another one."""
_RETRY_SECONDS = 0.05
_WRITES_A_SECOND = 200
"""A commit may take the time limit of the URL, and one second more for so many writes."""


def seconds_of(url: PostgresUrl, writes: Sequence[Write[Any]]) -> float:
    """How long a commit may take."""
    return url.timeout + len(writes) / _WRITES_A_SECOND


class Commit:
    """The changes of one commit, table by table."""

    def __init__(self, url: PostgresUrl, writes: Sequence[Write[Any]]) -> None:
        """Raises:
        ValueError: a text cannot be stored.
        """
        self._url = url
        self._writes = writes
        self._tables = sorted({write.table.name for write in writes})
        for write in writes:
            if write.row is not None:
                TABLES_SQL[write.table.name].values(write.row, 1)

    async def run(self, connection: Connection) -> bool:
        """Do it; returns False if a row has not the required version.

        Raises:
            BackendError, asyncpg.PostgresError, OSError: it was not done, or it is not known.
        """
        for attempt in range(1, TRIES + 1):
            try:
                return await self._try(connection)
            except asyncpg.PostgresError as error:
                if error.sqlstate not in CONFLICTS or attempt == TRIES:
                    raise
            await asyncio.sleep(random.uniform(0.5, 1.0) * _RETRY_SECONDS * attempt)
        raise AssertionError

    async def _try(self, connection: Connection) -> bool:
        begin = locks_of(self._url, self._writes)
        if len(self._writes) > MOST_LOCKS:
            begin = [f"SET LOCAL statement_timeout = {round(seconds_of(self._url, self._writes) * 1000)}", *begin]
        async with transaction(connection, self._url, begin):
            before: dict[tuple[str, str], _Before] = {}
            for name in self._tables:
                before |= await self._read(connection, TABLES_SQL[name])
            for write in self._writes:
                row = before.get((write.table.name, write.key), _ABSENT)
                if write.version is not None and write.version != row.version:
                    return False
            for name in self._tables:
                await self._apply(connection, TABLES_SQL[name], before)
        return True

    async def _read(self, connection: Connection, sql: TableSQL[Any]) -> dict[tuple[str, str], _Before]:
        """The rows of a table as they are; those that are to be changed are locked."""
        found = {}
        for checked in (False, True):
            keys = [
                write.key
                for write in self._writes
                if write.table.name == sql.table.name and write.checked == checked and is_storable(write.key)
            ]
            if not keys:
                continue
            for values in await connection.fetch(by_keys(sql, locked=not checked), keys):
                found[sql.table.name, values[sql.table.key]] = _before(sql, values)
        return found

    async def _apply(self, connection: Connection, sql: TableSQL[Any], before: dict[tuple[str, str], _Before]) -> None:
        """Change the rows of a table, and their entries in its indexes."""
        puts, removes = [], []
        gone: dict[str, list[tuple[str, str]]] = {index: [] for index in sql.table.indexes}
        new: dict[str, list[tuple[str, str]]] = {index: [] for index in sql.table.indexes}
        for write in self._writes:
            if write.table.name != sql.table.name or write.checked:
                continue
            was = before.get((sql.table.name, write.key), _ABSENT)
            if write.row is not None:
                puts.append(sql.values(write.row, was.stored + 1))
            elif was is not _ABSENT:
                removes.append((write.key,))
            texts, old = sql.texts(write.row), sql.texts(was.row)
            for index in sql.table.indexes:
                if was.is_damaged:
                    # Under which texts it was found is not known.
                    await connection.execute(sql.remove_entries(index), write.key)
                gone[index] += [(text, write.key) for text in old[index] - texts[index]]
                new[index] += [(text, write.key) for text in texts[index] - old[index]]
        statements: list[tuple[str, list[Any]]] = [(sql.put, puts), (sql.remove, removes)]
        for index in sql.table.indexes:
            statements += [(sql.remove_entry(index), gone[index]), (sql.add_entry(index), new[index])]
        for statement, parameters in statements:
            if parameters:
                await connection.executemany(statement, parameters)


class _Before(msgspec.Struct, frozen=True):
    """A row before the commit.

    Attributes:
        row: None if there is none, or it is damaged.
        stored: its version; 0 if there is none.
        is_damaged: whether it cannot be read; for the roster there is none then.
    """

    row: Any = None
    stored: int = 0
    is_damaged: bool = False

    @property
    def version(self) -> int:
        """The version that a write requires."""
        return 0 if self.is_damaged else self.stored


_ABSENT = _Before()


def _before(sql: TableSQL[Any], values: Any) -> _Before:
    try:
        found: Versioned[Any] = sql.row_of(values)
    except RowDamageError:
        version = values["version"]
        return _Before(None, version if isinstance(version, int) and version > 0 else 0, is_damaged=True)
    return _Before(found.row, found.version)
