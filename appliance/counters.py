"""Counters: how often each limit was hit and each thing went wrong, by name. One set per running appliance."""

from __future__ import annotations


class Counters:
    """Named whole numbers that only rise; a name may have a label after it: ``reducer_failures{writing}``."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, name: str, number: int = 1) -> int:
        """Raise a counter, made on first use; returns its new value."""
        count = self._counts.get(name, 0) + number
        self._counts[name] = count
        return count

    def __getitem__(self, name: str) -> int:
        return self._counts.get(name, 0)

    def snapshot(self) -> dict[str, int]:
        """All counters that were ever raised, sorted by name."""
        return dict(sorted(self._counts.items()))
