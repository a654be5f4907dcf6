"""How often students may try codes and secrets, and how fast they join.

A class sits behind one address, with a prankster among them, so an address alone is no reason to refuse a right code.
Wrong codes are counted for the page that sent them, for its address and for everybody; they change what a wrong code is
answered. Only when very many were tried in all do codes wait in line, so that the 7 million codes cannot be tried out.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.health import Health
from appliance.text import counted
from appliance.web.errors import ApiError
from appliance.web.security import GuessLimit

WAIT_SECONDS = 8.0
"""The longest wait in a line; a page gives up after 10 seconds."""
BURST = 300
"""So many joins of a class, or from an address, may come at once."""
_SECONDS_BETWEEN_CODES = 1 / 20
_HOUR = 3600.0


class Line:
    """A line in which requests wait for their turn, by key, in the order in which they came.

    A request that is refused can come again at once, and would be faster than those that keep to a time; one that waits
    cannot. So of many requests of a script and a few of students, the students' have their turn.
    """

    def __init__(self, a_minute: int, counters: Counters, counter: str, *, keys: int = 10_000) -> None:
        """Args:
        a_minute: turns.
        counters: counts requests that would wait too long.
        counter: its name.
        keys: how many are remembered.
        """
        self._seconds = 60 / a_minute
        self._burst = min(a_minute, BURST)
        self._keys = keys
        self._counters = counters
        self._counter = counter
        self._turns: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._turns)

    def wait(self, key: str) -> float:
        """Seconds until a request that comes now would have its turn."""
        now = time.monotonic()
        return max(0.0, self._next(key, now) - now)

    def take(self, key: str) -> float:
        """Take a turn; returns the seconds until then.

        Raises:
            ApiError: 429; the wait is too long.
        """
        now = time.monotonic()
        turn = self._next(key, now)
        wait = turn - now
        if wait > WAIT_SECONDS:
            self._counters.add(self._counter)
            raise too_many(wait - WAIT_SECONDS)
        self._turns[key] = turn + self._seconds
        self._turns.move_to_end(key)
        while len(self._turns) > self._keys:
            self._turns.popitem(last=False)
        return max(0.0, wait)

    def _next(self, key: str, now: float) -> float:
        """When the next turn is; a turn in the past is at once."""
        # Turns that nobody took are kept, up to the burst.
        return max(self._turns.get(key, 0.0), now - (self._burst - 1) * self._seconds)


def too_many(wait: float) -> ApiError:
    """The answer to a join that must wait before it comes again."""
    seconds = max(1, round(wait))
    return ApiError(
        429,
        "too_many_joins",
        f"Many students are joining right now. Wait {counted(seconds, 'second')}, then try again.",
        {"Retry-After": str(seconds)},
    )


class CodeTries:
    """Wrong join codes."""

    def __init__(self, limits: LimitSettings, counters: Counters, health: Health) -> None:
        self._most = limits.all_join_tries
        self._counters = counters
        self._health = health
        self._device = GuessLimit(limits.join_tries, counters, "limit_join_tries")
        self._address = GuessLimit(limits.address_join_tries, counters, "limit_address_join_tries")
        self._since = time.monotonic()
        self._wrong = 0
        self._turn = 0.0

    async def wait(self) -> None:
        """Wait for the turn of one more code, after very many wrong ones from everywhere.

        Raises:
            ApiError: 429; too many wait.
        """
        now = time.monotonic()
        if now - self._since >= _HOUR:
            self._since, self._wrong = now, 0
        if self._wrong < self._most:
            return
        wait = max(0.0, self._turn - now)
        if wait > WAIT_SECONDS:
            self._counters.add("limit_all_join_tries")
            raise too_many(1)
        self._turn = max(self._turn, now) + _SECONDS_BETWEEN_CODES
        await asyncio.sleep(wait)

    def add_wrong(self, address: str, device: str) -> None:
        """Count a wrong code, before it is answered.

        Raises:
            ApiError: 429; the page or its address has sent too many, and gets a time to wait.
        """
        self._wrong += 1
        if self._wrong == self._most:
            self._health.report("join.guessing", seconds=_HOUR)
        self._device.begin(f"{address} {device}")
        self._address.begin(address)


class SecretTries:
    """Wrong PINs and picture passwords. A try counts when it begins: many may begin together."""

    def __init__(self, limits: LimitSettings, counters: Counters) -> None:
        self._student = GuessLimit(limits.secret_tries, counters, "limit_secret_tries", seconds=_HOUR)
        self._address = GuessLimit(limits.address_secret_tries, counters, "limit_address_secret_tries")

    def begin(self, student_id: str, address: str) -> None:
        """Count a try.

        Raises:
            ApiError: 429; there were too many.
        """
        self._student.check(student_id)
        self._address.begin(address)
        self._student.begin(student_id)

    def was_right(self, student_id: str, address: str) -> None:
        """Count a try no more: it was right."""
        self._student.forgive(student_id)
        self._address.forgive(address)
