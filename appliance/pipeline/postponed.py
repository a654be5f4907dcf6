"""Students whose events are postponed, because a step failed that concerns them alone; they are retried later."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from appliance.counters import Counters
from appliance.errors import place_of
from appliance.health import Health
from appliance.pipeline.event_queue import EventQueue
from appliance.pipeline.transaction import StudentTransaction
from appliance.states import ShortageError, StudentStates, is_shortage
from appliance.tasks import BackOff

_MOST_SHORTAGES = 6
"""After this many attempts a shortage of the computer's counts as the reducer's own failure."""


class _Postponement:
    """Why and until when one student is postponed.

    Attributes:
        transaction: archived and not stored yet; None where the events are still queued.
        until: time of the next attempt, by the event loop's clock.
        shortages: how often the computer was short of memory or files.
    """

    __slots__ = ("back_off", "shortages", "transaction", "until")

    def __init__(self) -> None:
        self.back_off = BackOff(first=0.2, most=30.0)
        self.transaction: StudentTransaction | None = None
        self.until = 0.0
        self.shortages = 0


class PostponedStudents:
    """The students who are postponed, each with back-off.

    Attributes:
        failures: number of calls of `postpone`; the commit sets it to 0 when it begins.
    """

    def __init__(self, queue: EventQueue, counters: Counters, health: Health) -> None:
        """Args:
        queue: the queue, which does not serve them meanwhile.
        counters: counts postponements.
        health: where a postponed student is a finding.
        """
        self.failures = 0
        self._queue = queue
        self._counters = counters
        self._health = health
        self._students: dict[StudentStates, _Postponement] = {}

    def postpone(
        self, student: StudentStates, error: BaseException, transaction: StudentTransaction | None = None
    ) -> None:
        """Postpone a student after an error.

        Args:
            student: the student.
            error: the reason.
            transaction: see `_Postponement`.
        """
        postponement = self._postponement(student, transaction)
        wait = postponement.back_off.next()
        loop = asyncio.get_running_loop()
        postponement.until = loop.time() + wait
        if isinstance(error, ShortageError) or is_shortage(error):
            postponement.shortages += 1
        self.failures += 1
        loop.call_later(wait, self._queue.request_commit)
        self._counters.add("students_held")
        place = error.place if isinstance(error, ShortageError) else place_of(error)
        self._health.report("student.waiting", student.id, place=place)

    def keep(self, student: StudentStates, transaction: StudentTransaction) -> None:
        """Postpone a student with an archived transaction until the next commit, without a report."""
        self._postponement(student, transaction)

    def due(self, *, everybody: bool) -> list[StudentTransaction]:
        """Resume the students whose time has come.

        Args:
            everybody: whether the time has come for everybody, because the appliance is closing.

        Returns:
            The transactions that are archived and not stored.
        """
        now = asyncio.get_running_loop().time()
        transactions = []
        for student, postponement in list(self._students.items()):
            if postponement.until > now and not everybody:
                continue
            if postponement.transaction is not None:
                transactions.append(postponement.transaction)
            else:
                self._queue.scheduler.resume(student)
                if not self._queue.scheduler.has_events(student):
                    self._forget(student)
        return transactions

    def succeeded(self, student: StudentStates) -> None:
        """Note that a student's events were committed."""
        postponement = self._students.get(student)
        # A student who was postponed in this same commit, after some events were taken, stays so.
        if postponement is not None and postponement.until <= asyncio.get_running_loop().time():
            self._queue.scheduler.resume(student)
            self._forget(student)

    def bears_shortages(self, student: StudentStates) -> bool:
        """Whether a shortage postpones the student; after many of them it counts as the reducer's failure."""
        postponement = self._students.get(student)
        return postponement is None or postponement.shortages < _MOST_SHORTAGES

    def transaction(self, student: StudentStates) -> StudentTransaction | None:
        """A student's transaction that is archived and not stored, if there is one."""
        postponement = self._students.get(student)
        return postponement.transaction if postponement else None

    def transactions(self) -> list[StudentTransaction]:
        """All transactions that are archived and not stored."""
        return [one.transaction for one in self._students.values() if one.transaction is not None]

    def has_any(self, students: Iterable[StudentStates]) -> bool:
        """Whether one of these students is postponed."""
        return any(student in self._students for student in students)

    def next_attempt(self) -> float:
        """Seconds until the next attempt for any student; 0 where none is postponed."""
        now = asyncio.get_running_loop().time()
        return max(0.0, min((one.until for one in self._students.values()), default=now) - now)

    def _postponement(self, student: StudentStates, transaction: StudentTransaction | None) -> _Postponement:
        postponement = self._students.setdefault(student, _Postponement())
        postponement.transaction = transaction
        self._queue.scheduler.postpone(student)
        return postponement

    def _forget(self, student: StudentStates) -> None:
        del self._students[student]
        self._health.clear("student.waiting", student.id)
