"""Tasks: nothing runs unwatched.

An endless task has a name and an owner and is started again after anything: an exception, a return, a cancellation that
nobody of ours asked for, a step that hangs. Meanwhile it is a finding. Work that ends by itself (`in_background`) is
kept alive until it is done, and its errors are logged.
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
"""A task that has run for so long after it was started again, and did not say so itself, works."""

_running: set[asyncio.Task[Any]] = set()


class BackOff:
    """How long to wait before something is tried again: longer each time, at random, so that many do not come at once.

    Attributes:
        tries: how often it was waited for since the last success.
    """

    __slots__ = ("_first", "_most", "tries")

    def __init__(self, first: float = 0.1, most: float = 5.0) -> None:
        """Args:
        first: seconds before the second try.
        most: seconds at the most.
        """
        self._first = first
        self._most = most
        self.tries = 0

    def next(self) -> float:
        """Seconds to wait now: between half of the step and the whole of it, which doubles from try to try."""
        step = min(self._most, self._first * 2.0 ** min(self.tries, 30))
        self.tries += 1
        return float(step * random.uniform(0.5, 1.0))

    def reset(self) -> None:
        """It worked."""
        self.tries = 0


class TaskState(msgspec.Struct, frozen=True):
    """A supervised task as ``GET /api/v1/tasks`` lists it.

    Attributes:
        name: which, unique on a node.
        owner: the part of the program that it belongs to.
        state: ``running``; ``waiting`` to be started again.
        restarts: how often it was started again.
        failure: kind and place of what ended it last, "" for nothing.
        since: when it was last started, in seconds since the epoch.
    """

    name: str
    owner: str
    state: Literal["running", "waiting"]
    restarts: int
    failure: str
    since: float


class Supervised:
    """An endless task. Its work gets this object, to say when it works and to bound its steps."""

    def __init__(
        self,
        name: str,
        owner: str,
        work: Callable[[Supervised], Awaitable[None]],
        health: Health,
        counters: Counters,
        *,
        back_off: BackOff,
        says_so: bool,
    ) -> None:
        self.name = name
        self.owner = owner
        self._work = work
        self._health = health
        self._counters = counters
        self._back_off = back_off
        self._says_so = says_so
        self._waiting = False
        self._restarts = 0
        self._failure = ""
        self._since = time.time()
        self._inner: asyncio.Task[None] | None = None
        self._settled: asyncio.TimerHandle | None = None
        self.task = asyncio.get_running_loop().create_task(self._supervise(), name=f"supervise {name}")

    @property
    def state(self) -> TaskState:
        """How it is."""
        state: Literal["running", "waiting"] = "waiting" if self._waiting else "running"
        return TaskState(self.name, self.owner, state, self._restarts, self._failure, self._since)

    def works(self) -> None:
        """Called by the work once it does what it is for: the finding goes, and the next back-off begins short."""
        self._back_off.reset()
        self._health.clear("task.down", self.name)

    @asynccontextmanager
    async def step(self, seconds: float) -> AsyncIterator[None]:
        """A step of the work that must not take longer; one that does ends the work, which is started again.

        Raises:
            TimeoutError: it took longer.
        """
        async with asyncio.timeout(seconds):
            yield

    async def close(self) -> None:
        """End it."""
        await cancelled(self.task)
        if self._inner:
            await cancelled(self._inner)
        self._forget_timer()
        self._health.clear("task.down", self.name)

    async def _supervise(self) -> None:
        while True:
            self._since = time.time()
            # A task of its own: a cancellation that a library lets out of a read must not end its supervision.
            self._inner = asyncio.get_running_loop().create_task(self._run(), name=self.name)
            if self._restarts and not self._says_so:
                self._settled = asyncio.get_running_loop().call_later(SETTLED_SECONDS, self.works)
            await asyncio.wait((self._inner,))
            self._forget_timer()
            self._failure = _failure_of(self._inner)
            self._restarts += 1
            self._counters.add(f"task_restarts{{{self.name}}}")
            self._health.report("task.down", self.name, place=self._failure)
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
        health: where a task that is down is a finding.
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
        back_off: BackOff | None = None,
        says_so: bool = False,
    ) -> Supervised:
        """Run an endless task, and start it again with back-off whenever it ends.

        Args:
            name: which; no other that runs has it.
            work: called with the task at each start.
            owner: the part of the program that it belongs to.
            back_off: how long to wait before it is started again; None for the usual.
            says_so: whether the work calls `Supervised.works` itself. Else it works once it has run for a while.
        """
        if name in self._tasks and not self._tasks[name].task.done():
            raise ValueError(f"A task named {name} runs already.")
        supervised = self._tasks[name] = Supervised(
            name, owner, work, self._health, self._counters, back_off=back_off or BackOff(), says_so=says_so
        )
        return supervised

    async def end(self, task: Supervised) -> None:
        """End one task."""
        await task.close()
        if self._tasks.get(task.name) is task:
            del self._tasks[task.name]

    def states(self) -> list[TaskState]:
        """How all are, by name."""
        return [self._tasks[name].state for name in sorted(self._tasks)]

    def covers(self, task: asyncio.Task[Any]) -> bool:
        """Whether a task is supervised, or is work in the background."""
        return task in _running or any(task in (one.task, one._inner) for one in self._tasks.values())

    async def close(self) -> None:
        """End all of them."""
        tasks = list(self._tasks.values())
        self._tasks = {}
        await asyncio.gather(*(task.close() for task in tasks))


def in_background(work: Coroutine[Any, Any, T], name: str = "background", *, awaited: bool = False) -> asyncio.Task[T]:
    """Start work that ends by itself; an error in it is logged, one that is not foreseen by kind and place.

    Args:
        work: what is done.
        name: for the log.
        awaited: whether somebody waits for it and deals with its errors; then nothing is logged here.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    # The loop itself holds tasks weakly; without this a task may vanish in the middle.
    _running.add(task)
    task.add_done_callback(_retrieve if awaited else _done)
    return task


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, wait for them, ignore their exceptions.

    Once may not be enough: before Python 3.12 asyncio.wait_for, which drivers of backends use, loses a cancellation
    that comes at the moment at which what it waits for is done.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_SECONDS)
    for task in tasks:
        if not task.cancelled():
            # Retrieved, so that it is not reported as never retrieved.
            task.exception()


def _failure_of(task: asyncio.Task[None]) -> str:
    """Kind and place of what ended a task; the sentence of an error of ours."""
    if task.cancelled():
        return "it was cancelled"
    error = task.exception()
    if error is None:
        return "it returned"
    if isinstance(error, ObserverError):
        return str(error).rstrip(".")
    if isinstance(error, TimeoutError) and isinstance(error.__context__, asyncio.CancelledError):
        # Where it hung, and not where that was noticed.
        return place_of(error.__context__).replace("CancelledError", "TimeoutError")
    return place_of(error)


def _retrieve(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        # Retrieved, so that it is not reported as never retrieved where who waited has gone away.
        task.exception()


def _done(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    error = None if task.cancelled() else task.exception()
    if isinstance(error, ObserverError):
        log.warning("%s", error)
    elif error is not None:
        log.error("%s failed: %s.", task.get_name(), place_of(error))
