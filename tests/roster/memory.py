"""A roster store in memory, for tests of rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

import msgspec

from appliance.roster.store import RosterStore, Table, Versioned, Write

R = TypeVar("R", bound=msgspec.Struct)


class MemoryStore(RosterStore):
    """Rows in a dictionary. Each call lets other tasks run, as a real store does."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, dict[str, Versioned[Any]]] = {}

    def table(self, table: Table[R]) -> dict[str, Versioned[R]]:
        return self.rows.setdefault(table.name, {})

    async def read(self, table: Table[R], keys: Sequence[str]) -> list[Versioned[R] | None]:
        await asyncio.sleep(0)
        return [self.table(table).get(key) for key in keys]

    async def find(
        self, table: Table[R], index: str, value: str, *, prefix: bool = False, limit: int | None = None
    ) -> list[Versioned[R]]:
        await asyncio.sleep(0)
        values = table.indexes[index].values
        rows = self.table(table)
        found = [
            (text, key)
            for key, versioned in sorted(rows.items())
            for text in values(versioned.row)
            if (text.startswith(value) if prefix else text == value)
        ]
        keys = dict.fromkeys(key for _, key in sorted(found))
        return [rows[key] for key in list(keys)[:limit]]

    async def count(self, table: Table[R], index: str, value: str) -> int:
        return len(await self.find(table, index, value))

    async def scan(self, table: Table[R]) -> AsyncIterator[R]:
        for _, versioned in sorted(self.table(table).items()):
            yield versioned.row

    async def commit(self, writes: Sequence[Write[Any]]) -> bool:
        await asyncio.sleep(0)
        for write in writes:
            known = self.table(write.table).get(write.key)
            if write.version is not None and write.version != (known.version if known else 0):
                return False
        for write in writes:
            rows = self.table(write.table)
            if write.checked:
                continue
            if write.row is None:
                rows.pop(write.key, None)
            else:
                before = rows.get(write.key)
                rows[write.key] = Versioned(write.row, before.version + 1 if before else 1)
        self.on_commit(writes)
        return True
