"""Failures of reducers: each is counted and reported as a finding, without anything that a student wrote."""

from __future__ import annotations

import errno

from appliance.counters import Counters
from appliance.errors import place_of
from appliance.health import Health

# Errors of the operating system that say nothing about the reducer: too many open files, no memory.
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class ShortageError(Exception):
    """A reducer failed because the computer was short of memory or files; the same events may work later.

    Attributes:
        place: type of the error and where it was raised.
    """

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place


class ReducerFailures:
    """Counts failures of reducers.

    Attributes:
        last: by reducer name, type and place of the last error.
    """

    def __init__(self, counters: Counters, health: Health | None) -> None:
        """Args:
        counters: counts them.
        health: where they are findings; None for states that are built aside.
        """
        self.last: dict[str, str] = {}
        self._counters = counters
        self._health = health

    def failed(self, name: str, error: BaseException) -> None:
        """Count a call of a reducer's function that failed."""
        count = self._counters.add(f"reducer_failures{{{name}}}")
        self._report("reducer.failing", name, error, count)

    def state_failed(self, name: str, error: BaseException) -> None:
        """Count a state that cannot be stored or read."""
        count = self._counters.add(f"reducer_states_failed{{{name}}}")
        self._report("reducer.states", name, error, count)

    def slow(self, name: str, seconds: float) -> None:
        """Count a call that took too long."""
        self._counters.add(f"reducer_slow{{{name}}}")
        if self._health:
            self._health.report("reducer.slow", name, took=round(seconds, 1))

    def add_all(self, other: ReducerFailures) -> None:
        """Report the failures that were counted while states were built aside."""
        for name, place in other.last.items():
            self.last[name] = place
            counter = f"reducer_failures{{{name}}}"
            count = self._counters.add(counter, max(1, other._counters[counter]))
            if self._health:
                self._health.report("reducer.failing", name, count=count, place=place)

    def _report(self, code: str, name: str, error: BaseException, count: int) -> None:
        self.last[name] = place_of(error)
        if self._health and _is_power_of_two(count):
            # A reducer that fails with every event need not be reported with every event.
            self._health.report(code, name, count=count, place=self.last[name])


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that the computer is short of memory or files now."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _SHORTAGES)


def _is_power_of_two(count: int) -> bool:
    return count & (count - 1) == 0
