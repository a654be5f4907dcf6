"""Advisory locks, by which commits of several nodes come one after the other where they concern the same rows.

A row that is not there cannot be locked, but its key can. All who change a key take its lock alone, and all who require
a row unchanged share it. A large commit has too many keys for the server's table of locks: it locks all of them at
once. Locks are taken in one order, so that no two commits wait for each other, and are held until the transaction ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from appliance.roster.postgres.url import PostgresUrl
from appliance.roster.store import Write

MOST_LOCKS = 200
"""Keys that one transaction locks at most; a server has room for 6400 locks of all by default."""
_CLASS = 0x436C4F62
"""Tells these locks of all keys from those of other programs: ``ClOb``."""


def whole(url: PostgresUrl, what: str, *, shared: bool = False) -> str:
    """Statement: the lock of something that a schema has once."""
    number = _number(url.schema, what) >> 32
    return f"SELECT pg_advisory_xact_lock{'_shared' if shared else ''}({_CLASS}, {number})"


def locks_of(url: PostgresUrl, writes: Sequence[Write[Any]]) -> list[str]:
    """Statements that take the locks of a commit."""
    if len(writes) > MOST_LOCKS:
        return [whole(url, "rows")]
    alone: dict[int, bool] = {}
    for write in writes:
        number = _number(url.schema, write.table.name, write.key)
        alone[number] = alone.get(number, False) or not write.checked
    return [
        whole(url, "rows", shared=True),
        *(f"SELECT pg_advisory_xact_lock{'' if alone[number] else '_shared'}({number})" for number in sorted(alone)),
    ]


def _number(*names: str) -> int:
    """64 bits, signed, for a name."""
    digest = hashlib.blake2b(repr(names).encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
