"""Reading a SQLite roster that a program may have open, without changing anything: for backup, verify and search."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from appliance.datafolder import files
from appliance.roster.sql import RowDamageError, numbered
from appliance.roster.sqlite_file import LOG, connect
from appliance.roster.sqlite_schema import TABLES_SQL, tables_of
from appliance.roster.store import Table

R = TypeVar("R", bound=msgspec.Struct)

_WRITE_VERSION = 18
"""Byte of the header that says that the file is in write-ahead logging: 2."""


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads, for the time of the ``with`` block.

    Raises:
        sqlite3.Error: the file cannot be read.
        OSError: likewise.
    """
    with path.open("rb") as file:
        header = file.read(_WRITE_VERSION + 1)
    log = path.with_name(path.name + LOG)
    # Without a log nobody has the file open; then nothing is made beside it, also on a disk that is read-only.
    alone = header[_WRITE_VERSION:] == b"\2" and not log.exists()
    with closing(connect(path, "ro&immutable=1" if alone else "ro")) as connection:
        yield connection


def rows(connection: sqlite3.Connection, table: Table[R]) -> Iterator[R]:
    """All rows of a table that are not damaged; none where the table is not there yet.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    sql = TABLES_SQL[table.name]
    if table.name not in tables_of(connection):
        return
    for values in connection.execute(sql.all):
        with suppress(RowDamageError):
            yield sql.row_of(values).row


def row(connection: sqlite3.Connection, table: Table[R], key: str) -> R | None:
    """The row of a key; None if there is none, or it is damaged.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    sql = TABLES_SQL[table.name]
    if table.name not in tables_of(connection):
        return None
    values = connection.execute(numbered(sql.by_key), (key,)).fetchone()
    with suppress(RowDamageError):
        found: R | None = sql.row_of(values).row if values is not None else None
        return found
    return None


def counts(path: Path, *tables: Table[Any]) -> list[int]:
    """How many rows tables have.

    Raises:
        sqlite3.Error, OSError: the file cannot be read.
    """
    with reading(path) as connection:
        return [sum(1 for _ in rows(connection, table)) for table in tables]


class _Copy(io.FileIO):
    """A copy that is removed when it is closed."""

    def close(self) -> None:
        if not self.closed:
            super().close()
            files.remove(Path(str(self.name)))


def copy(path: Path) -> io.BufferedReader:
    """A consistent copy of a file that a program may be changing, open at its beginning; gone when it is closed.

    Raises:
        sqlite3.Error, OSError: it cannot be read, or the copy cannot be written.
    """
    part = files.unfinished_path(path)
    files.create(part).close()
    try:
        with reading(path) as source, closing(sqlite3.connect(part)) as target:
            source.backup(target)
        return io.BufferedReader(_Copy(part))
    except BaseException:
        files.remove(part)
        raise
