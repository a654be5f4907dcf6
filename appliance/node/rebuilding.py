"""Rebuilds the states of reducers that changed, beside live events, and tries again where that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Set

from appliance.archive import Archive
from appliance.archive.accepted_gaps import AcceptedGaps
from appliance.counters import Counters
from appliance.errors import ObserverError, place_of
from appliance.health import Finding, Health, finding
from appliance.pipeline import Pipeline
from appliance.recovery.gaps import rebuild_findings
from appliance.recovery.rebuild import Rebuild
from appliance.recovery.start import Recovery
from appliance.states import StateLimits
from appliance.tasks import BackOff, cancelled, in_background


class Rebuilding:
    """The rebuilding of all reducers that are suspended, and of states that are held because of a gap of the archive.

    Attributes:
        current: the rebuild that runs, or ran last; None where there was none.
    """

    def __init__(
        self, pipeline: Pipeline, archive: Archive, health: Health, counters: Counters, limits: StateLimits
    ) -> None:
        """Args:
        pipeline: whose fold suspends reducers.
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
        self._accepted: AcceptedGaps | None = None
        self._gaps: list[Finding] = []
        self._task: asyncio.Task[None] | None = None

    def start(self, recovery: Recovery | None) -> None:
        """Begin, if any reducer is suspended, or states are held.

        Args:
            recovery: of this start; None where the store needs none.
        """
        held = recovery.held if recovery else {}
        self._accepted = recovery.accepted if recovery else None
        if self._pipeline.fold.suspended or held:
            self._task = in_background(self._run(held), "rebuild")

    async def rebuild_student(self, student_id: str) -> None:
        """Rebuild all states of one student, which are held, once earlier rebuilds are done; returns when it is."""
        names = {reducer.name for reducer in self._pipeline.fold.reducers}
        before = self._task

        async def run() -> None:
            try:
                if before is not None:
                    await asyncio.wait([before])
            except asyncio.CancelledError:
                if before is not None:
                    await cancelled(before)
                raise
            await self._run({student_id: names})

        task = self._task = in_background(run(), "rebuild")
        await asyncio.wait([task])

    async def done(self) -> None:
        """Wait until nothing is left to rebuild."""
        if self._task:
            await asyncio.shield(self._task)

    async def close(self) -> None:
        """Give up; the next start of the program begins again."""
        if self._task:
            await cancelled(self._task)

    def findings(self) -> Iterator[Finding]:
        """One for each reducer that is being rebuilt, and those about gaps."""
        yield from self._gaps
        if self.current and self.current.progress < 1 and self.current.of_all:
            for name in self.current.names:
                yield finding("reducer.rebuild", name, percent=int(100 * self.current.progress))

    async def _run(self, held: Mapping[str, Set[str]]) -> None:
        if self._pipeline.fold.suspended:
            await self._until_done(lambda: self._rebuild(self._pipeline.fold.suspended, None))
        if held:
            await self._until_done(lambda: self._rebuild(set().union(*held.values()), held))

    def _rebuild(self, names: Iterable[str], students: Mapping[str, Set[str]] | None) -> Rebuild:
        return Rebuild(
            self._pipeline,
            self._archive,
            names,
            limits=self._limits,
            accepted=self._accepted,
            students=students,
        )

    async def _until_done(self, new: Callable[[], Rebuild]) -> None:
        """Rebuild, with back-off after failures."""
        back_off = BackOff(first=1.0, most=60.0)
        failed: set[str] = set()
        while True:
            rebuild = self.current = new()
            try:
                await rebuild.run()
                break
            except Exception as error:
                reason = str(error) if isinstance(error, ObserverError) else f"{place_of(error)}."
                self._counters.add("rebuild_failures")
                failed.update(rebuild.names)
                for name in rebuild.names:
                    self._health.report("reducer.rebuild_failed", name, detail=reason)
                await asyncio.sleep(back_off.next())
        for name in failed:
            self._health.clear("reducer.rebuild_failed", name)
        self._gaps += rebuild_findings(rebuild, self._archive.folder, self._counters)
