"""Listeners: lists of functions that are called when something happens; any module may add its own."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Generic, ParamSpec

from appliance.errors import place_of

log = logging.getLogger(__name__)

P = ParamSpec("P")


class Listeners(Generic[P]):
    """Functions that are called one after the other; if one raises, that is logged and the others are called.

    Listeners must return soon: the caller waits for them.
    """

    __slots__ = ("_listeners", "_what")

    def __init__(self, what: str) -> None:
        """Args:
        what: the event, in a few words for the log.
        """
        self._what = what
        self._listeners: list[Callable[P, object]] = []

    def add(self, listener: Callable[P, object]) -> Callable[[], None]:
        """Call a function from now on; returns a function that removes it."""
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(*args, **kwargs)
            except Exception as error:
                log.error("A listener to %s failed: %s.", self._what, place_of(error))


class AsyncListeners(Generic[P]):
    """Functions that are awaited one after the other. Unlike `Listeners`, the caller depends on their success."""

    __slots__ = ("_listeners",)

    def __init__(self) -> None:
        self._listeners: list[Callable[P, Awaitable[object]]] = []

    def add(self, listener: Callable[P, Awaitable[object]]) -> None:
        """Await a function from now on."""
        self._listeners.append(listener)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Await all of them.

        Raises:
            Exception: that of the first one that failed, after all of them were awaited.
        """
        failed: Exception | None = None
        for listener in tuple(self._listeners):
            try:
                await listener(*args, **kwargs)
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed
