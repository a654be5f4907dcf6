"""Request coalescing: many requests that are made at the same time become one request to a store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from appliance.tasks import in_background

K = TypeVar("K")
V = TypeVar("V")


class RequestCoalescer(Generic[K, V]):
    """Sends the requests that were made while the last ones were under way together, and equal ones once.

    An answer is never older than its request: a request that is made while others are under way waits for the next.
    """

    def __init__(self, send: Callable[[Sequence[K]], Awaitable[Sequence[V]]], most: int = 500) -> None:
        """Args:
        send: answers requests, in their order.
        most: requests that are sent together.
        """
        self._send = send
        self._most = most
        self._waiting: dict[K, asyncio.Future[V]] = {}
        self._sending = False

    async def __call__(self, request: K) -> V:
        """The answer to a request.

        Raises:
            Exception: the error of `send`.
        """
        future = self._waiting.get(request)
        if future is None:
            future = self._waiting[request] = asyncio.get_running_loop().create_future()
        if not self._sending:
            self._sending = True
            in_background(self._run(), name="reads")
        # Not cancelled with this caller: others may wait for the same answer.
        return await asyncio.shield(future)

    async def _run(self) -> None:
        try:
            # Wait for the requests of the same turn of the event loop.
            await asyncio.sleep(0)
            while self._waiting:
                requests = dict(list(self._waiting.items())[: self._most])
                for request in requests:
                    del self._waiting[request]
                await self._answer(requests)
        finally:
            self._sending = False

    async def _answer(self, requests: dict[K, asyncio.Future[V]]) -> None:
        try:
            answers = await self._send(list(requests))
            for future, answer in zip(requests.values(), answers, strict=True):
                future.set_result(answer)
        except Exception as error:
            for future in requests.values():
                if not future.done():
                    future.set_exception(error)
                    # Marks the error as retrieved: the caller may be gone.
                    future.exception()
        except BaseException:
            for future in requests.values():
                future.cancel()
            raise
