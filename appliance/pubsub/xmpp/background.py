"""Background work of the pubsub, and the log of what goes wrong in it: each sentence once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.pubsub.xmpp.reasons import AwayError, TroubleError
from appliance.tasks import in_background

log = logging.getLogger(__name__)

GOODBYE_SECONDS = 1.0


class Background:
    """Tasks that nobody waits for; a loss of the connection ends them silently."""

    def __init__(self, counters: Counters) -> None:
        """Args:
        counters: ``pubsub_refusals`` counts what the server refused.
        """
        self._counters = counters
        self._tasks: set[asyncio.Task[None]] = set()
        self._warned: set[str] = set()

    def run(self, work: Callable[..., Coroutine[Any, Any, None]], *names: str) -> None:
        """Start a task that awaits ``work(*names)``."""

        async def run() -> None:
            try:
                await work(*names)
            except AwayError:
                pass
            except BackendError as error:
                self.warn(str(error))

        task = in_background(run(), "xmpp")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def refused(self, trouble: TroubleError) -> None:
        """Count and log a refusal."""
        self._counters.add("pubsub_refusals")
        self.warn(str(trouble))

    def warn(self, sentence: str) -> None:
        """Log a sentence, unless it was logged before."""
        if sentence not in self._warned:
            self._warned.add(sentence)
            log.error("%s", sentence)

    async def close(self) -> None:
        """Cancel all tasks and wait for them."""
        await finish(self._tasks, seconds=0)


async def finish(tasks: Iterable[asyncio.Task[None]], seconds: float = GOODBYE_SECONDS) -> None:
    """Give tasks some time, then cancel them; wait for them and ignore their exceptions."""
    tasks = list(tasks)
    if tasks:
        if seconds:
            await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
