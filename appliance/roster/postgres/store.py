"""The store of the roster in PostgreSQL, over asyncpg."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.health import Finding, finding
from appliance.roster.postgres.commit import Commit, seconds_of
from appliance.roster.postgres.connections import Connection, Connections
from appliance.roster.postgres.examine import examine
from appliance.roster.postgres.schema import prepare
from appliance.roster.postgres.statements import TABLES_SQL, by_keys
from appliance.roster.postgres.url import parse_url
from appliance.roster.sql import RowDamageError, TableSQL, after_prefix, is_storable
from appliance.roster.store import RosterStore, Table, Versioned, Write
from appliance.tasks import in_background

R = TypeVar("R", bound=msgspec.Struct)
T = TypeVar("T")

_PAGE = 1000
_KEYS = 5000
"""Keys that one statement reads at most."""


class PostgresStore(RosterStore):
    """Tables in a schema of a database. It connects at the first use, and makes the tables if they are not there."""

    shared = True

    def __init__(self, url: str, counters: Counters) -> None:
        """Args:
        url: ``postgresql://user:password@host:port/database?schema=...``.
        counters: ``postgres_errors`` counts what failed, ``limit_roster_connections`` what waited for a connection.

        Raises:
            SettingsError: the URL, or a file that it names, cannot be used.
        """
        super().__init__()
        self.url = parse_url(url)
        self._connections = Connections(self.url, counters, lambda connection: prepare(connection, self.url))
        self._committing: set[asyncio.Task[bool]] = set()
        self._away = ""
        self._damage: set[str] = set()

    async def read(self, table: Table[R], keys: Sequence[str]) -> list[Versioned[R] | None]:
        sql = TABLES_SQL[table.name]
        wanted = list({key for key in keys if is_storable(key)})
        found: dict[str, Versioned[R]] = {}
        for begin in range(0, len(wanted), _KEYS):
            some = wanted[begin : begin + _KEYS]
            rows = await self._run(lambda connection, some=some: connection.fetch(by_keys(sql), some))  # type: ignore[misc]
            found |= {table.key_of(row.row): row for row in self._rows(sql, rows)}
        return [found.get(key) for key in keys]

    async def find(
        self, table: Table[R], index: str, value: str, *, prefix: bool = False, limit: int | None = None
    ) -> list[Versioned[R]]:
        sql = TABLES_SQL[table.name]
        if not is_storable(value):
            return []
        if not prefix:
            rows = await self._run(lambda connection: connection.fetch(sql.find(index), value, limit))
            return self._rows(sql, rows)
        end = after_prefix(value)
        most = None if limit is None else 2 * limit
        while True:
            rows = await self._run(
                lambda connection, most=most: connection.fetch(sql.find_prefix(index), value, end, most)  # type: ignore[misc]
            )
            found: dict[str, Versioned[R]] = {}
            for row in self._rows(sql, rows):
                # A row comes once for each of its texts.
                found.setdefault(table.key_of(row.row), row)
            if most is None or len(rows) < most or len(found) >= (limit or 0):
                return list(found.values())[:limit]
            most *= 4

    async def count(self, table: Table[R], index: str, value: str) -> int:
        if not is_storable(value):
            return 0
        statement = TABLES_SQL[table.name].count(index)
        return int(await self._run(lambda connection: connection.fetchval(statement, value)))

    async def scan(self, table: Table[R]) -> AsyncIterator[R]:
        sql = TABLES_SQL[table.name]
        after: str | None = ""
        while after is not None:
            rows = await self._run(lambda connection, after=after: connection.fetch(sql.page, after, _PAGE))  # type: ignore[misc]
            for row in self._rows(sql, rows):
                yield row.row
            after = rows[-1][table.key] if len(rows) == _PAGE else None

    async def commit(self, writes: Sequence[Write[Any]]) -> bool:
        if not writes:
            return True
        commit = Commit(self.url, writes)
        # Not cancelled with this caller: it may be done already, and others must learn of it.
        task = in_background(self._commit(commit, writes), "roster commit", awaited=True)
        self._committing.add(task)
        task.add_done_callback(self._committing.discard)
        return await asyncio.shield(task)

    def findings(self) -> list[Finding]:
        found = [finding("roster.away", detail=self._away)] if self._away else []
        if self._damage:
            found.append(finding("postgres.damaged", detail="; ".join(sorted(self._damage))))
        return found

    async def examine(self) -> AsyncGenerator[Finding, None]:
        for one in await self._run(lambda connection: examine(connection, self.url)):
            yield one

    async def close(self) -> None:
        if self._committing:
            await asyncio.wait(self._committing)
        await self._connections.close()

    async def _commit(self, commit: Commit, writes: Sequence[Write[Any]]) -> bool:
        done = await self._run(commit.run, seconds=seconds_of(self.url, writes))
        if done:
            self.on_commit(writes)
        return done

    async def _run(self, work: Callable[[Connection], Awaitable[T]], *, seconds: float | None = None) -> T:
        """Work with a connection, and note whether the server can be reached.

        Raises:
            BackendError: it cannot.
        """
        try:
            result = await self._connections.run(work, seconds=seconds)
        except BackendError as error:
            self._away = str(error)
            raise
        self._away = ""
        return result

    def _rows(self, sql: TableSQL[R], rows: Sequence[Sequence[Any]]) -> list[Versioned[R]]:
        """Rows as they are stored; what cannot be read is left out, and noted."""
        found = []
        for values in rows:
            try:
                found.append(sql.row_of(values))
            except RowDamageError as error:
                self._damage.add(str(error))
        return found
