"""How often something may happen in a time: wrong guesses from an address, joins to a class."""

from __future__ import annotations

import time
from collections import OrderedDict, deque

from appliance.counters import Counters
from appliance.text import counted
from appliance.web.errors import ApiError


class GuessLimit:
    """How often an address may guess wrongly within a minute, for a bounded number of addresses."""

    def __init__(
        self, guesses: int, counters: Counters, counter: str, *, seconds: float = 60, addresses: int = 10_000
    ) -> None:
        self._most = guesses
        self._seconds = seconds
        self._addresses = addresses
        self._counters = counters
        self._counter = counter
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Refuse an address that guessed wrongly too often.

        Call it when a request arrives, to refuse it early, and again right before the guess is compared and
        `add_wrong` is called, with no await in between: many guesses may arrive together.

        Raises:
            ApiError: 429, with the seconds to wait in ``Retry-After``.
        """
        now = time.monotonic()
        recent = [when for when in self._wrong.get(address, ()) if now - when < self._seconds]
        if len(recent) >= self._most:
            self._counters.add(self._counter)
            wait = max(1, round(self._seconds - (now - recent[0])))
            raise ApiError(
                429,
                "too_many_tries",
                f"Too many wrong tries. Wait {counted(wait, 'second')}, then try again.",
                {"Retry-After": str(wait)},
            )

    def begin(self, address: str) -> None:
        """Count a guess as wrong before it is compared: others may begin meanwhile. `forgive` one that was right.

        Raises:
            ApiError: 429, as `check`.
        """
        self.check(address)
        self.add_wrong(address)

    def forgive(self, address: str) -> None:
        """Count the newest guess no more, because it was right."""
        if wrong := self._wrong.get(address):
            wrong.pop()

    def add_wrong(self, address: str) -> None:
        """Count a wrong guess."""
        now = time.monotonic()
        recent = [when for when in self._wrong.pop(address, ()) if now - when < self._seconds]
        self._wrong[address] = [*recent, now]
        while len(self._wrong) > self._addresses:
            self._wrong.popitem(last=False)


class RateLimit:
    """How often something may happen within a minute, by key, for a bounded number of keys."""

    def __init__(self, most: int, counters: Counters, counter: str, *, seconds: float = 60, keys: int = 10_000) -> None:
        self._most = most
        self._seconds = seconds
        self._keys = keys
        self._counters = counters
        self._counter = counter
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._times)

    def wait(self, key: str) -> float:
        """Seconds until it may happen once more; 0 if it may happen now."""
        times = self._times.get(key)
        now = time.monotonic()
        while times and now - times[0] >= self._seconds:
            times.popleft()
        if times is None or len(times) < self._most:
            return 0.0
        self._counters.add(self._counter)
        return self._seconds - (now - times[0])

    def add(self, key: str) -> None:
        """Count that it happens now."""
        self._times.setdefault(key, deque()).append(time.monotonic())
        self._times.move_to_end(key)
        while len(self._times) > self._keys:
            self._times.popitem(last=False)
