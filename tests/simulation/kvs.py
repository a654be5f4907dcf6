"""A simulated shared store, with the semantics of `appliance.kvs.KVS` and the faults of a server over a network.

A request takes a while to arrive, and its answer takes a while. While the store is away, requests fail, some at once
and some late. A commit's outcome may be unknown: it is done, wholly or for some of its rows, and fails all the same.
A store that forgets has no rows and another epoch.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context, copy_context
from typing import TypeVar

from appliance.errors import BackendError
from appliance.kvs import KVS, Change, Row

T = TypeVar("T")


class SharedStore:
    """What the server holds, and how it is at present.

    Attributes:
        rows: by key, version and fields.
        away: whether requests fail.
        seconds: shortest and longest time of a request, and of an answer.
        unknown: share of commits whose outcome is unknown.
        forgot_at: when it last lost its memory, in the loop's time; None if it never did.
    """

    def __init__(self, seed: str) -> None:
        self.rows: dict[str, tuple[int, dict[str, bytes]]] = {}
        self.away = False
        self.seconds = (0.0002, 0.003)
        self.unknown = 0.0
        self.forgot_at: float | None = None
        self.chance = random.Random(f"{seed}/store")
        self.world: Context = copy_context()
        self._epoch = str(uuid.uuid4())

    @property
    def epoch(self) -> str:
        """See `KVS.epoch`."""
        return self._epoch

    def forget(self, now: float) -> None:
        """Lose everything."""
        self.rows.clear()
        self._epoch = str(uuid.uuid4())
        self.forgot_at = now

    def apply(self, change: Change, fields: dict[str, bytes | None]) -> bool:
        """Compare and set; returns whether it was done."""
        version, row = self.rows.get(change.key, (0, {}))
        if version != change.version:
            return False
        row = dict(row)
        for name, value in fields.items():
            if value is None:
                row.pop(name, None)
            else:
                row[name] = value
        self.rows[change.key] = (version + 1, row)
        return True


class SimulatedKVS(KVS):
    """One node's connection to the store.

    Attributes:
        cut: whether this node alone cannot reach it.
    """

    def __init__(self, store: SharedStore) -> None:
        self._store = store
        self.cut = False

    async def read(self, keys: Sequence[str], prefix: str = "") -> list[Row]:
        def rows() -> list[Row]:
            found = []
            for key in keys:
                version, fields = self._store.rows.get(key, (0, {}))
                found.append(Row(key, version, {n: value for n, value in fields.items() if n.startswith(prefix)}))
            return found

        return await self._request(rows)

    async def commit(self, changes: Iterable[Change]) -> list[str]:
        store = self._store
        # Encoded now, as they are sent.
        sent = [
            (change, {name: None if value is None else value.encode() for name, value in change.fields.items()})
            for change in changes
        ]
        unknown = store.chance.random() < store.unknown
        done = store.chance.randint(0, len(sent)) if unknown else len(sent)

        def applied() -> list[str]:
            conflicts = [change.key for change, fields in sent[:done] if not store.apply(change, fields)]
            if unknown:
                raise BackendError("The key-value store did not answer.")
            return conflicts

        return await self._request(applied)

    async def keys(self, prefix: str = "") -> list[str]:
        return await self._request(lambda: sorted(key for key in self._store.rows if key.startswith(prefix)))

    async def remove(self, keys: Iterable[str]) -> None:
        gone = list(keys)

        def remove() -> None:
            for key in gone:
                self._store.rows.pop(key, None)

        await self._request(remove)

    async def epoch(self) -> str:
        return await self._request(lambda: self._store.epoch)

    async def _request(self, work: Callable[[], T]) -> T:
        """Do something at the store. What has left this computer is done, even if its power is cut meanwhile.

        Raises:
            BackendError: the store cannot be reached, or the answer was lost.
        """
        store, loop = self._store, asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def fail(error: Exception) -> None:
            if not future.done():
                future.set_exception(error)
                # Nobody may wait for it any more, and that is no error.
                future.exception()

        def arrive() -> None:
            if store.away or self.cut:
                wait = store.chance.choice((0.0, 0.0, 0.5, 6.0))
                loop.call_later(wait, fail, BackendError("The key-value store cannot be reached."), context=store.world)
                return
            try:
                result = work()
            except BackendError as error:
                loop.call_later(store.chance.uniform(*store.seconds), fail, error, context=store.world)
                return
            loop.call_later(store.chance.uniform(*store.seconds), answer, result, context=store.world)

        def answer(result: T) -> None:
            if self.cut:
                fail(BackendError("The connection to the key-value store was lost."))
            elif not future.done():
                future.set_result(result)

        loop.call_later(store.chance.uniform(*store.seconds), arrive, context=store.world)
        return await future
