"""Connections to PostgreSQL: asyncpg's, bounded in number and time, with errors as sentences.

The server also bounds each statement, so that what nobody waits for any more does not go on there. After a failed
connection all callers get the same error for a while, and nobody waits for the next try: back-off.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import asyncpg

from appliance.counters import Counters
from appliance.errors import BackendError, SettingsError
from appliance.roster.postgres.errors import FAILURES, explained, is_lost
from appliance.roster.postgres.url import PostgresUrl
from appliance.tasks import BackOff, in_background

T = TypeVar("T")
Connection: TypeAlias = Any
"""A connection of asyncpg, which has no types."""

IDLE_SECONDS = 120.0
"""An idle connection is not used again after so long: a firewall may have forgotten it."""
_CLOSE_SECONDS = 2.0
_LOCK_SHARE = 0.8
"""Part of the time limit within which the server gives up itself, so that its reason arrives here."""


class Connections:
    """Connections to the server of a URL, opened when they are needed, at most `PostgresUrl.connections`."""

    def __init__(self, url: PostgresUrl, counters: Counters, prepare: Callable[[Connection], Awaitable[None]]) -> None:
        """Args:
        url: where to.
        counters: ``postgres_errors`` counts what failed, ``limit_roster_connections`` what waited for a connection.
        prepare: called with each new connection; its exceptions end the connection.

        Raises:
            SettingsError: a file that the URL names cannot be used.
        """
        self.url = url
        self._counters = counters
        self._prepare = prepare
        self._tls = _tls_of(url)
        self._room = asyncio.Semaphore(url.connections)
        self._idle: list[tuple[Connection, float]] = []
        self._open: set[Connection] = set()
        self._back_off = BackOff(first=0.05, most=2.0)
        self._down_until = 0.0
        self._down = ""
        self._closed = False

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, seconds: float | None = None) -> T:
        """Work with a connection.

        Args:
            work: called with a connection; once more, with another one, if the first had been idle and turns out to be
                lost. It must not be repeated if that could do harm: then let it raise a `BackendError`.
            seconds: how long it may take; None for the time limit of the URL.

        Raises:
            BackendError: the server cannot be reached, or refuses.
        """
        while True:
            was_idle: list[bool] = []
            try:
                async with self._use(was_idle, self.url.timeout if seconds is None else seconds) as connection:
                    return await work(connection)
            except _LostError as error:
                if not was_idle[0]:
                    raise error.reason from None

    async def close(self) -> None:
        """Close all connections."""
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(self._end(connection) for connection, _ in idle))
        for connection in list(self._open):
            connection.terminate()
        self._open.clear()

    @asynccontextmanager
    async def _use(self, was_idle: list[bool], seconds: float) -> AsyncIterator[Connection]:
        """A connection for a while. Errors inside become `BackendError`, or `_LostError` where it was lost."""
        if self._closed:
            raise BackendError("The connections to PostgreSQL are closed.")
        await self._wait_for_room()
        try:
            connection, idle = await self._connection()
            was_idle.append(idle)
            try:
                async with asyncio.timeout(seconds):
                    yield connection
            except BackendError:
                self._give_back(connection)
                raise
            except Exception as error:
                if not isinstance(error, FAILURES):
                    self._terminate(connection)
                    raise
                self._counters.add("postgres_errors")
                reason = explained(error, self.url)
                if not is_lost(error):
                    self._give_back(connection)
                    raise reason from None
                self._terminate(connection)
                if isinstance(error, TimeoutError):
                    raise reason from None
                raise _LostError(reason) from None
            except BaseException:
                self._terminate(connection)
                raise
            else:
                self._give_back(connection)
        finally:
            self._room.release()

    async def _wait_for_room(self) -> None:
        if not self._room.locked():
            await self._room.acquire()
            return
        self._counters.add("limit_roster_connections")
        try:
            async with asyncio.timeout(self.url.timeout):
                await self._room.acquire()
        except TimeoutError:
            raise BackendError(
                f"All connections to {self.url.where} are in use; it is overloaded, or needs more (?connections=N)."
            ) from None

    async def _connection(self) -> tuple[Connection, bool]:
        """A connection, and whether it had been idle.

        Raises:
            BackendError: there is none.
        """
        while self._idle:
            connection, since = self._idle.pop()
            if connection.is_closed():
                self._open.discard(connection)
            elif time.monotonic() - since > IDLE_SECONDS:
                in_background(self._end(connection), "end of an idle connection")
            else:
                return connection, True
        if time.monotonic() < self._down_until:
            raise BackendError(self._down)
        try:
            connection = await self._connected()
        except BackendError as error:
            # Several tries may fail together; one of them makes the wait longer.
            if time.monotonic() >= self._down_until:
                self._down, self._down_until = str(error), time.monotonic() + self._back_off.next()
            raise
        self._back_off.reset()
        self._down_until = 0.0
        return connection, False

    async def _connected(self) -> Connection:
        """A new connection, prepared."""
        url = self.url
        connection: Connection | None = None
        try:
            async with asyncio.timeout(url.timeout):
                connection = await asyncpg.connect(
                    host=[host for host, _ in url.hosts],
                    port=[port for _, port in url.hosts],
                    user=url.user,
                    password=url.password or None,
                    database=url.database,
                    ssl=self._tls,
                    target_session_attrs="primary" if len(url.hosts) > 1 else "any",
                    server_settings={"application_name": "classroom-observer"},
                    timeout=url.timeout,
                )
                self._open.add(connection)
                await connection.execute(_SETTINGS, url.schema, *(f"{round(s * 1000)}ms" for s in _limits(url)))
            await self._prepare(connection)
        except BaseException as error:
            if connection is not None:
                self._terminate(connection)
            if not isinstance(error, Exception):
                raise
            self._counters.add("postgres_errors")
            raise explained(error, url) from None
        if self._closed:
            self._terminate(connection)
            raise BackendError("The connections to PostgreSQL are closed.")
        return connection

    def _give_back(self, connection: Connection) -> None:
        if connection.is_closed() or connection.is_in_transaction() or self._closed:
            self._terminate(connection)
        else:
            self._idle.append((connection, time.monotonic()))

    def _terminate(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.terminate()

    async def _end(self, connection: Connection) -> None:
        """Close a connection in an orderly way, for a while."""
        self._open.discard(connection)
        try:
            await connection.close(timeout=_CLOSE_SECONDS)
        except FAILURES:
            connection.terminate()


_SETTINGS = """
SELECT set_config('search_path', quote_ident($1), false),
       set_config('statement_timeout', $2, false),
       set_config('lock_timeout', $3, false),
       set_config('idle_in_transaction_session_timeout', $4, false),
       -- All statements look few rows up by an index, whatever the statistics say.
       set_config('plan_cache_mode', 'force_custom_plan', false),
       set_config('enable_seqscan', 'off', false),
       set_config('enable_hashjoin', 'off', false),
       set_config('enable_mergejoin', 'off', false),
       set_config('default_transaction_isolation', 'read committed', false),
       -- What is acknowledged is on the disk.
       set_config('synchronous_commit', CASE setting WHEN 'off' THEN 'on' ELSE setting END, false)
FROM current_setting('synchronous_commit') AS setting
"""


class _LostError(Exception):
    """The connection was lost.

    Attributes:
        reason: the error to raise if it is not tried again.
    """

    def __init__(self, reason: BackendError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _limits(url: PostgresUrl) -> tuple[float, float, float]:
    """The seconds that the server gives a statement, a lock, and a transaction in which nothing happens."""
    return url.timeout * _LOCK_SHARE, url.timeout * _LOCK_SHARE / 2, url.timeout * 2.0


def _tls_of(url: PostgresUrl) -> ssl.SSLContext | bool:
    """The TLS of connections; False for none.

    Raises:
        SettingsError: a file cannot be used.
    """
    if url.tls == "off":
        return False
    try:
        context = ssl.create_default_context(cafile=url.ca or None)
        if url.tls == "required":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if url.certificate:
            context.load_cert_chain(url.certificate, url.key)
    except (OSError, ssl.SSLError) as error:
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        files = " or ".join(file for file in (url.ca, url.certificate, url.key) if file)
        raise SettingsError(f"roster.url: the file {files} cannot be used: {reason}.") from None
    return context
