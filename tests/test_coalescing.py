"""Request coalescing: requests that are made at the same time are sent together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from appliance.coalescing import RequestCoalescer


class Store:
    """Answers a number with its double, once the test allows it."""

    def __init__(self) -> None:
        self.requests: list[list[int]] = []
        self.open = asyncio.Event()
        self.error: BaseException | None = None

    async def send(self, requests: Sequence[int]) -> Sequence[int]:
        self.requests.append(list(requests))
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return [2 * request for request in requests]


async def test_requests_of_one_moment_are_sent_together_and_equal_ones_once() -> None:
    store = Store()
    store.open.set()
    ask = RequestCoalescer(store.send)
    assert await asyncio.gather(ask(1), ask(2), ask(1)) == [2, 4, 2]
    assert store.requests == [[1, 2]]
    assert await ask(3) == 6
    assert store.requests == [[1, 2], [3]]


async def test_a_request_while_others_are_under_way_gets_an_answer_of_its_own() -> None:
    store = Store()
    ask = RequestCoalescer(store.send)
    first = asyncio.create_task(ask(1))
    while not store.requests:
        await asyncio.sleep(0)
    second = asyncio.create_task(ask(1))
    await asyncio.sleep(0)
    store.open.set()
    assert await asyncio.gather(first, second) == [2, 2]
    assert store.requests == [[1], [1]]


async def test_of_very_many_requests_some_are_sent_at_a_time() -> None:
    store = Store()
    store.open.set()
    ask = RequestCoalescer(store.send, most=2)
    assert await asyncio.gather(*map(ask, range(5))) == [0, 2, 4, 6, 8]
    assert store.requests == [[0, 1], [2, 3], [4]]


async def test_an_error_goes_to_everybody_who_asked_and_the_next_request_is_sent() -> None:
    store = Store()
    store.open.set()
    store.error = ValueError("no")
    ask = RequestCoalescer(store.send)
    results = await asyncio.gather(ask(1), ask(2), return_exceptions=True)
    assert list(map(repr, results)) == ["ValueError('no')"] * 2
    store.error = None
    assert await ask(1) == 2


async def test_too_few_answers_are_an_error_for_those_who_got_none() -> None:
    async def one_answer(requests: Sequence[int]) -> Sequence[int]:
        return [7]

    results = await asyncio.gather(*map(RequestCoalescer(one_answer), (1, 2)), return_exceptions=True)
    assert results[0] == 7
    assert isinstance(results[1], ValueError)


async def test_the_answer_of_others_does_not_depend_on_one_who_was_cancelled() -> None:
    store = Store()
    ask = RequestCoalescer(store.send)
    one, two = asyncio.create_task(ask(1)), asyncio.create_task(ask(1))
    while not store.requests:
        await asyncio.sleep(0)
    one.cancel()
    store.open.set()
    assert await two == 2
    with pytest.raises(asyncio.CancelledError):
        await one


async def test_a_request_whose_task_is_cancelled_is_cancelled_too() -> None:
    store = Store()
    store.open.set()
    store.error = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await RequestCoalescer(store.send)(1)
