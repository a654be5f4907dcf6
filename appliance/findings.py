"""Findings: what `check` and `verify` tell, a line each. A backend brings its own (`KVS.examine`, `PubSub.examine`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One line of a check.

    Attributes:
        what: what was checked, in a few words, and what was found in brackets where that is of use.
        wrong: what is wrong and what to do; None where all is well.
        serious: False for what works and should be known all the same; it does not fail the check.
    """

    what: str
    wrong: str | None = None
    serious: bool = True

    @property
    def bad(self) -> bool:
        """Whether it fails the check."""
        return self.wrong is not None and self.serious

    def __str__(self) -> str:
        if self.wrong is None:
            return f"ok  {self.what}"
        return f"{'bad' if self.serious else 'warn'} {self.what}: {self.wrong}"


async def nothing() -> AsyncGenerator[Finding, None]:
    """No findings: what a backend tells that has nothing to examine."""
    found: tuple[Finding, ...] = ()
    for finding in found:
        yield finding
