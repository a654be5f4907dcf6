"""Together: many who ask a store at once are answered by one question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from appliance.tasks import in_background

K = TypeVar("K")
V = TypeVar("V")


class Together(Generic[K, V]):
    """Asks for what is wanted while the last answer was under way in one go.

    An answer is never older than the question: whoever asks while another question is on its way waits for the next.
    """

    def __init__(self, ask: Callable[[Sequence[K]], Awaitable[Sequence[V]]], most: int = 500) -> None:
        """Args:
        ask: answers questions, in their order.
        most: questions that are asked at once.
        """
        self._ask = ask
        self._most = most
        self._wanted: dict[K, asyncio.Future[V]] = {}
        self._asking = False

    async def __call__(self, question: K) -> V:
        """The answer to a question.

        Raises:
            Exception: what asking raised.
        """
        future = self._wanted.get(question)
        if future is None:
            future = self._wanted[question] = asyncio.get_running_loop().create_future()
        if not self._asking:
            self._asking = True
            in_background(self._run(), name="reads")
        # Others may wait for the same answer.
        return await asyncio.shield(future)

    async def _run(self) -> None:
        try:
            # Those who ask in the same turn of the event loop.
            await asyncio.sleep(0)
            while self._wanted:
                asked = dict(list(self._wanted.items())[: self._most])
                for question in asked:
                    del self._wanted[question]
                await self._answer(asked)
        finally:
            self._asking = False

    async def _answer(self, asked: dict[K, asyncio.Future[V]]) -> None:
        try:
            answers = await self._ask(list(asked))
            for future, answer in zip(asked.values(), answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        except BaseException as error:
            failure = asyncio.CancelledError() if isinstance(error, asyncio.CancelledError) else error
            for future in asked.values():
                if not future.done():
                    future.set_exception(failure) if isinstance(failure, Exception) else future.cancel()
                    # Whoever asked may be gone.
                    future.exception() if not future.cancelled() else None
            if not isinstance(error, Exception):
                raise
