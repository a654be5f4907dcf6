"""Budgets: how many bytes and how much of the program's time one student may take, over all connections together.

A budget is a bucket that fills at a rate up to a burst. What is over is not refused: the student's connections are not
read until there is credit again, so that a loud student waits for itself and for nobody else. A frame is read whenever
there is any credit, so one that is larger than what is left is taken too and is paid for afterwards.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.health import Health
from appliance.states import Stream

LASTS_SECONDS = 5.0
"""An account that is overdrawn again and again for so long is a finding."""

_FINDING_SECONDS = 30.0
# One that was not overdrawn for so long is not loud any more.
_QUIET_SECONDS = 10.0
# Processor time of this thread is the true measure, as it stands still while others run, but costs more to ask for than
# a small frame is worth. For one of those the time that passes is taken, and not more of it than it can have needed.
_SMALL = 1024
_SMALL_SECONDS = 0.001


FRAME_SECONDS = 20e-6
"""What a frame costs before and after it is worked on: it is received, its parts are put together, it is answered."""


class Rates(msgspec.Struct, frozen=True):
    """What an account is given.

    Attributes:
        bytes_per_second: bytes that it gets each second.
        burst_bytes: bytes that it may save up.
        share: of the program's time; 0.1 is a tenth.
        burst_seconds: time that it may save up.
        bytes_counter: what is counted when its bytes run out.
        work_counter: what is counted when its time runs out.
    """

    bytes_per_second: float
    burst_bytes: float
    share: float
    burst_seconds: float
    bytes_counter: str
    work_counter: str

    @classmethod
    def of_students(cls, limits: LimitSettings) -> Rates:
        """Of each student."""
        return cls(
            limits.student_bytes_per_second,
            limits.student_burst_bytes,
            limits.student_work / 100,
            limits.student_work_burst_ms / 1000,
            "limit_student_bytes_per_second",
            "limit_student_work",
        )

    @classmethod
    def of_strangers(cls, limits: LimitSettings) -> Rates:
        """Of each address, for those who have not said hello."""
        return cls(
            limits.stranger_bytes_per_second,
            limits.stranger_burst_bytes,
            limits.student_work / 100,
            limits.student_work_burst_ms / 1000,
            "limit_stranger_bytes_per_second",
            "limit_student_work",
        )


class Account:
    """What is left of one student's budget.

    Attributes:
        owing: whether more was taken than there was, at the last look.
        waiting: bytes that were taken and are not durable yet.
        users: connections that use it.
        loud_since: since when it has been overdrawn again and again, by the clock of its `Budgets`; None where not.
        loud_at: when it was overdrawn last.
    """

    __slots__ = (
        "_at",
        "_clock",
        "_counters",
        "_rates",
        "_work_clock",
        "bytes",
        "loud_at",
        "loud_since",
        "owing",
        "seconds",
        "users",
        "waiting",
    )

    def __init__(
        self, rates: Rates, counters: Counters, clock: Callable[[], float], work_clock: Callable[[], float]
    ) -> None:
        self._rates = rates
        self._counters = counters
        self._clock = clock
        self._work_clock = work_clock
        self._at = clock()
        self.bytes = float(rates.burst_bytes)
        self.seconds = float(rates.burst_seconds)
        self.owing = False
        self.waiting = 0
        self.users = 0
        self.loud_since: float | None = None
        self.loud_at = 0.0

    def begin(self, size: int) -> float:
        """Before a frame of so many bytes is worked on; the answer is for `end`."""
        return self._work_clock() if size > _SMALL else self._clock()

    def end(self, size: int, began: float) -> float:
        """Pay for a frame; returns the seconds that it took, with what every frame takes."""
        now = self._clock()
        if size > _SMALL:
            seconds = self._work_clock() - began
        else:
            seconds = now - began
            if seconds > _SMALL_SECONDS:
                seconds = _SMALL_SECONDS
        seconds += FRAME_SECONDS
        self._pay(now, size, seconds)
        return seconds

    def pay(self, size: int, seconds: float = 0.0) -> None:
        """Take bytes and time, there or not."""
        self._pay(self._clock(), size, seconds)

    def _pay(self, now: float, size: int, seconds: float) -> None:
        self._fill(now)
        self.bytes -= size
        self.seconds -= seconds
        if self.bytes < 0 or self.seconds < 0:
            self._overdraw()

    def wait(self) -> float:
        """Seconds until there is credit; 0 where there is some."""
        if not self.owing:
            return 0.0
        self._fill(self._clock())
        rates = self._rates
        wait = max(-self.bytes / rates.bytes_per_second, -self.seconds / rates.share, 0.0)
        self.owing = wait > 0
        return wait

    def idle(self) -> bool:
        """Whether nobody uses it and it is full, so that a new one would be the same."""
        self._fill(self._clock())
        full = self.bytes >= self._rates.burst_bytes and self.seconds >= self._rates.burst_seconds
        return full and not self.users and not self.waiting

    def loud(self) -> float | None:
        """For how many seconds it has been overdrawn again and again; None where it is not."""
        if self.loud_since is None:
            return None
        now = self._clock()
        if self.wait() > 0:
            self.loud_at = now
        elif now - self.loud_at > _QUIET_SECONDS:
            self.loud_since = None
            return None
        return self.loud_at - self.loud_since

    def _fill(self, now: float) -> None:
        passed = now - self._at
        if passed > 0:
            # Called for every frame: this costs half of what min() does.
            rates = self._rates
            self._at = now
            credit = self.bytes + passed * rates.bytes_per_second
            self.bytes = credit if credit < rates.burst_bytes else rates.burst_bytes
            credit = self.seconds + passed * rates.share
            self.seconds = credit if credit < rates.burst_seconds else rates.burst_seconds

    def _overdraw(self) -> None:
        if not self.owing:
            self._counters.add(self._rates.bytes_counter if self.bytes < 0 else self._rates.work_counter)
        self.owing = True
        self.loud_at = self._at
        if self.loud_since is None:
            self.loud_since = self._at


class Budgets:
    """The accounts of all students, or of all addresses."""

    def __init__(
        self,
        rates: Rates,
        counters: Counters,
        *,
        clock: Callable[[], float] = time.monotonic,
        work_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """Args:
        rates: what each account is given.
        counters: where an account that runs out is counted.
        clock: seconds that pass.
        work_clock: processor time of this thread in seconds.
        """
        self._rates = rates
        self._counters = counters
        self._clock = clock
        self._work_clock = work_clock
        self._accounts: dict[str, Account] = {}
        self._owed: dict[Stream, tuple[Account, deque[tuple[int, int]]]] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def of(self, key: str) -> Account:
        """The account of a student's id, or of an address. It outlives connections, which else would refill it."""
        account = self._accounts.get(key)
        if account is None:
            account = Account(self._rates, self._counters, self._clock, self._work_clock)
            self._accounts[key] = account
        return account

    def worked(self, key: str, seconds: float) -> None:
        """Let an account pay for work that was done apart from its frames; one that there is not has nothing to pay."""
        account = self._accounts.get(key)
        if account is not None:
            account.pay(0, seconds)

    def took(self, account: Account, stream: Stream, size: int) -> None:
        """Note that so many bytes were taken of a stream, and wait up to its last number to become durable."""
        account.waiting += size
        owed = self._owed.get(stream)
        if owed is None:
            owed = self._owed[stream] = (account, deque())
        owed[1].append((stream.last, size))

    def durable(self, streams: Iterable[Stream]) -> None:
        """Give back what is durable by now."""
        for stream in streams:
            owed = self._owed.get(stream)
            if owed is None:
                continue
            account, frames = owed
            durable = stream.durable_to
            while frames and frames[0][0] <= durable:
                account.waiting -= frames.popleft()[1]
            if not frames:
                del self._owed[stream]

    def forget(self, stream: Stream) -> None:
        """Nothing of a stream waits any more, whatever became of it."""
        owed = self._owed.pop(stream, None)
        if owed is not None:
            owed[0].waiting -= sum(size for _, size in owed[1])

    def tidy(self, health: Health | None = None) -> None:
        """Drop the accounts that are full and unused, and report students who have been loud for long.

        Args:
            health: where they are reported; None where accounts are not students'.
        """
        for stream in [stream for stream in self._owed if stream.last <= stream.durable_to]:
            # The store lost its memory and the stream begins earlier again: those numbers come anew.
            self.forget(stream)
        for key, account in list(self._accounts.items()):
            if health is not None and account.loud_since is not None:
                seconds = account.loud()
                if seconds is None:
                    health.clear("student.loud", key)
                elif seconds >= LASTS_SECONDS:
                    health.report("student.loud", key, seconds=_FINDING_SECONDS)
            if account.idle():
                del self._accounts[key]
