"""Work that nobody waits for, kept alive until it is done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from appliance.errors import place_of

log = logging.getLogger(__name__)

_running: set[asyncio.Task[Any]] = set()


def in_background(work: Coroutine[Any, Any, object]) -> None:
    """Start a coroutine; an error in it is logged by kind and place."""
    task = asyncio.get_running_loop().create_task(work)
    # The loop itself holds tasks weakly; without this a task may vanish in the middle.
    _running.add(task)
    task.add_done_callback(_done)


def _done(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("Work in the background failed: %s.", place_of(error))
