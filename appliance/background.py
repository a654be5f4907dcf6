"""Work that nobody waits for, kept alive until it is done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from appliance.errors import ObserverError, place_of

log = logging.getLogger(__name__)

_CANCEL_SECONDS = 0.2

_running: set[asyncio.Task[Any]] = set()


def in_background(work: Coroutine[Any, Any, object]) -> None:
    """Start a coroutine; an error in it is logged, one that is not foreseen by kind and place."""
    task = asyncio.get_running_loop().create_task(work)
    # The loop itself holds tasks weakly; without this a task may vanish in the middle.
    _running.add(task)
    task.add_done_callback(_done)


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended, and look at nothing that they raise.

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
            # Looked at, so that it is not reported as never seen.
            task.exception()


def _done(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    error = None if task.cancelled() else task.exception()
    if isinstance(error, ObserverError):
        log.warning("%s", error)
    elif error is not None:
        log.error("Work in the background failed: %s.", place_of(error))
