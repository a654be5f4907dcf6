"""Roster store: the interface to the tables of the roster, which every backend implements.

A store holds rows of typed tables (`appliance.roster.tables`). Each row has a version, which grows with each of its
changes, so that a commit can require that what was read is unchanged (optimistic concurrency control). The rules of the
roster are written once, over this interface; a backend knows none of them.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from appliance.errors import BackendError
from appliance.health import Finding, nothing
from appliance.listeners import Listeners

R = TypeVar("R", bound=msgspec.Struct)
T = TypeVar("T")

RETRIES = 50
"""How often a transaction is repeated because another one changed what it had read."""


class Index(msgspec.Struct, frozen=True):
    """How the rows of a table are found.

    Attributes:
        name: of the index, unique in its table.
        values: from a row, the texts under which it is found; none for a row that is not in the index.
        search: whether people search in it, for the beginnings of texts; the texts are parts of names.
    """

    name: str
    values: Callable[[Any], Iterable[str]]
    search: bool = False


class Table(Generic[R]):
    """A table of rows of one type.

    Attributes:
        name: of the table.
        row: the type of its rows: a struct of texts, numbers, booleans, lists of texts, and None.
        key: name of the field that is the key: a text that is not empty.
        indexes: by name.
    """

    def __init__(self, name: str, row: type[R], key: str, *indexes: Index) -> None:
        self.name = name
        self.row = row
        self.key = key
        self.indexes = {index.name: index for index in indexes}

    def key_of(self, row: R) -> str:
        """The key of a row."""
        key: str = getattr(row, self.key)
        return key


class Versioned(msgspec.Struct, Generic[R], frozen=True):
    """A row and its version, which is at least 1."""

    row: R
    version: int


class Write(msgspec.Struct, Generic[R], frozen=True):
    """A change of one row.

    Attributes:
        table: its table.
        key: its key.
        version: the version that the row must have; 0 if there must be none, None for any.
        row: the new row; None removes it.
        checked: whether only the version is required, and nothing is changed.
    """

    table: Table[R]
    key: str
    version: int | None
    row: R | None = None
    checked: bool = False


class RosterStore(ABC):
    """Tables of rows. Every method raises `BackendError` if the store cannot be reached.

    A text that not every backend can store, with NUL or half of a surrogate pair, finds nothing, and is a `ValueError`
    in a row that is to be committed.

    Attributes:
        shared: whether other processes may change rows.
        on_commit: called with the changes of a commit of this process, when they are durable.
    """

    shared: bool = False

    def __init__(self) -> None:
        self.on_commit: Listeners[[Sequence[Write[Any]]]] = Listeners("changes of the roster's rows")

    @abstractmethod
    async def read(self, table: Table[R], keys: Sequence[str]) -> list[Versioned[R] | None]:
        """The rows of keys, in their order; None where there is no such row."""

    @abstractmethod
    async def find(
        self, table: Table[R], index: str, value: str, *, prefix: bool = False, limit: int | None = None
    ) -> list[Versioned[R]]:
        """Rows that an index finds, by key.

        Args:
            table: the table.
            index: name of the index.
            value: the text, or with `prefix` the beginning of one.
            prefix: whether texts that begin so are found too; then the order is by text, and each row comes once.
            limit: the most rows.
        """

    @abstractmethod
    async def count(self, table: Table[R], index: str, value: str) -> int:
        """How many rows an index finds."""

    @abstractmethod
    def scan(self, table: Table[R]) -> AsyncIterator[R]:
        """All rows, by key. Rows that change meanwhile come as they were or as they are."""

    @abstractmethod
    async def commit(self, writes: Sequence[Write[Any]]) -> bool:
        """Do all changes, durably, or none of them; then call `on_commit`.

        Returns:
            False if a row has not the required version; then nothing was changed.

        Raises:
            ValueError: a text cannot be stored; nothing was changed.
        """

    def findings(self) -> list[Finding]:
        """What is wrong with the store now, without names of persons."""
        return []

    async def changed_elsewhere(self) -> bool:
        """Whether another process, such as a command, has changed rows since the last call.

        It is asked of a store that is not shared; one that is shared may change at any time.
        """
        return False

    def examine(self) -> AsyncGenerator[Finding, None]:
        """Findings for IT staff on the server of the store: its version, rights, settings.

        Raises:
            BackendError: it cannot be reached.
        """
        return nothing()

    async def close(self) -> None:
        """Close files and connections."""

    # ---- What every backend has in common ----

    async def get(self, table: Table[R], key: str) -> R | None:
        """The row of a key."""
        [found] = await self.read(table, [key])
        return found.row if found is not None else None

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Do a transaction: read, decide, and commit what was put; durable when this returns.

        Args:
            work: called with the transaction, and again if another transaction changed a row that it had read. So
                it must have no effects besides. Its exceptions pass, and then nothing is changed.

        Raises:
            BackendError: other transactions were faster too often.
        """
        for _ in range(RETRIES):
            transaction = Transaction(self)
            result = await work(transaction)
            if await self.commit(transaction.writes()):
                return result
        raise BackendError("The roster is changed too often at the moment. Try again.")


class Transaction:
    """Reads of a store, and changes that are committed together if nothing that was read by key has changed."""

    def __init__(self, store: RosterStore) -> None:
        self._store = store
        self._read: dict[tuple[str, str], tuple[Table[Any], Versioned[Any] | None]] = {}
        self._put: dict[tuple[str, str], tuple[Table[Any], Any]] = {}

    async def get(self, table: Table[R], key: str) -> R | None:
        """The row of a key, as this transaction has put it. The commit requires that nobody else changed it."""
        name = (table.name, key)
        if name in self._put:
            row: R | None = self._put[name][1]
            return row
        if name not in self._read:
            [found] = await self._store.read(table, [key])
            self._read[name] = (table, found)
        versioned: Versioned[R] | None = self._read[name][1]
        return versioned.row if versioned is not None else None

    async def find(self, table: Table[R], index: str, value: str) -> list[R]:
        """Rows that an index finds, with what this transaction has put; the commit requires that they are unchanged.

        It does not require that no further row is found by then.
        """
        found: dict[str, R] = {}
        for versioned in await self._store.find(table, index, value):
            key = table.key_of(versioned.row)
            name = (table.name, key)
            known = self._read.setdefault(name, (table, versioned))[1]
            if name not in self._put and known is not None:
                found[key] = known.row
        for (of, key), (_, row) in self._put.items():
            if of == table.name and row is not None and value in table.indexes[index].values(row):
                found[key] = row
        return [found[key] for key in sorted(found)]

    def put(self, table: Table[R], row: R) -> None:
        """Add a row, or put it in the place of the one with its key."""
        self._put[table.name, table.key_of(row)] = (table, row)

    def remove(self, table: Table[R], key: str) -> None:
        """Remove a row, if there is one."""
        self._put[table.name, key] = (table, None)

    def writes(self) -> list[Write[Any]]:
        """What the commit requires and changes; nothing if nothing was put."""
        if not self._put:
            return []
        writes = []
        for name, (table, row) in self._put.items():
            version = None
            if name in self._read:
                before = self._read[name][1]
                version = before.version if before is not None else 0
            writes.append(Write(table, name[1], version, row))
        for name, (table, before) in self._read.items():
            if name not in self._put:
                writes.append(Write(table, name[1], before.version if before is not None else 0, checked=True))
        return writes


def fail_all(waiting: Iterable[asyncio.Future[bool]], error: Exception) -> None:
    """Give all who wait for a commit, and have no answer yet, an error."""
    for done in waiting:
        if not done.done():
            done.set_exception(error)
            # The caller may be gone; then nobody retrieves the error.
            done.exception()
