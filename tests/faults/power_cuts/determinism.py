"""What makes each run of a seed the same: clock, random values, threads and waiting."""

from __future__ import annotations

import asyncio
import functools
import random
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import metadata
from typing import Any
from unittest import mock

from appliance.roster import sqlite, sqlite_file
from appliance.tasks import BackOff

_entry_points = functools.cache(metadata.entry_points)

START = 1_800_000_000.0
WAIT_SECONDS = 0.001


class Clock:
    """A clock that moves only when it is set on.

    Attributes:
        now: in seconds since the epoch.
    """

    def __init__(self) -> None:
        self.now = START

    @property
    def milliseconds(self) -> int:
        """The same in milliseconds."""
        return round(self.now * 1000)


class Inline(ThreadPoolExecutor):
    """Runs at once what others run in a thread, so that operations on the disk have one order."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments, **named))
        except BaseException as error:
            future.set_exception(error)
        return future


@contextmanager
def the_same_each_time(chance: random.Random) -> Iterator[Clock]:
    """Replace the clock, the random values of the program, and the time between two attempts."""
    clock = Clock()
    gmtime, localtime, strftime = time.gmtime, time.localtime, time.strftime
    replaced: list[tuple[object, str, object]] = [
        (time, "time", lambda: clock.now),
        (time, "time_ns", lambda: int(clock.now * 1e9)),
        (time, "gmtime", lambda seconds=None: gmtime(clock.now if seconds is None else seconds)),
        (time, "localtime", lambda seconds=None: localtime(clock.now if seconds is None else seconds)),
        (time, "strftime", lambda form, when=None: strftime(form, time.localtime() if when is None else when)),
        (secrets, "token_bytes", lambda size=32: chance.randbytes(size)),
        (secrets, "token_hex", lambda size=32: chance.randbytes(size).hex()),
        (secrets, "token_urlsafe", lambda size=32: chance.randbytes(size).hex()),
        (secrets, "choice", chance.choice),
        (sqlite, "ThreadPoolExecutor", Inline),
        # A page that is mapped into memory cannot be read after a cut: the system ends the process.
        (sqlite_file, "VFS", "unix-excl"),
        (BackOff, "next", lambda self: WAIT_SECONDS),
        # No random value, but half of the time of a start.
        (metadata, "entry_points", _entry_points),
    ]
    with ExitStack() as stack:
        for owner, name, value in replaced:
            stack.enter_context(mock.patch.object(owner, name, value))
        yield clock


def run(work: Any) -> Any:
    """Run a coroutine on a new event loop whose threads are `Inline`."""

    async def inline() -> Any:
        asyncio.get_running_loop().set_default_executor(Inline(1))
        return await work

    return asyncio.run(inline())
