"""Virtual time and seeded randomness for one process, and the computer on whose behalf code runs.

`install` replaces the clocks of the module `time` and the sources of randomness. It must run before the program's
modules are imported, since some of them keep a clock as a default argument; so a simulation has a process of its own.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

EPOCH = 1_750_000_000.0
"""The wall clock when a simulation begins, in seconds since 1970: 2025-06-15 15:06:40 UTC."""

_real = {name: getattr(time, name) for name in ("perf_counter", "gmtime", "localtime", "strftime")}
real_seconds: Callable[[], float] = _real["perf_counter"]
"""Seconds of the real clock, to measure the simulation itself."""


class Computer:
    """A computer of the simulation, or the outside world.

    Attributes:
        name: for messages.
        alive: False once its power was cut: nothing of it runs any more.
        executor_seconds: longest wait for a thread, and longest time of its work.
        skew: seconds by which its wall clock differs from the world's.
        ready: callbacks of the event loop that are due on it.
    """

    __slots__ = ("__weakref__", "alive", "executor_seconds", "name", "ready", "skew")

    def __init__(self, name: str, skew: float = 0.0) -> None:
        self.name = name
        self.alive = True
        self.skew = skew
        self.executor_seconds = 0.004
        self.ready: deque[Any] = deque()


class Clock:
    """The seconds since the simulation began; the loop moves it."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0.0


clock = Clock()
WORLD = Computer("world")
computer: ContextVar[Computer] = ContextVar("computer", default=WORLD)
"""On whose behalf the present code runs."""


class Chance:
    """Where the random bytes of the program come from; `reset` gives a simulation its own."""

    def __init__(self) -> None:
        self._random = random.Random(0)

    def reset(self, seed: str) -> None:
        """Begin again: also for the module `random`, and for the clock."""
        self._random.seed(seed)
        random.seed(seed)
        clock.now = 0.0

    def bytes(self, size: int) -> bytes:
        """Random bytes."""
        return self._random.randbytes(size)


chance = Chance()


def _wall() -> float:
    return EPOCH + clock.now + computer.get().skew


def install() -> None:
    """Replace the clocks and the randomness of this process."""
    since_start = {name: lambda: clock.now for name in ("monotonic", "perf_counter")}
    replaced: dict[Any, dict[str, Callable[..., Any]]] = {
        time: {
            **since_start,
            "monotonic_ns": lambda: int(clock.now * 1e9),
            "perf_counter_ns": lambda: int(clock.now * 1e9),
            # All work takes no time; what it would cost is not part of a simulation.
            "thread_time": lambda: 0.0,
            "time": _wall,
            "time_ns": lambda: int(_wall() * 1e9),
            "gmtime": lambda seconds=None: _real["gmtime"](_wall() if seconds is None else seconds),
            "localtime": lambda seconds=None: _real["gmtime"](_wall() if seconds is None else seconds),
            "strftime": lambda form, moment=None: _real["strftime"](form, moment or _real["gmtime"](_wall())),
        },
        os: {"urandom": chance.bytes},
        # `secrets` draws from random.SystemRandom, which has this name of os.urandom.
        random: {"_urandom": chance.bytes},
        uuid: {"uuid4": lambda: uuid.UUID(bytes=chance.bytes(16), version=4)},
    }
    for module, functions in replaced.items():
        for name, function in functions.items():
            setattr(module, name, function)
