"""A simulated shared store: `appliance.kvs.memory.MemoryKVS`, shared by all nodes, with the faults of a server.

A request takes a while to arrive, and its answer takes a while. While the store is away, requests fail, some at once
and some late. A commit's outcome may be unknown: it is done, wholly or for some of its rows, and fails all the same.
A store that forgets has no rows and another epoch.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import Context, copy_context
from typing import Any, TypeVar

from msgspec.structs import replace

from appliance.errors import BackendError
from appliance.kvs import KVS, Change, Encoded, Row
from appliance.kvs.memory import MemoryKVS

T = TypeVar("T")


UNNOTICED_SECONDS = 5.0
"""Within so many seconds each node notices that the store has lost its memory."""


class SharedStore:
    """What the server holds, and how it is at present.

    Attributes:
        memory: the rows.
        away: whether requests fail.
        seconds: shortest and longest time of a request, and of an answer.
        unknown: share of commits whose outcome is unknown.
        losses: from when to when it lacks something, for each time that it lost its memory, in the loop's time.
    """

    def __init__(self, seed: str) -> None:
        self.memory = MemoryKVS()
        self.away = False
        self.seconds = (0.0002, 0.003)
        self.unknown = 0.0
        self.losses: list[tuple[float, float]] = []
        self.chance = random.Random(f"{seed}/store")
        self.world: Context = copy_context()

    def forget(self, now: float) -> None:
        """Lose everything."""
        self.memory = MemoryKVS()
        self.losses.append((now, now + UNNOTICED_SECONDS))

    def lacks(self, now: float) -> None:
        """Note that some node refills it."""
        if self.losses:
            began, end = self.losses[-1]
            self.losses[-1] = began, max(end, now + 1.0)


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("The store in memory waits for something.")


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
            found = [self._store.memory.row(key) for key in keys]
            if not prefix:
                return found
            return [Row(r.key, r.version, {n: v for n, v in r.fields.items() if n.startswith(prefix)}) for r in found]

        return await self._request(rows)

    async def commit(self, changes: Iterable[Change]) -> list[str]:
        store = self._store
        # Encoded now, as they are sent.
        sent = [
            replace(change, fields={n: v and Encoded(v.encode()) for n, v in change.fields.items()})
            for change in changes
        ]
        unknown = store.chance.random() < store.unknown
        done = store.chance.randint(0, len(sent)) if unknown else len(sent)

        def applied() -> list[str]:
            conflicts = _at_once(store.memory.commit(sent[:done]))
            if unknown:
                raise BackendError("The key-value store did not answer.")
            return conflicts

        return await self._request(applied)

    async def keys(self, prefix: str = "") -> list[str]:
        return await self._request(lambda: _at_once(self._store.memory.keys(prefix)))

    async def remove(self, keys: Iterable[str]) -> None:
        gone = list(keys)
        await self._request(lambda: _at_once(self._store.memory.remove(gone)))

    async def epoch(self) -> str:
        return await self._request(lambda: _at_once(self._store.memory.epoch()))

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
