"""Supervised tasks: nothing runs unwatched.

An endless task has a name and an owner and is restarted after an exception, a return, a cancellation that this program
did not request, or a step that hangs. Until it works again there is a finding. Work that ends by itself
(`in_background`) is kept alive until it ends, and its errors are logged.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

import msgspec

from appliance.counters import Counters
from appliance.errors import ObserverError, place_of
from appliance.health import Health

log = logging.getLogger(__name__)

T = TypeVar("T")

_CANCEL_SECONDS = 0.2
SETTLED_SECONDS = 1.0
"""A restarted task counts as working after this time, if its work does not report it itself."""

in_background_now: set[asyncio.Task[Any]] = set()
"""The tasks that `in_background` started and that have not ended."""


class BackOff:
    """Exponential back-off with jitter: how long to wait before something is tried again.

    Attributes:
        tries: how many waits there were since the last success.
    """

    __slots__ = ("_first", "_most", "tries")

    def __init__(self, first: float = 0.1, most: float = 5.0) -> None:
        """Args:
        first: seconds before the second try.
        most: the longest wait in seconds.
        """
        self._first = first
        self._most = most
        self.tries = 0

    def next(self) -> float:
        """Seconds to wait now: 50 to 100 % of a step that doubles with each try."""
        step = min(self._most, self._first * 2.0 ** min(self.tries, 30))
        self.tries += 1
        return float(step * random.uniform(0.5, 1.0))

    def reset(self) -> None:
        """After a success: begin with the first wait again."""
        self.tries = 0


class TaskState(msgspec.Struct, frozen=True):
    """A supervised task as ``GET /api/v1/tasks`` lists it.

    Attributes:
        name: unique on a node: its kind, and the class that it is for if there is one of each class.
        kind: what it does.
        class_id: the class that it is for; "" if it is for none.
        owner: the part of the program that it belongs to.
        state: ``running``, or ``waiting`` for its restart.
        restarts: how often it was restarted.
        failure: type and place of the error that ended it last; "" for none.
        since: when it was last started, in seconds since the epoch.
    """

    name: str
    kind: str
    class_id: str
    owner: str
    state: Literal["running", "waiting"]
    restarts: int
    failure: str
    since: float


class Supervised:
    """An endless task. Its work gets this object, to report that it works and to bound its steps."""

    def __init__(
        self,
        kind: str,
        class_id: str,
        owner: str,
        work: Callable[[Supervised], Awaitable[None]],
        health: Health,
        counters: Counters,
        *,
        back_off: BackOff,
        reports: bool,
    ) -> None:
        self.name = _name_of(kind, class_id)
        self.kind = kind
        self.class_id = class_id
        self.owner = owner
        self._work = work
        self._health = health
        self._counters = counters
        self._back_off = back_off
        self._reports = reports
        self._waiting = False
        self._restarts = 0
        self._failure = ""
        self._since = time.time()
        self._inner: asyncio.Task[None] | None = None
        self._settled: asyncio.TimerHandle | None = None
        self.task = asyncio.get_running_loop().create_task(self._supervise(), name=f"supervise {self.name}")

    @property
    def state(self) -> TaskState:
        """Its current state."""
        state: Literal["running", "waiting"] = "waiting" if self._waiting else "running"
        return TaskState(
            self.name, self.kind, self.class_id, self.owner, state, self._restarts, self._failure, self._since
        )

    def works(self) -> None:
        """The work calls this once it succeeds: the finding ends, and the next back-off begins short."""
        self._back_off.reset()
        self._health.clear("task.down", self.name)

    @asynccontextmanager
    async def step(self, seconds: float) -> AsyncIterator[None]:
        """Bound a step of the work; a step that takes longer ends the work, which is then restarted.

        Raises:
            TimeoutError: it took longer.
        """
        async with asyncio.timeout(seconds):
            yield

    async def close(self) -> None:
        """Cancel it and wait for its end."""
        await cancelled(self.task)
        if self._inner:
            await cancelled(self._inner)
        self._forget_timer()
        self._health.clear("task.down", self.name)

    def covers(self, task: asyncio.Task[Any]) -> bool:
        """Whether a task is this one, or runs its work."""
        return task in (self.task, self._inner)

    async def _supervise(self) -> None:
        while True:
            self._since = time.time()
            # A task of its own: a cancellation that a library raises must not end the supervision.
            self._inner = asyncio.get_running_loop().create_task(self._run(), name=self.name)
            if self._restarts and not self._reports:
                self._settled = asyncio.get_running_loop().call_later(SETTLED_SECONDS, self.works)
            await asyncio.wait((self._inner,))
            self._forget_timer()
            self._failure = _failure_of(self._inner)
            self._restarts += 1
            self._counters.add(f"task_restarts{{{self.kind}}}")
            self._health.report("task.down", self.name, class_id=self.class_id, place=self._failure)
            self._waiting = True
            await asyncio.sleep(self._back_off.next())
            self._waiting = False

    async def _run(self) -> None:
        await self._work(self)

    def _forget_timer(self) -> None:
        if self._settled is not None:
            self._settled.cancel()
            self._settled = None


class Tasks:
    """The supervised tasks of one node."""

    def __init__(self, health: Health, counters: Counters) -> None:
        """Args:
        health: gets a finding while a task is down.
        counters: counts restarts by task, as ``task_restarts{NAME}``.
        """
        self._health = health
        self._counters = counters
        self._tasks: dict[str, Supervised] = {}

    def run(
        self,
        name: str,
        work: Callable[[Supervised], Awaitable[None]],
        *,
        owner: str,
        class_id: str = "",
        back_off: BackOff | None = None,
        says_so: bool = False,
    ) -> Supervised:
        """Run an endless task, and restart it with back-off whenever it ends.

        Args:
            name: unique among the running tasks of the class, or among those for no class.
            work: called with the task at each start.
            owner: the part of the program that it belongs to.
            class_id: the class that it is for, if there is such a task for each class. Metrics do not name it.
            back_off: how long to wait before a restart; None for the default.
            says_so: whether the work calls `Supervised.works` itself; otherwise it works after `SETTLED_SECONDS`.

        Raises:
            ValueError: a task of this name runs already.
        """
        unique = _name_of(name, class_id)
        if unique in self._tasks and not self._tasks[unique].task.done():
            raise ValueError(f"A task named {unique} runs already.")
        supervised = self._tasks[unique] = Supervised(
            name, class_id, owner, work, self._health, self._counters, back_off=back_off or BackOff(), reports=says_so
        )
        return supervised

    async def end(self, task: Supervised) -> None:
        """Cancel one task and wait for its end."""
        await task.close()
        if self._tasks.get(task.name) is task:
            del self._tasks[task.name]

    def states(self) -> list[TaskState]:
        """The states of all tasks, by name."""
        return [self._tasks[name].state for name in sorted(self._tasks)]

    def covers(self, task: asyncio.Task[Any]) -> bool:
        """Whether a task is supervised, or runs `in_background`."""
        return task in in_background_now or any(one.covers(task) for one in self._tasks.values())

    async def close(self) -> None:
        """Cancel all tasks and wait for their end."""
        tasks = list(self._tasks.values())
        self._tasks = {}
        await asyncio.gather(*(task.close() for task in tasks))


def in_background(work: Coroutine[Any, Any, T], name: str = "background", *, awaited: bool = False) -> asyncio.Task[T]:
    """Start work that ends by itself, and log its error; an unexpected one by type and place alone.

    Args:
        work: the work.
        name: for the log.
        awaited: whether the caller waits for the task and handles its errors; then nothing is logged.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    # The event loop has only weak references; without this one a task may be collected while it runs.
    in_background_now.add(task)
    task.add_done_callback(_retrieve if awaited else _done)
    return task


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, wait for them, ignore their exceptions.

    One cancellation may not be enough: before Python 3.12 asyncio.wait_for, which drivers of backends use, loses a
    cancellation that arrives when its awaitable has just finished.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_SECONDS)
    for task in tasks:
        if not task.cancelled():
            # Retrieved, so that asyncio does not report it as never retrieved.
            task.exception()


def _name_of(kind: str, class_id: str) -> str:
    return f"{kind} {class_id}" if class_id else kind


def _failure_of(task: asyncio.Task[None]) -> str:
    """Why a task ended: type and place of the exception, or the sentence of an error of this program."""
    if task.cancelled():
        return "it was cancelled"
    error = task.exception()
    if error is None:
        return "it returned"
    if isinstance(error, ObserverError):
        return str(error).rstrip(".")
    if isinstance(error, TimeoutError) and isinstance(error.__context__, asyncio.CancelledError):
        # The place where it hung, not where the timeout was raised.
        return place_of(error.__context__).replace("CancelledError", "TimeoutError")
    return place_of(error)


def _retrieve(task: asyncio.Task[Any]) -> None:
    in_background_now.discard(task)
    if not task.cancelled():
        # Retrieved, so that asyncio does not report it if the caller no longer waits.
        task.exception()


def _done(task: asyncio.Task[Any]) -> None:
    in_background_now.discard(task)
    error = None if task.cancelled() else task.exception()
    if isinstance(error, ObserverError):
        log.warning("%s", error)
    elif error is not None:
        log.error("%s failed: %s.", task.get_name(), place_of(error))
