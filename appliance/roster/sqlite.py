"""The SQLite roster: the tables of the roster in one file of the data folder, the default.

Reading and writing have a thread and a connection each, so the event loop never waits for the disk. Commits that come
while one is under way are synced together.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from appliance.errors import BackendError
from appliance.health import Finding, finding
from appliance.roster.sqlite_file import CHECKED_BYTES, RosterFile, connect
from appliance.roster.store import RosterStore, Table, Versioned, Write, fail_all
from appliance.tasks import in_background

R = TypeVar("R", bound=msgspec.Struct)
T = TypeVar("T")

_PAGE = 1000
_PAUSE_SECONDS = 0.005
MOST_TOGETHER = 200
"""Commits that are synced together at most."""


class SqliteStore(RosterStore):
    """Tables in one file.

    Attributes:
        path: the file.
        reads: number of reads.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; make it if it is not there.

        Raises:
            SettingsError: it cannot be used.
        """
        super().__init__()
        self.path = path
        self.reads = 0
        self._file = RosterFile(path)
        self._reader = ThreadPoolExecutor(1, "roster-read")
        self._writer = ThreadPoolExecutor(1, "roster-write")
        self._waiting: list[tuple[Sequence[Write[Any]], asyncio.Future[bool]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._unwritable = ""
        self._closed = False
        self._checking = BackgroundCheck(self._file) if path.stat().st_size > CHECKED_BYTES else None

    async def read(self, table: Table[R], keys: Sequence[str]) -> list[Versioned[R] | None]:
        return await self._read(lambda: self._file.read(table, keys))

    async def find(
        self, table: Table[R], index: str, value: str, *, prefix: bool = False, limit: int | None = None
    ) -> list[Versioned[R]]:
        return await self._read(lambda: self._file.find(table, index, value, prefix=prefix, limit=limit))

    async def count(self, table: Table[R], index: str, value: str) -> int:
        return await self._read(lambda: self._file.count(table, index, value))

    async def scan(self, table: Table[R]) -> AsyncIterator[R]:
        after: str | None = ""
        while after is not None:
            begin = after
            rows, after = await self._read(lambda begin=begin: self._file.page(table, begin, _PAGE))  # type: ignore[misc]
            for row in rows:
                yield row

    async def changed_elsewhere(self) -> bool:
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._file.changed_elsewhere)

    async def commit(self, writes: Sequence[Write[Any]]) -> bool:
        if not writes:
            return True
        self._check_open()
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((writes, done))
        if self._committing is None:
            self._committing = in_background(self._commit_waiting(), "roster commits", awaited=True)
        # Not cancelled with this caller: it may be in the file already.
        return await asyncio.shield(done)

    def findings(self) -> list[Finding]:
        name = self.path.name
        found = [finding("roster.damaged", name, detail="; ".join(self._file.damage))] if self._file.damage else []
        if self._unwritable:
            found.append(finding("roster.unwritable", name, detail=self._unwritable))
        if self._file.without_log:
            found.append(finding("roster.no_log", name, detail=self._file.without_log))
        return found

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._committing is not None:
            await asyncio.wait([self._committing])
        await asyncio.get_running_loop().run_in_executor(self._writer, self._close)
        self._writer.shutdown()

    def _close(self) -> None:
        if self._checking is not None:
            self._checking.stop()
        self._reader.shutdown()
        self._file.close()

    @property
    def is_committing(self) -> bool:
        """Whether a commit is under way."""
        return self._committing is not None

    async def _read(self, work: Callable[[], T]) -> T:
        self._check_open()
        self.reads += 1
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError("The roster is closed.")

    async def _commit_waiting(self) -> None:
        """Do the commits that wait, some at a time, until none waits."""
        try:
            # Wait for the commits of the same turn of the event loop.
            await asyncio.sleep(0)
            while self._waiting:
                some, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
                await self._commit_some(some)
        finally:
            self._committing = None
            # However this ended, nobody waits for ever.
            fail_all((done for _, done in self._waiting), BackendError("The roster was not written. Try again."))
            self._waiting = []

    async def _commit_some(self, some: list[tuple[Sequence[Write[Any]], asyncio.Future[bool]]]) -> None:
        commits = [writes for writes, _ in some]
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._writer, self._file.commit, commits)
        except BaseException as error:
            if isinstance(error, BackendError):
                self._unwritable = str(error)
            failed = error if isinstance(error, Exception) else BackendError("The roster was not written. Try again.")
            fail_all((done for _, done in some), failed)
            if not isinstance(error, Exception):
                raise
            return
        self._unwritable = ""
        for (writes, done), result in zip(some, results, strict=True):
            if result is True:
                self.on_commit(writes)
            if done.done():
                continue
            if isinstance(result, ValueError):
                done.set_exception(result)
            else:
                done.set_result(result)


class BackgroundCheck:
    """Checks a large file in a thread of its own."""

    def __init__(self, file: RosterFile) -> None:
        self._file = file
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="roster-check", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the check."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        with closing(connect(self._file.path)) as connection:
            # SQLite asks after so many instructions, some dozens of rows, whether it shall go on. The check of a row is
            # Python, which only one thread runs at a time: without pauses, requests would wait for it.
            connection.set_progress_handler(lambda: self._stopped.wait(_PAUSE_SECONDS), 2000)
            self._file.check(connection)
