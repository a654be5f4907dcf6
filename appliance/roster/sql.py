"""SQL of the roster: each table of the roster as a table of a database, for SQLite and PostgreSQL.

A table has a column for each field of its rows, and one for their version. For each index there is one more table of
pairs of a text and the key of a row. Parameters are ``$1``, ``$2`` ... as in PostgreSQL; SQLite has ``?1``
(`numbered`). A field that is added to a row must have a default: `missing_columns` adds its column to an old database.
"""

from __future__ import annotations

import functools
import hashlib
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from appliance.roster.store import Table, Versioned

R = TypeVar("R", bound=msgspec.Struct)

SCHEMA = 1
"""Number of the schema. It is raised by a change that `missing_columns` and new tables do not cover."""
SCHEMA_TABLE = "roster_schema"
"""Table of the numbers of the schema and of the indexes' rules: ``name``, ``number``."""
VERSION, CHECKSUM = "version", "checksum"
"""Columns beside the fields of a row."""
_LARGEST = "\U0010ffff"


class Dialect(msgspec.Struct, frozen=True):
    """What differs between the databases.

    Attributes:
        text: type of a column of texts that are compared by code point.
        integer: of whole numbers of 64 bits.
        real: of floating-point numbers of 64 bits.
        boolean: of truth values.
        table_end: what follows the columns of a new table.
        checksums: whether each row has a checksum, for a database whose pages have none.
    """

    text: str
    integer: str
    real: str
    boolean: str
    table_end: str = ""
    checksums: bool = False


SQLITE = Dialect("TEXT", "INTEGER", "REAL", "INTEGER", " WITHOUT ROWID", checksums=True)
POSTGRES = Dialect('TEXT COLLATE "C"', "BIGINT", "DOUBLE PRECISION", "BOOLEAN")


class RowDamageError(Exception):
    """A stored row is not as it was written. The text names table and kind of damage, nothing of a person."""


class _Column(msgspec.Struct, frozen=True):
    """A column: the field, its SQL type without and with a constraint, its default, and how a value is stored."""

    name: str
    base: str
    type: str
    default: Any
    required: bool
    is_list: bool
    is_boolean: bool
    is_real: bool


class TableSQL(Generic[R]):
    """The statements of one table, and the conversion of its rows.

    Attributes:
        table: the table of the roster.
        create: statements that make the table and those of its indexes; nothing happens where they are there.
        by_key: the row of a key (``$1``).
        page: rows by key, after one (``$1``), at most ``$2``.
        all: all rows, by key.
        put: adds a row, or puts it in the place of the one with its key; parameters are those of `values`.
        on_conflict: the part of `put` that puts a row in the place of another one.
        remove: removes the row of a key (``$1``).
        names: names of the columns, as `values` orders them.
        types: their types, without constraints.
    """

    def __init__(self, table: Table[R], dialect: Dialect) -> None:
        self.table = table
        self.dialect = dialect
        self._columns = [_column(field, dialect) for field in msgspec.structs.fields(table.row)]
        # In the form of the database; a required field has none, which no value equals.
        self._defaults = [object() if c.required else _stored(c, c.default) for c in self._columns]
        self._loaded = [(place, c) for place, c in enumerate(self._columns) if c.is_list or c.is_boolean]
        own = [VERSION, CHECKSUM] if dialect.checksums else [VERSION]
        self.names = [*(column.name for column in self._columns), *own]
        self.types = [*(column.base for column in self._columns), *(dialect.integer for _ in own)]
        name, key = quoted(table.name), quoted(table.key)
        listed = ", ".join(map(quoted, self.names))
        columns = [
            *(f"{quoted(c.name)} {c.type}" for c in self._columns),
            *(f"{o} {dialect.integer} NOT NULL" for o in own),
        ]
        self.create = [
            f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(columns)}, PRIMARY KEY ({key})){dialect.table_end}",
            *(
                f"CREATE TABLE IF NOT EXISTS {self._index(index)} (value {dialect.text} NOT NULL, key {dialect.text} "
                f"NOT NULL, PRIMARY KEY (value, key)){dialect.table_end}"
                for index in table.indexes
            ),
        ]
        self._select = f"SELECT {listed} FROM {name}"
        self.by_key = f"{self._select} WHERE {key} = $1"
        self.page = f"{self._select} WHERE {key} > $1 ORDER BY {key} LIMIT $2"
        self.all = f"{self._select} ORDER BY {key}"
        parameters = ", ".join(f"${number}" for number in range(1, len(self.names) + 1))
        changed = ", ".join(f"{quoted(n)} = excluded.{quoted(n)}" for n in self.names if n != table.key)
        self.on_conflict = f"ON CONFLICT ({key}) DO UPDATE SET {changed}"
        self.put = f"INSERT INTO {name} ({listed}) VALUES ({parameters}) {self.on_conflict}"
        self.remove = f"DELETE FROM {name} WHERE {key} = $1"

    def find(self, index: str) -> str:
        """Statement: rows under a text (``$1``) of an index, by key, at most ``$2``."""
        return f"{self._joined(index)} WHERE i.value = $1 ORDER BY i.key LIMIT $2"

    def find_prefix(self, index: str) -> str:
        """Statement: rows under texts from ``$1`` to before ``$2`` (`after_prefix`), by text and key, at most ``$3``.

        A row comes once for each of its texts.
        """
        return f"{self._joined(index)} WHERE i.value >= $1 AND i.value < $2 ORDER BY i.value, i.key LIMIT $3"

    def count(self, index: str) -> str:
        """Statement: the number of rows under a text (``$1``) of an index."""
        return f"SELECT count(*) FROM {self._index(index)} WHERE value = $1"

    def add_entry(self, index: str) -> str:
        """Statement: a row (key ``$2``) is found under a text (``$1``) from now on."""
        return f"INSERT INTO {self._index(index)} (value, key) VALUES ($1, $2) ON CONFLICT DO NOTHING"

    def remove_entry(self, index: str) -> str:
        """Statement: a row (key ``$2``) is found under a text (``$1``) no more."""
        return f"DELETE FROM {self._index(index)} WHERE value = $1 AND key = $2"

    def remove_entries(self, index: str) -> str:
        """Statement: a row (key ``$1``) is not found by an index. It reads the whole index."""
        return f"DELETE FROM {self._index(index)} WHERE key = $1"

    def empty(self, index: str) -> str:
        """Statement: an index finds nothing, so that it can be filled anew."""
        return f"DELETE FROM {self._index(index)}"

    def entries(self, index: str) -> str:
        """Statement: all pairs of an index, in their order."""
        return f"SELECT value, key FROM {self._index(index)} ORDER BY value, key"

    def index_names(self) -> list[str]:
        """Names of the tables of the indexes."""
        return [f"{self.table.name}_by_{index}" for index in self.table.indexes]

    def missing_columns(self, there: Sequence[str]) -> list[str]:
        """Statements that add the columns which an older version did not have.

        Args:
            there: names of the columns of the table; empty where there is no table yet.
        """
        if not there:
            return []
        return [
            f"ALTER TABLE {quoted(self.table.name)} ADD COLUMN {quoted(c.name)} {c.type}{_default(c)}"
            for c in self._columns
            if c.name not in there
        ]

    def values(self, row: R, version: int) -> list[Any]:
        """The parameters of `put`.

        Raises:
            ValueError: a text cannot be stored.
        """
        values = [_stored(column, getattr(row, column.name)) for column in self._columns]
        if not self.dialect.checksums:
            return [*values, version]
        # As they are read again.
        values = [int(value) if value is True or value is False else value for value in values]
        values.append(version)
        return [*values, self._checksum(values)]

    def row_of(self, values: Sequence[Any]) -> Versioned[R]:
        """A row as a statement gives it, in the order of `names`.

        Raises:
            RowDamageError: it is not as it was written.
        """
        if not self.dialect.checksums:
            return self._converted(values)
        try:
            whole = values[-1] == self._checksum(values)
        except (ValueError, TypeError):
            # Half of a surrogate pair, or another type.
            whole = False
        if not whole:
            raise RowDamageError(f"a row of {self.table.name} is not as it was written")
        fields = list(values[: len(self._columns)])
        for place, column in self._loaded:
            fields[place] = _loaded(column, fields[place])
        return Versioned(self.table.row(*fields), values[-2])

    def checksum(self, row: R, version: int) -> int:
        """The checksum of a row, as `values` has it.

        It is 64 bits of a hash over table, version, and each field that has not its default. So a field that is added
        changes the checksum of no row.
        """
        checksum: int = self.values(row, version)[-1]
        return checksum

    def _checksum(self, values: Sequence[Any]) -> int:
        content: list[Any] = [self.table.name, values[len(self._columns)]]
        for name, default, value in zip(self.names, self._defaults, values, strict=False):
            if value != default:
                content.append(name)
                content.append(value)
        digest = hashlib.blake2b(msgspec.json.encode(content), digest_size=8).digest()
        return int.from_bytes(digest, "little", signed=True)

    def _converted(self, values: Sequence[Any]) -> Versioned[R]:
        """A row whose types are checked."""
        try:
            found = {c.name: _loaded(c, value) for c, value in zip(self._columns, values, strict=False)}
            row = msgspec.convert(found, self.table.row)
        except (msgspec.MsgspecError, ValueError, TypeError):
            raise RowDamageError(f"a row of {self.table.name} cannot be read") from None
        version = values[len(self._columns)]
        if not isinstance(version, int) or version < 1:
            raise RowDamageError(f"a row of {self.table.name} has no version")
        return Versioned(row, version)

    def texts(self, row: R | None) -> dict[str, set[str]]:
        """The texts under which each index finds a row; none where there is no row."""
        return {
            name: {text for text in index.values(row) if is_storable(text)} if row is not None else set()
            for name, index in self.table.indexes.items()
        }

    def _index(self, index: str) -> str:
        return quoted(f"{self.table.name}_by_{self.table.indexes[index].name}")

    def _joined(self, index: str) -> str:
        listed = ", ".join(f"t.{quoted(name)}" for name in self.names)
        table, key = quoted(self.table.name), quoted(self.table.key)
        return f"SELECT {listed} FROM {self._index(index)} AS i JOIN {table} AS t ON t.{key} = i.key"


def tables_sql(tables: Sequence[Table[Any]], dialect: Dialect) -> dict[str, TableSQL[Any]]:
    """The statements of tables, by the table's name."""
    return {table.name: TableSQL(table, dialect) for table in tables}


def schema_table(dialect: Dialect) -> str:
    """Statement that makes `SCHEMA_TABLE`."""
    return (
        f"CREATE TABLE IF NOT EXISTS {SCHEMA_TABLE} (name {dialect.text} NOT NULL PRIMARY KEY, "
        f"number {dialect.integer} NOT NULL){dialect.table_end}"
    )


@functools.cache
def numbered(statement: str) -> str:
    """A statement with the parameters of SQLite."""
    return re.sub(r"\$(\d+)", r"?\1", statement)


def quoted(name: str) -> str:
    """A name as SQL has it: some of them, such as ``order``, are words of SQL."""
    return f'"{name}"'


def is_storable(text: str) -> bool:
    """Whether every database can store a text: it has no NUL (PostgreSQL) and no surrogates (UTF-8)."""
    if text.isascii():
        return "\0" not in text
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)


def after_prefix(prefix: str) -> str:
    """The first text, by code point, after all that begin with a prefix."""
    stem = prefix.rstrip(_LARGEST)
    if not stem:
        # No text of a roster is so long that it comes after this one.
        return _LARGEST * (len(prefix) + 10)
    last = ord(stem[-1]) + 1
    # Surrogates are no characters of UTF-8.
    return stem[:-1] + chr(0xE000 if last == 0xD800 else last)


def _column(field: msgspec.structs.FieldInfo, dialect: Dialect) -> _Column:
    kind, null = field.type, ""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        [kind] = [one for one in typing.get_args(kind) if one is not type(None)]
    else:
        null = " NOT NULL"
    by_type: Mapping[Any, str] = {bool: dialect.boolean, int: dialect.integer, float: dialect.real}
    is_list = typing.get_origin(kind) is list
    default = field.default
    if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    base = by_type.get(kind, dialect.text)
    return _Column(
        field.name,
        base,
        base + null,
        default,
        required=default is msgspec.NODEFAULT,
        is_list=is_list,
        is_boolean=kind is bool,
        is_real=kind is float,
    )


def _default(column: _Column) -> str:
    """The default of a column that is added to rows which are there."""
    value = _stored(column, column.default)
    if value is None:
        return ""
    if isinstance(value, str):
        return " DEFAULT '" + value.replace("'", "''") + "'"
    if isinstance(value, bool):
        return " DEFAULT " + ("TRUE" if value else "FALSE")
    return f" DEFAULT {value}"


def _stored(column: _Column, value: Any) -> Any:
    """A value as the database has it.

    Raises:
        ValueError: no database can store it.
    """
    if column.is_real and value is not None:
        return float(value)
    if column.is_list:
        value = msgspec.json.encode(value).decode()
    if isinstance(value, str) and not is_storable(value):
        raise ValueError(f"{column.name} has a character that cannot be stored: NUL or half of a pair.")
    return value


def _loaded(column: _Column, value: Any) -> Any:
    if column.is_list:
        return msgspec.json.decode(value)
    if column.is_boolean and value in (0, 1):
        return bool(value)
    return value
