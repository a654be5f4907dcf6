"""The embedded store: rows in this process. They end with it; a start restores them from snapshot and archive."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Mapping, Sequence

from appliance.kvs import Change, Encoded, Row, Value, VolatileKVS

_MANY = 50
"""A row with more fields is encoded in another thread."""


class _Row:
    """A row.

    Attributes:
        changed: names of the fields that changed since `MemoryKVS.take_changes`.
    """

    __slots__ = ("changed", "fields", "version")

    def __init__(self) -> None:
        self.version = 0
        self.fields: dict[str, Value] = {}
        self.changed: set[str] = set()


class MemoryKVS(VolatileKVS):
    """Keeps values as objects and encodes only those that are read."""

    def __init__(self) -> None:
        self.commits = 0
        self._rows: dict[str, _Row] = {}
        # Of `take_changes`: rows that changed, and that were removed.
        self._changed: dict[str, _Row] = {}
        self._removed: set[str] = set()
        self._epoch = str(uuid.uuid4())

    async def read(self, keys: Sequence[str], prefix: str = "") -> list[Row]:
        if len(keys) == 1 and not prefix and len(self._fields(keys[0])) > _MANY:
            # A student with hundreds of documents: values are immutable, so another thread may encode them.
            row = self._rows[keys[0]]
            return [await asyncio.to_thread(_encoded, keys[0], row.version, dict(row.fields))]
        return [self._read(key, prefix) for key in keys]

    async def commit(self, changes: Iterable[Change]) -> list[str]:
        conflicts = []
        self.commits += 1
        for change in changes:
            row = self._rows.get(change.key)
            if (row.version if row else 0) != change.version:
                conflicts.append(change.key)
                continue
            if row is None:
                row = self._rows[change.key] = _Row()
            row.version += 1
            row.changed.update(change.fields)
            self._changed[change.key] = row
            for name, value in change.fields.items():
                if value is None:
                    row.fields.pop(name, None)
                else:
                    row.fields[name] = value
        return conflicts

    async def keys(self, prefix: str = "") -> list[str]:
        return sorted(key for key in self._rows if key.startswith(prefix))

    async def remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._forget(key)

    async def epoch(self) -> str:
        return self._epoch

    def rows(self) -> list[tuple[str, int, Mapping[str, Value]]]:
        return [(key, row.version, dict(row.fields)) for key, row in self._rows.items()]

    def take_changes(self) -> list[tuple[str, int, Mapping[str, Value | None]]]:
        changes: list[tuple[str, int, Mapping[str, Value | None]]] = [(key, 0, {}) for key in sorted(self._removed)]
        for key, row in self._changed.items():
            changes.append((key, row.version, {name: row.fields.get(name) for name in row.changed}))
            row.changed = set()
        self._changed = {}
        self._removed = set()
        return changes

    def return_changes(self, changes: Iterable[tuple[str, int, Mapping[str, Value | None]]]) -> None:
        for key, version, fields in changes:
            row = self._rows.get(key)
            if not version:
                self._removed.add(key)
            elif row is not None:
                row.changed.update(fields)
                self._changed[key] = row

    def row(self, key: str) -> Row:
        return self._read(key, "")

    def load(self, rows: Iterable[Row]) -> None:
        for found in rows:
            self._forget(found.key)
            row = self._rows[found.key] = self._changed[found.key] = _Row()
            row.version = found.version
            row.fields = {name: Encoded(value) for name, value in found.fields.items()}
            row.changed.update(row.fields)

    def _forget(self, key: str) -> None:
        self._changed.pop(key, None)
        if self._rows.pop(key, None) is not None:
            self._removed.add(key)

    def _fields(self, key: str) -> Mapping[str, Value]:
        row = self._rows.get(key)
        return row.fields if row else {}

    def _read(self, key: str, prefix: str) -> Row:
        row = self._rows.get(key)
        if row is None:
            return Row(key, 0, {})
        return _encoded(key, row.version, {n: value for n, value in row.fields.items() if n.startswith(prefix)})


def _encoded(key: str, version: int, fields: Mapping[str, Value]) -> Row:
    return Row(key, version, {name: value.encode() for name, value in fields.items()})
