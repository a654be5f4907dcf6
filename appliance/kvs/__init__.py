"""KVS: the key-value store that holds every student's states. It has the truth; the pubsub only hints at changes.

A store holds rows. A row has a key (``student/ID``, ``class/ID``), a version that rises by one with every
commit, and fields. All data of one student are in one row, so that the numbers of the student's streams and
the states that they produced change in one atomic unit, guarded by one version.

Values are objects that can be encoded, not bytes: a store in this process never encodes values that nobody
reads. Values are immutable, so a read gives exactly what was committed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import ClassVar, Protocol

import msgspec

from appliance.backends import Facts, facts_of, missing_driver, scheme_of
from appliance.counters import Counters
from appliance.errors import SettingsError
from appliance.health import Finding, nothing
from appliance.redis import FORMS

PARTS = "part/"
"""Names of fields that begin so may be very many in one row: a read of other fields does not pass over them."""


class Value(Protocol):
    """An immutable value that knows its encoding."""

    def encode(self) -> bytes:
        """The value as bytes; the same bytes at every call."""
        ...


class Encoded(msgspec.Struct, frozen=True):
    """A value that is bytes already."""

    data: bytes

    def encode(self) -> bytes:
        return self.data


class Row(msgspec.Struct, frozen=True):
    """A row as it was read: `version` 0 and no fields if there is no such row."""

    key: str
    version: int
    fields: dict[str, bytes]


class Change(msgspec.Struct, frozen=True):
    """A change of one row.

    Attributes:
        key: the row.
        version: the version that the row must have; 0 for a row that does not exist yet.
        fields: new values by field name; None removes a field.
    """

    key: str
    version: int
    fields: Mapping[str, Value | None]


class KVS(ABC):
    """A key-value store of rows with compare-and-set on each row's version.

    Attributes:
        shared: whether other processes may change rows.
        ttl_seconds: lifetime of a row that nobody changes; 0 for ever.
    """

    shared: ClassVar[bool] = True
    ttl_seconds: int = 0

    @abstractmethod
    async def read(self, keys: Sequence[str], prefix: str = "") -> list[Row]:
        """Read rows, in the order of `keys`; only fields whose names start with `prefix`.

        Raises:
            BackendError: the store cannot be reached.
        """

    @abstractmethod
    async def commit(self, changes: Iterable[Change]) -> list[str]:
        """Apply each change whole or not at all, and raise its row's version by one.

        Returns:
            The keys of rows whose version was not the expected one; these are unchanged.

        Raises:
            BackendError: the store cannot be reached or is full; no row or some rows were changed, each of them whole.
        """

    @abstractmethod
    async def keys(self, prefix: str = "") -> list[str]:
        """The keys of all rows that start with `prefix`, sorted."""

    @abstractmethod
    async def remove(self, keys: Iterable[str]) -> None:
        """Remove rows; a missing row is no error."""

    @abstractmethod
    async def epoch(self) -> str:
        """A random name for the content of the store.

        It stays the same for as long as the store keeps what was committed to it, and is another one once the store
        was emptied, lost its memory, or is another store. A node that finds an unknown epoch restores states from its
        archive. Rows that have expired (``ttl``) do not change it.

        Raises:
            BackendError: the store cannot be reached.
        """

    def examine(self) -> AsyncGenerator[Finding, None]:
        """Findings for IT staff about the server behind this store: its version, rights, settings, clock.

        The command `check` prints them. It makes the section of the configuration their source, and writes, reads and
        removes a row by itself.

        Raises:
            BackendError: it cannot be reached.
        """
        return nothing()

    async def close(self) -> None:
        """Close connections. The store is not used after that."""


class VolatileKVS(KVS):
    """A store whose rows end with the process; `appliance.recovery` saves and restores them.

    Attributes:
        commits: how many commits changed something.
    """

    shared = False
    commits: int = 0

    @abstractmethod
    def rows(self) -> list[tuple[str, int, Mapping[str, Value]]]:
        """All rows: key, version, fields. Values are immutable, so they may be encoded later."""

    @abstractmethod
    def take_changes(self) -> list[tuple[str, int, Mapping[str, Value | None]]]:
        """What changed since the last call: key and version of each row, and of its fields those that changed.

        None is a field that was removed; version 0 with no fields is a row that was removed. A row that was removed and
        made again is in the list twice, in this order.
        """

    @abstractmethod
    def return_changes(self, changes: Iterable[tuple[str, int, Mapping[str, Value | None]]]) -> None:
        """Have the next `take_changes` return these changes too, because nobody could save them."""

    @abstractmethod
    def row(self, key: str) -> Row:
        """One row, as `read` returns it."""

    @abstractmethod
    def load(self, rows: Iterable[Row]) -> None:
        """Add rows with the versions that they had."""


_SHARED = {"memory": False} | dict.fromkeys(FORMS, True)


def kvs_facts(url: str) -> Facts:
    """Facts about the store that a URL names; it is not opened."""
    return facts_of(url, _SHARED)


def open_kvs(url: str, counters: Counters | None = None) -> KVS:
    """Open the store that a URL names: ``memory://`` or a scheme of `appliance.redis.FORMS`.

    The driver of a backend is imported only here.

    Args:
        url: where it is.
        counters: a store over a network counts conflicts, errors and the limits that were hit.

    Raises:
        SettingsError: no backend has that scheme, its driver is not installed, or the URL cannot be used.
    """
    scheme = scheme_of(url)
    if scheme == "memory":
        from appliance.kvs.memory import MemoryKVS

        return MemoryKVS()
    if scheme in FORMS:
        try:
            from appliance.kvs.redis import RedisKVS
        except ModuleNotFoundError as error:
            if error.name != "redis":
                raise
            raise missing_driver("kvs", "redis", "redis") from None
        return RedisKVS(url, counters or Counters())
    raise SettingsError(f"kvs: {scheme!r} is not a key-value store this version knows; use memory:// or redis://.")
