"""The file of the SQLite roster: how it is opened, read, changed, checked and copied. Nothing here is asynchronous.

The file is in write-ahead logging (WAL), and each commit is synced. SQLite's pages have no checksums, so each row has
one, and each table the number of its rows and the sum of their checksums: a bit that changed on the disk, and a page
that the disk did not write, are found when a row is read, or when all is checked. Format: https://sqlite.org/fileformat2.html
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from appliance.datafolder import files, notes
from appliance.errors import BackendError, SettingsError
from appliance.roster.sql import (
    SCHEMA_TABLE,
    RowDamageError,
    TableSQL,
    after_prefix,
    is_storable,
    numbered,
)
from appliance.roster.sqlite_check import check
from appliance.roster.sqlite_errors import ERRORS, advice_for, is_damage, reason_of
from appliance.roster.sqlite_log import log_damage
from appliance.roster.sqlite_schema import APPLICATION, PUT_NUMBER, TABLES_SQL, set_up, signed, tables_of, total_names
from appliance.roster.store import Table, Versioned, Write

R = TypeVar("R", bound=msgspec.Struct)

FILE = "roster.sqlite"
CHECKED_BYTES = 8_000_000
"""A file up to this size is checked when it is opened; a larger one in the background, which takes seconds."""
VFS = ""
"""The layer of SQLite below which files are; "" for that of the system. With ``unix-excl`` nothing is mapped into
memory, and no other process can read. Source: https://sqlite.org/vfs.html"""
BUSY_SECONDS = 5.0
"""How long another process, such as a backup, may hold the file."""
LOG, SHARED_MEMORY, ROLLBACK = "-wal", "-shm", "-journal"
"""Suffixes of the files that SQLite has beside the file while it is open, or after a kill."""
PRAGMAS = (
    "PRAGMA synchronous=FULL",
    # On macOS fsync leaves the content in the drive's own memory.
    "PRAGMA fullfsync=ON",
    "PRAGMA checkpoint_fullfsync=ON",
    # What is deleted is overwritten by zeros.
    "PRAGMA secure_delete=ON",
    "PRAGMA cell_size_check=ON",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA temp_store=MEMORY",
)
"""Settings of each connection. Source: https://sqlite.org/pragma.html"""


class RosterFile:
    """The open file. Reading and writing may be done in two threads at a time, one each.

    Attributes:
        path: the file.
        damage: what was found to be damaged, as clauses that name tables and nothing of a person.
        without_log: why the file is not in write-ahead logging; "" if it is.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; make it if it is not there.

        Raises:
            SettingsError: it cannot be used.
        """
        self.path = path
        self.damage: list[str] = []
        self.without_log = ""
        self._sql = TABLES_SQL
        try:
            self._make()
            if found := log_damage(path):
                self.note_damage(found)
            self._writer = self._opened()
        except OSError as error:
            raise SettingsError(f"The roster {path} cannot be used: {error.strerror}.") from error
        except ERRORS as error:
            raise SettingsError(f"The roster {path} cannot be used: {reason_of(error)}. {advice_for(error)}") from error
        self._reader: sqlite3.Connection | None = None
        # A number that SQLite changes when another connection than the writer has committed.
        self._data_version: int | None = None
        self.changed_elsewhere()
        if self.path.stat().st_size <= CHECKED_BYTES:
            self.check(self._writer)

    def check(self, connection: sqlite3.Connection) -> None:
        """Check every page, row and index, and note what is damaged.

        Args:
            connection: to use; it may be interrupted.
        """
        try:
            for what in check(connection):
                self.note_damage(what)
        except ERRORS as error:
            if is_damage(error):
                self.note_damage(f"a page is damaged ({reason_of(error)})")

    def close(self) -> None:
        """Close the file. SQLite moves what is in the log into it, if nobody else has it open."""
        for connection in (self._reader, self._writer):
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()
        self._reader = None

    # ---- Reading: the reader's thread ----

    def read(self, table: Table[R], keys: Sequence[str]) -> list[Versioned[R] | None]:
        """As `RosterStore.read`."""
        with self._reading() as connection:
            return [self._row(connection, self._sql[table.name], key) for key in keys]

    def find(self, table: Table[R], index: str, value: str, *, prefix: bool, limit: int | None) -> list[Versioned[R]]:
        """As `RosterStore.find`."""
        if not is_storable(value):
            return []
        sql = self._sql[table.name]
        found: dict[str, Versioned[R]] = {}
        if prefix:
            statement, parameters = sql.find_prefix(index), (value, after_prefix(value), -1)
        else:
            statement, parameters = sql.find(index), (value, -1 if limit is None else limit)  # type: ignore[assignment]
        with self._reading() as connection, closing(connection.execute(numbered(statement), parameters)) as cursor:
            for values in cursor:
                row = self._checked(sql, values)
                if row is None:
                    continue
                texts = table.indexes[index].values(row.row)
                if not any(text.startswith(value) if prefix else text == value for text in texts):
                    self.note_damage(f"an index of {table.name} has a row under another text")
                    continue
                found.setdefault(table.key_of(row.row), row)
                if len(found) == limit:
                    break
        return list(found.values())

    def count(self, table: Table[R], index: str, value: str) -> int:
        """As `RosterStore.count`."""
        if not is_storable(value):
            return 0
        with self._reading() as connection:
            [number] = connection.execute(numbered(self._sql[table.name].count(index)), (value,)).fetchone()
            return int(number)

    def page(self, table: Table[R], after: str, most: int) -> tuple[list[R], str | None]:
        """Some rows by key, and the key after which to go on; None at the end."""
        sql = self._sql[table.name]
        with self._reading() as connection:
            rows = connection.execute(numbered(sql.page), (after, most)).fetchall()
        found = [row.row for values in rows if (row := self._checked(sql, values)) is not None]
        return found, str(rows[-1][sql.names.index(table.key)]) if len(rows) == most else None

    # ---- Writing: the writer's thread ----

    def compact(self) -> None:
        """Write the file anew without what was deleted, and empty the log. Nobody else may have it open.

        Raises:
            BackendError: it cannot be written.
        """
        with self._writing() as connection:
            # The copy that is made meanwhile may be too large for the memory.
            connection.execute("PRAGMA temp_store=DEFAULT")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def changed_elsewhere(self) -> bool:
        """As `RosterStore.changed_elsewhere`."""
        with self._writing() as connection:
            [version] = connection.execute("PRAGMA data_version").fetchone()
        before, self._data_version = self._data_version, version
        return before not in (None, version)

    def commit(self, commits: Sequence[Sequence[Write[Any]]]) -> list[bool | ValueError]:
        """Do several commits with one sync; for each of them, whether its versions were right.

        Raises:
            BackendError: nothing of them was done.
        """
        with self._writing() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                results = [self._commit_one(connection, writes) for writes in commits]
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            return results

    def _commit_one(self, connection: sqlite3.Connection, writes: Sequence[Write[Any]]) -> bool | ValueError:
        changes = []
        for write in writes:
            sql = self._sql[write.table.name]
            damaged: list[bool] = []
            before = self._row(connection, sql, write.key, damaged)
            if write.version is not None and write.version != (before.version if before else 0):
                return False
            if write.checked:
                continue
            try:
                values = sql.values(write.row, before.version + 1 if before else 1) if write.row is not None else None
            except ValueError as error:
                return error
            changes.append((sql, write, before, values, bool(damaged)))
        for change in changes:
            self._apply(connection, *change)
        return True

    def _apply(
        self,
        connection: sqlite3.Connection,
        sql: TableSQL[Any],
        write: Write[Any],
        before: Versioned[Any] | None,
        values: list[Any] | None,
        damaged: bool,
    ) -> None:
        """Change a row, its entries in the indexes, and the totals of its table."""
        old, new = sql.texts(before.row if before else None), sql.texts(write.row)
        for index in old:
            if damaged:
                # What the row said is not known.
                connection.execute(numbered(sql.remove_entries(index)), (write.key,))
            for text in old[index] - new[index]:
                connection.execute(numbered(sql.remove_entry(index)), (text, write.key))
            for text in new[index] - old[index]:
                connection.execute(numbered(sql.add_entry(index)), (text, write.key))
        if values is not None:
            connection.execute(numbered(sql.put), values)
        elif before is not None or damaged:
            connection.execute(numbered(sql.remove), (write.key,))
        if damaged:
            # The totals count the row as it was written once: they cannot be corrected without it.
            self._set_totals(connection, sql)
            return
        rows = (values is not None) - (before is not None)
        added = values[-1] if values is not None else 0
        gone = sql.checksum(before.row, before.version) if before is not None else 0
        self._add_totals(connection, sql.table.name, rows, added - gone)

    def _row(
        self, connection: sqlite3.Connection, sql: TableSQL[R], key: str, damaged: list[bool] | None = None
    ) -> Versioned[R] | None:
        """The row of a key; None if there is none, or it is damaged."""
        if not is_storable(key):
            return None
        values = connection.execute(numbered(sql.by_key), (key,)).fetchone()
        row = self._checked(sql, values) if values is not None else None
        if damaged is not None and values is not None and row is None:
            damaged.append(True)
        return row

    def _checked(self, sql: TableSQL[R], values: Sequence[Any]) -> Versioned[R] | None:
        try:
            return sql.row_of(values)
        except RowDamageError as error:
            self.note_damage(str(error))
            return None

    def note_damage(self, what: str) -> None:
        """Note what is damaged, once."""
        if what not in self.damage:
            self.damage.append(what)

    # ---- Totals ----

    @staticmethod
    def _add_totals(connection: sqlite3.Connection, table: str, rows: int, checksums: int) -> None:
        found = dict(
            connection.execute(f"SELECT name, number FROM {SCHEMA_TABLE} WHERE name IN (?1, ?2)", total_names(table))
        )
        rows_name, sum_name = total_names(table)
        for name, number in ((rows_name, rows), (sum_name, checksums)):
            value = signed(int(found.get(name, 0)) + number)
            connection.execute(PUT_NUMBER, (name, value))

    @staticmethod
    def _set_totals(connection: sqlite3.Connection, sql: TableSQL[Any]) -> None:
        rows, total = 0, 0
        for values in connection.execute(sql.all):
            with suppress(RowDamageError):
                sql.row_of(values)
                rows, total = rows + 1, total + int(values[-1])
        for name, number in zip(total_names(sql.table.name), (rows, signed(total)), strict=True):
            connection.execute(PUT_NUMBER, (name, number))

    # ---- Opening ----

    def _make(self) -> None:
        """Make the file, for its owner alone.

        Raises:
            SettingsError: the file is gone, but not its log.
        """
        files.make_folder(self.path.parent)
        log = self.path.with_name(self.path.name + LOG)
        there = self.path.exists()
        if (not there or not self.path.stat().st_size) and log.exists() and log.stat().st_size:
            # SQLite would remove the log, and with it what was acknowledged last.
            raise SettingsError(
                f"The roster {self.path} is missing or empty, but {log.name} beside it is not. Restore both from a "
                "backup; or move both to another folder, to begin with an empty roster."
            )
        if not there:
            files.create(self.path).close()
            files.sync_folder(self.path.parent)
        elif not self.path.stat().st_size:
            notes.note("journal.empty", self.path, self.path.name)

    def _opened(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            self._set_up_log(connection)
            with closing(connection.execute("PRAGMA application_id")) as cursor:
                [application] = cursor.fetchone()
            tables = tables_of(connection)
            ours = SCHEMA_TABLE in tables
            if not ours and (application or tables):
                raise SettingsError(f"{self.path} is not a roster of this program. Choose another --roster.")
            if ours and application != APPLICATION:
                self.note_damage("a byte of its header is damaged")
            set_up(connection)
            if application != APPLICATION:
                connection.execute(f"PRAGMA application_id={APPLICATION}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> sqlite3.Connection:
        """A connection.

        Raises:
            sqlite3.Error: the file cannot be opened.
        """
        connection = connect(self.path)
        for pragma in PRAGMAS:
            connection.execute(pragma)
        return connection

    def _set_up_log(self, connection: sqlite3.Connection) -> None:
        """Write ahead, or, where the file system has no shared memory or locks for that, with a rollback journal."""
        reason = "the file system has no shared memory for it"
        try:
            [mode] = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if mode == "wal":
                return
        except sqlite3.OperationalError as error:
            reason = reason_of(error)
            # Without shared memory, a file in that mode is read by one connection that locks it.
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA locking_mode=NORMAL")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        connection.execute("PRAGMA journal_mode=DELETE")
        self.without_log = reason

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._errors("read"):
            if self._reader is None:
                self._reader = self._connect()
                self._reader.execute("PRAGMA query_only=ON")
            yield self._reader

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._errors("written"):
            yield self._writer

    @contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        """Errors of SQLite as `BackendError`."""
        try:
            yield
        except ERRORS as error:
            if is_damage(error):
                self.note_damage(f"a page is damaged ({reason_of(error)})")
            raise BackendError(
                f"The roster {self.path.name} cannot be {done}: {reason_of(error)}. {advice_for(error)}"
            ) from error


def connect(path: Path, mode: str = "rw") -> sqlite3.Connection:
    """A connection to an existing file, which may be used by any thread, without transactions of Python's own.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    url = f"{path.absolute().as_uri()}?mode={mode}{f'&vfs={VFS}' if VFS else ''}"
    connection = sqlite3.connect(url, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    # A text that is damaged is one that its row's checksum does not fit.
    connection.text_factory = _text
    return connection


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")
