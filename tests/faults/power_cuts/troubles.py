"""Troubles: operations of a disk that fail on demand, and the one at which the power is cut or the process killed."""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass

KINDS = ("write", "truncate", "fsync", "fsyncdir", "create", "rename", "unlink", "mkdir", "rmdir", "chmod")
"""The operations that change something; they alone are counted."""


@dataclass
class Trouble:
    """What happens at certain operations.

    Attributes:
        kinds: the kinds of operations that are counted for it.
        first: the number of the first one at which it happens, from 1.
        times: at how many in a row.
        errno: the error; 0 for none.
        seconds: how long the operation takes.
        end: ``before`` or ``after``: from then on no operation succeeds, and this one has no effect or has it.
    """

    kinds: tuple[str, ...]
    first: int
    times: int = 1
    errno: int = 0
    seconds: float = 0.0
    end: str = ""
    seen: int = 0

    def now(self, kind: str) -> bool:
        """Count an operation; returns whether it happens at this one."""
        if kind not in self.kinds:
            return False
        self.seen += 1
        return self.first <= self.seen < self.first + self.times


class EndedError(Exception):
    """The process has no power any more."""


class Troubles:
    """The troubles of one process with its disk.

    Attributes:
        ended: whether it has no power any more.
        counts: how many operations of each kind it did.
    """

    def __init__(self) -> None:
        self.ended = False
        self.counts: Counter[str] = Counter()
        self._all: list[Trouble] = []

    def add(self, trouble: Trouble) -> None:
        """One more, counted from now on."""
        self._all.append(trouble)

    def at(self, kind: str) -> tuple[int, float, bool]:
        """Count an operation.

        Returns:
            Its error or 0, how long it takes, and whether the power is cut when it is done.

        Raises:
            EndedError: there is no power, or it is cut before this operation has an effect.
        """
        if self.ended:
            raise EndedError
        self.counts[kind] += 1
        number, seconds, after = 0, 0.0, False
        for trouble in self._all:
            if not trouble.now(kind):
                continue
            if trouble.end:
                self.ended = True
                if trouble.end == "before":
                    raise EndedError
                after = True
            number = number or trouble.errno
            seconds = max(seconds, trouble.seconds)
        return number, seconds, after


FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors after which a part of a write may have been taken."""
