"""Rebuilds the states of reducers that changed, beside live events, and tries again where that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from appliance.archive import Archive
from appliance.counters import Counters
from appliance.errors import ObserverError, place_of
from appliance.health import Finding, Health, finding
from appliance.pipeline import Pipeline
from appliance.recovery.rebuild import Rebuild
from appliance.states import StateLimits
from appliance.tasks import BackOff, cancelled, in_background


class Rebuilding:
    """The rebuilding of all reducers whose states are held back.

    Attributes:
        current: the rebuild that runs, or ran last; None where there was none.
    """

    def __init__(
        self, pipeline: Pipeline, archive: Archive, health: Health, counters: Counters, limits: StateLimits
    ) -> None:
        """Args:
        pipeline: whose fold holds reducers back.
        archive: what is read.
        health: gets a finding for each reducer that could not be rebuilt.
        counters: counts failures.
        limits: see `Rebuild`.
        """
        self.current: Rebuild | None = None
        self._pipeline = pipeline
        self._archive = archive
        self._health = health
        self._counters = counters
        self._limits = limits
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, if any reducer is held back."""
        if self._pipeline.fold.suspended:
            self._task = in_background(self._run(), "rebuild")

    async def close(self) -> None:
        """Give up; the next start of the program begins again."""
        if self._task:
            await cancelled(self._task)

    def findings(self) -> Iterator[Finding]:
        """One for each reducer that is being rebuilt."""
        if self.current and self.current.progress < 1:
            for name in self.current.names:
                yield finding("reducer.rebuild", name, percent=int(100 * self.current.progress))

    async def _run(self) -> None:
        back_off = BackOff(first=1.0, most=60.0)
        failed: set[str] = set()
        while self._pipeline.fold.suspended:
            rebuild = self.current = Rebuild(
                self._pipeline, self._archive, self._pipeline.fold.suspended, limits=self._limits
            )
            try:
                await rebuild.run()
            except Exception as error:
                reason = str(error) if isinstance(error, ObserverError) else f"{place_of(error)}."
                self._counters.add("rebuild_failures")
                failed.update(rebuild.names)
                for name in rebuild.names:
                    self._health.report("reducer.rebuild_failed", name, detail=reason)
                await asyncio.sleep(back_off.next())
        for name in failed:
            self._health.clear("reducer.rebuild_failed", name)
