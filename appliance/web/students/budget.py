"""Budgets: how many bytes and how much of the program's time one student may use, over all connections together.

A budget is a token bucket: it fills at a rate, up to a burst. Input over the budget is not refused: the student's
connections are not read until there is credit again, so a student who sends too much delays nobody else. A frame is
read whenever there is any credit, so one that is larger than the credit is accepted too and overdraws the account.
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

OVERLOAD_SECONDS = 5.0
"""An account that is overdrawn again and again for so long is a finding."""

_FINDING_SECONDS = 30.0
# An overload ends once the account was not overdrawn for so long.
_OVERLOAD_END_SECONDS = 10.0
# Processor time of this thread is the right measure, as it excludes other threads, but reading it costs more than a
# small frame. For a small frame the elapsed time is used, up to a maximum.
_SMALL_BYTES = 1024
_SMALL_SECONDS = 0.001


FRAME_SECONDS = 20e-6
"""What each frame costs besides reading its content: receiving it, joining its parts, answering it."""


class Rates(msgspec.Struct, frozen=True):
    """The credit of an account.

    Attributes:
        bytes_per_second: bytes that are added each second.
        burst_bytes: the largest credit in bytes.
        share: the share of the program's time; 0.1 is a tenth.
        burst_seconds: the largest credit in seconds.
        bytes_counter: counts how often the bytes are overdrawn.
        work_counter: counts how often the time is overdrawn.
    """

    bytes_per_second: float
    burst_bytes: float
    share: float
    burst_seconds: float
    bytes_counter: str
    work_counter: str

    @classmethod
    def of_students(cls, limits: LimitSettings) -> Rates:
        """The rates of a student."""
        return cls(
            limits.student_bytes_per_second,
            limits.student_burst_bytes,
            limits.student_work / 100,
            limits.student_work_burst_ms / 1000,
            "limit_student_bytes_per_second",
            "limit_student_work",
        )

    @classmethod
    def of_addresses(cls, limits: LimitSettings) -> Rates:
        """The rates of an address, for its unauthenticated connections."""
        return cls(
            limits.stranger_bytes_per_second,
            limits.stranger_burst_bytes,
            limits.student_work / 100,
            limits.student_work_burst_ms / 1000,
            "limit_stranger_bytes_per_second",
            "limit_student_work",
        )


class Account:
    """The credit of one student, or of one address.

    Attributes:
        bytes: credit in bytes; below 0 it is overdrawn.
        seconds: credit in seconds of work; below 0 it is overdrawn.
        rates: how the credit grows.
        work_clock: processor time of this thread in seconds.
        overdrawn: whether it was overdrawn, at the last payment or call of `wait`.
        waiting: bytes that were accepted and are not durable yet.
        users: connections that use it.
        overload_since: since when it has been overdrawn again and again, by the clock of its `Budgets`; None if it
            is not.
        overdrawn_at: when it was overdrawn last.
    """

    __slots__ = (
        "_at",
        "_clock",
        "_counters",
        "bytes",
        "overdrawn",
        "overdrawn_at",
        "overload_since",
        "rates",
        "seconds",
        "users",
        "waiting",
        "work_clock",
    )

    def __init__(
        self, rates: Rates, counters: Counters, clock: Callable[[], float], work_clock: Callable[[], float]
    ) -> None:
        self.rates = rates
        self._counters = counters
        self._clock = clock
        self.work_clock = work_clock
        self._at = clock()
        self.bytes = float(rates.burst_bytes)
        self.seconds = float(rates.burst_seconds)
        self.overdrawn = False
        self.waiting = 0
        self.users = 0
        self.overload_since: float | None = None
        self.overdrawn_at = 0.0

    def begin(self, size: int) -> float:
        """Call before a frame of `size` bytes is processed; returns the start time for `end`."""
        return self.work_clock() if size > _SMALL_BYTES else self._clock()

    def end(self, size: int, began: float) -> float:
        """Pay for a frame; returns the seconds that it took, with `FRAME_SECONDS`."""
        now = self._clock()
        if size > _SMALL_BYTES:
            seconds = self.work_clock() - began
        else:
            seconds = now - began
            if seconds > _SMALL_SECONDS:
                seconds = _SMALL_SECONDS
        seconds += FRAME_SECONDS
        self._pay(now, size, seconds)
        return seconds

    def pay(self, size: int, seconds: float = 0.0) -> None:
        """Subtract bytes and seconds, whether there is credit or not."""
        self._pay(self._clock(), size, seconds)

    def _pay(self, now: float, size: int, seconds: float) -> None:
        self._fill(now)
        self.bytes -= size
        self.seconds -= seconds
        if self.bytes < 0 or self.seconds < 0:
            self._overdraw()

    def wait(self) -> float:
        """Seconds until there is credit; 0 if there is some."""
        if not self.overdrawn:
            return 0.0
        self._fill(self._clock())
        rates = self.rates
        wait = max(-self.bytes / rates.bytes_per_second, -self.seconds / rates.share, 0.0)
        self.overdrawn = wait > 0
        return wait

    def idle(self) -> bool:
        """Whether nobody uses it and its credit is full, so that a new account would be equal."""
        self._fill(self._clock())
        full = self.bytes >= self.rates.burst_bytes and self.seconds >= self.rates.burst_seconds
        return full and not self.users and not self.waiting

    def overload_seconds(self) -> float | None:
        """For how many seconds it has been overdrawn again and again; None if it is not."""
        if self.overload_since is None:
            return None
        now = self._clock()
        if self.wait() > 0:
            self.overdrawn_at = now
        elif now - self.overdrawn_at > _OVERLOAD_END_SECONDS:
            self.overload_since = None
            return None
        return self.overdrawn_at - self.overload_since

    def _fill(self, now: float) -> None:
        passed = now - self._at
        if passed > 0:
            # Called for every frame: this costs half as much as min().
            rates = self.rates
            self._at = now
            credit = self.bytes + passed * rates.bytes_per_second
            self.bytes = credit if credit < rates.burst_bytes else rates.burst_bytes
            credit = self.seconds + passed * rates.share
            self.seconds = credit if credit < rates.burst_seconds else rates.burst_seconds

    def _overdraw(self) -> None:
        if not self.overdrawn:
            self._counters.add(self.rates.bytes_counter if self.bytes < 0 else self.rates.work_counter)
        self.overdrawn = True
        self.overdrawn_at = self._at
        if self.overload_since is None:
            self.overload_since = self._at


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
        rates: the credit of each account.
        counters: counts overdrawn accounts.
        clock: seconds that pass.
        work_clock: processor time of this thread in seconds.
        """
        self._rates = rates
        self._counters = counters
        self._clock = clock
        self._work_clock = work_clock
        self._accounts: dict[str, Account] = {}
        self._not_durable: dict[Stream, tuple[Account, deque[tuple[int, int]]]] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def of(self, key: str) -> Account:
        """The account of a student's id, or of an address. It outlives connections, so reconnecting gives no credit."""
        account = self._accounts.get(key)
        if account is None:
            account = Account(self._rates, self._counters, self._clock, self._work_clock)
            self._accounts[key] = account
        return account

    def worked(self, key: str, seconds: float) -> None:
        """Let an account pay for work apart from its frames; does nothing if there is no such account."""
        account = self._accounts.get(key)
        if account is not None:
            account.pay(0, seconds)

    def accepted(self, account: Account, stream: Stream, size: int) -> None:
        """Count bytes of a stream as waiting until its last number so far is durable."""
        account.waiting += size
        entry = self._not_durable.get(stream)
        if entry is None:
            entry = self._not_durable[stream] = (account, deque())
        entry[1].append((stream.last, size))

    def durable(self, streams: Iterable[Stream]) -> None:
        """After a commit: count what is durable as waiting no longer."""
        for stream in streams:
            entry = self._not_durable.get(stream)
            if entry is None:
                continue
            account, frames = entry
            durable = stream.durable_to
            while frames and frames[0][0] <= durable:
                account.waiting -= frames.popleft()[1]
            if not frames:
                del self._not_durable[stream]

    def forget(self, stream: Stream) -> None:
        """Count nothing of a stream as waiting any longer."""
        entry = self._not_durable.pop(stream, None)
        if entry is not None:
            entry[0].waiting -= sum(size for _, size in entry[1])

    def tidy(self, health: Health | None = None) -> None:
        """Drop accounts that are full and unused, and report students who are in overload for long.

        Args:
            health: gets the findings; None if the accounts are not students'.
        """
        for stream in [stream for stream in self._not_durable if stream.last <= stream.durable_to]:
            # The store lost its data and the stream restarts at an earlier number: its page sends those events again.
            self.forget(stream)
        for key, account in list(self._accounts.items()):
            if health is not None and account.overload_since is not None:
                seconds = account.overload_seconds()
                if seconds is None:
                    health.clear("student.loud", key)
                elif seconds >= OVERLOAD_SECONDS:
                    health.report("student.loud", key, seconds=_FINDING_SECONDS)
            if account.idle():
                del self._accounts[key]
