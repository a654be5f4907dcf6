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
from appliance.roster.postgres.statements import TABLES_SQL, Changes, by_keys, transaction, versions
from appliance.roster.postgres.url import PostgresUrl
from appliance.roster.sql import RowDamageError, TableSQL, is_storable
from appliance.roster.store import Versioned, Write

TRIES = 5
"""How often a transaction is tried that the server ends because of another one."""
_RETRY_SECONDS = 0.05
_WRITES_A_SECOND = 200
"""A commit may take the time limit of the URL, and one second more for so many writes."""
_AT_ONCE = 2000
"""Rows that one statement changes at most."""


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
        self._tables = tuple(sorted({write.table.name for write in writes}))
        self._changed = {(write.table.name, write.key): write for write in writes if not write.checked}
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
            there = await self._versions(connection)
            before: dict[tuple[str, str], _Before] = {}
            for name in self._tables:
                keys = [key for of, key in there if of == name and (of, key) in self._changed]
                before |= await _read(connection, TABLES_SQL[name], keys)
            for write in self._writes:
                place = (write.table.name, write.key)
                version = before[place].version if place in before else there.get(place, 0)
                if write.version is not None and write.version != version:
                    return False
            changed = list(self._changed.values())
            for start in range(0, len(changed), _AT_ONCE):
                await self._apply(connection, changed[start : start + _AT_ONCE], before)
        return True

    async def _versions(self, connection: Connection) -> dict[tuple[str, str], int]:
        """The versions of the rows that are there, by table and key."""
        keys = [
            [write.key for write in self._writes if write.table.name == name and is_storable(write.key)]
            for name in self._tables
        ]
        rows = await connection.fetch(versions(self._tables), *keys)
        return {(table, key): version for table, key, version in rows}

    async def _apply(
        self, connection: Connection, writes: Sequence[Write[Any]], before: dict[tuple[str, str], _Before]
    ) -> None:
        """Change rows, and their entries in the indexes."""
        changes = Changes()
        for name in self._tables:
            sql = TABLES_SQL[name]
            of_table = [write for write in writes if write.table.name == name]
            was = {write.key: before.get((name, write.key), _ABSENT) for write in of_table}
            changes.put(sql, [sql.values(one.row, was[one.key].stored + 1) for one in of_table if one.row is not None])
            changes.remove(sql, [one.key for one in of_table if one.row is None and was[one.key] is not _ABSENT])
            texts = [(one.key, sql.texts(was[one.key].row), sql.texts(one.row)) for one in of_table]
            for index, table in zip(sql.table.indexes, sql.index_names(), strict=True):
                for key in (key for key, row in was.items() if row.is_damaged):
                    # Under which texts it was found is not known.
                    await connection.execute(sql.remove_entries(index), key)
                changes.remove_entries(
                    table, [(text, key) for key, old, new in texts for text in old[index] - new[index]]
                )
                changes.add_entries(table, [(text, key) for key, old, new in texts for text in new[index] - old[index]])
        await changes.run(connection)


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


async def _read(connection: Connection, sql: TableSQL[Any], keys: Sequence[str]) -> dict[tuple[str, str], _Before]:
    """Rows that are to be changed, as they are; they are locked."""
    rows = await connection.fetch(by_keys(sql, locked=True), keys) if keys else []
    return {(sql.table.name, values[sql.table.key]): _before(sql, values) for values in rows}


def _before(sql: TableSQL[Any], values: Any) -> _Before:
    try:
        found: Versioned[Any] = sql.row_of(values)
    except RowDamageError:
        version = values["version"]
        return _Before(None, version if isinstance(version, int) and version > 0 else 0, is_damaged=True)
    return _Before(found.row, found.version)
