"""A deterministic event loop with virtual time.

It is our own, since those that exist (simloom, simloop) need Python 3.12, and the program runs on 3.11. It has what
asyncio's tasks, futures and timeouts need, and no sockets, threads, signals or processes; those that the program uses
are given by `tests.simulation.network` and by `run_in_executor` below.

- Time stands still while anything is ready, and then jumps to the next timer.
- Each computer has its own queue of callbacks, in the order that asyncio promises within one process. Which computer
  runs next is drawn by the seed.
- ``run_in_executor`` runs the function in one step, after a delay that is drawn, and gives its result after another.
- Nothing of a computer runs once its power was cut: its callbacks and timers are dropped.
- If nothing is ready and there is no timer, everything waits for ever: `DeadlockError`.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from asyncio import events
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, TypeVar

from tests.simulation.virtual import Clock, Computer, computer

T = TypeVar("T")


class DeadlockError(Exception):
    """Nothing is ready, and no timer will make anything ready."""


class PowerCutError(BaseException):
    """The computer's power was cut while it ran this code."""


class Callback:
    """A callback, due now or at a time.

    Attributes:
        is_cancelled: whether it is not to be run.
    """

    __slots__ = ("_at", "args", "call", "context", "is_cancelled")

    def __init__(self, at: float, call: Callable[..., object], args: tuple[Any, ...], context: Context) -> None:
        self._at = at
        self.call = call
        self.args = args
        self.context = context
        self.is_cancelled = False

    def cancel(self) -> None:
        """Do not run it."""
        self.is_cancelled = True
        self.call, self.args = _nothing, ()

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self._at

    def __repr__(self) -> str:
        return f"<Callback {self.call} at {self._at}>"


def _nothing() -> None:
    pass


class SimulationTask(asyncio.Task[Any]):
    """A task whose hash is a number in the order of creation, so that sets of tasks have the same order every time.

    Attributes:
        owner: the computer that it runs on.
    """

    def __init__(self, number: int, coro: Coroutine[Any, Any, Any], **options: Any) -> None:
        self.owner = computer.get()
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


class SimulationLoop(asyncio.AbstractEventLoop):
    """See the module.

    Attributes:
        steps: how many callbacks ran.
        failures: what the exception handler got: errors in callbacks, and exceptions that nobody retrieved.
        listen: accepts connections for `create_server`.
    """

    def __init__(self, seed: str, clock: Clock, listen: Callable[..., Any], *, most_steps: int = 1 << 62) -> None:
        self.steps = 0
        self._most_steps = most_steps
        self.failures: list[str] = []
        self.listen = listen
        self._clock = clock
        self._random = random.Random(f"{seed}/loop")
        self._timers: list[tuple[float, int, Callback]] = []
        self._count = 0
        self._tasks = 0
        self._runnable: list[Computer] = []
        self._closed = False
        self._stopping = False

    # Callbacks.

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Callback:
        made = Callback(self._clock.now, callback, args, copy_context() if context is None else context)
        self._add(made)
        return made

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Callback:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Callback:
        return self.call_at(self._clock.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Callback:
        made = Callback(when, callback, args, copy_context() if context is None else context)
        if not self._closed:
            self._count += 1
            heapq.heappush(self._timers, (when, self._count, made))
        return made

    def time(self) -> float:
        return self._clock.now

    def _add(self, callback: Callback) -> None:
        owner = callback.context.get(computer, None)
        if owner is None:
            owner = computer.get()
        if self._closed or not owner.alive:
            return
        if not owner.ready:
            self._runnable.append(owner)
        owner.ready.append(callback)

    # Running.

    def run_until_complete(self, future: Generator[Any, None, T] | Coroutine[Any, Any, T] | asyncio.Future[T]) -> T:
        """Run until a coroutine has ended; returns its result.

        Raises:
            DeadlockError: it waits for ever.
        """
        events._set_running_loop(self)
        try:
            task = asyncio.ensure_future(future, loop=self)
            self._run(task.done)
            return task.result()
        finally:
            events._set_running_loop(None)

    def _run(self, done: Callable[[], bool]) -> None:
        """Run what is ready on one computer after the other, and let time pass where nothing is."""
        timers, runnable, clock, draw = self._timers, self._runnable, self._clock, self._random.random
        while not done():
            if not runnable:
                if not timers:
                    raise DeadlockError("Nothing is ready, and there is no timer.")
                clock.now = max(clock.now, timers[0][0])
            now = clock.now
            while timers and timers[0][0] <= now:
                callback = heapq.heappop(timers)[2]
                if not callback.is_cancelled:
                    self._add(callback)
            if not runnable:
                continue
            owner = runnable[int(draw() * len(runnable))] if len(runnable) > 1 else runnable[0]
            self._turn(owner)
            if not owner.ready:
                runnable.remove(owner)
            if self.steps > self._most_steps:
                raise DeadlockError(f"There is no end after {self.steps} steps.")

    def _turn(self, owner: Computer) -> None:
        """Run what is ready on a computer."""
        ready = owner.ready
        for _ in range(len(ready)):
            if not ready:
                # Its power was cut.
                return
            callback = ready.popleft()
            if callback.is_cancelled:
                continue
            self.steps += 1
            try:
                callback.context.run(callback.call, *callback.args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except PowerCutError:
                return
            except BaseException as error:
                self.call_exception_handler({"message": f"in {callback.call}", "exception": error})

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Forget everything that is to be run."""
        self._closed = True
        self._timers.clear()
        for one in self._runnable:
            one.ready.clear()
        self._runnable.clear()

    # Tasks and futures.

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, T], *, name: object = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        self._tasks += 1
        name = None if name is None else str(name)
        if context is not None:
            return context.run(SimulationTask, self._tasks, coro, loop=self, name=name, context=context)
        return SimulationTask(self._tasks, coro, loop=self, name=name)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Run a function in one step of this loop, a little later."""
        future: asyncio.Future[T] = self.create_future()
        owner = computer.get()

        def give(result: T | None, error: Exception | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        def step() -> None:
            result, failed = None, None
            try:
                result = func(*args)
            except Exception as error:
                failed = error
            self.call_later(self._random.random() * owner.executor_seconds, give, result, failed)

        self.call_later(self._random.random() * owner.executor_seconds, step)
        return future

    # What else is asked for.

    async def create_server(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        return self.listen(protocol_factory, options["sock"])

    def get_debug(self) -> bool:
        return False

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        task = context.get("task") or context.get("future")
        if isinstance(error, PowerCutError) or (isinstance(task, SimulationTask) and not task.owner.alive):
            return
        self.failures.append(f"{context['message']}: {error!r}")

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.default_exception_handler(context)
