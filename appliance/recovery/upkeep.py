"""Upkeep: what is done periodically while the appliance runs.

Snapshots, compressing, measuring the free space, and deleting what is older than `archive.retention_days`.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable

import msgspec

from appliance.archive import Archive
from appliance.config import Settings
from appliance.counters import Counters
from appliance.health import Finding, finding
from appliance.recovery.retention import Retention
from appliance.recovery.start import Recovery
from appliance.tasks import Supervised, Tasks
from appliance.text import counted

CHECK_SECONDS = 10.0
SPACE_SECONDS = 30.0
SAVE_SECONDS = 60.0
RETENTION_SECONDS = 3600.0


class Space(msgspec.Struct, frozen=True):
    """Attributes:
    archive_bytes: size of the archive.
    free_bytes: free on the disk of the data folder, for the user that the appliance runs as.
    """

    archive_bytes: int
    free_bytes: int


class Upkeep:
    """Attributes:
    space: as it was measured last, None before the first time.
    """

    def __init__(self, settings: Settings, archive: Archive, recovery: Recovery | None, counters: Counters) -> None:
        """Args:
        settings: how often, and how much space is too little.
        archive: is compressed and measured.
        recovery: writes snapshots; None where the store needs none.
        counters: counts failures.
        """
        self.space: Space | None = None
        self._short = False
        self._compress = settings.archive.compress
        self._warn = settings.archive.warn_free_bytes
        self._snapshot_seconds = settings.kvs.snapshot_seconds
        self._pause = min(CHECK_SECONDS, float(self._snapshot_seconds))
        self._folder = settings.data_path
        self._archive = archive
        self._recovery = recovery
        self._counters = counters
        days = settings.archive.retention_days
        self._retention = Retention(settings, archive.folder, counters) if days else None

    def start(self, tasks: Tasks) -> list[Supervised]:
        """Start; each part has a task of its own, so that none waits for another, nor all for a stuck commit."""
        work = [("upkeep.space", self._watch_space)]
        if self._compress:
            work.append(("upkeep.compress", self._keep_compressing))
        if self._recovery:
            work.append(("upkeep.snapshot", self._keep_saving))
        if self._retention:
            work.append(("upkeep.retention", self._keep_deleting))
        return [tasks.run(name, self._counted(one), owner="upkeep", says_so=True) for name, one in work]

    def _counted(self, work: Callable[[Supervised], Awaitable[None]]) -> Callable[[Supervised], Awaitable[None]]:
        async def counted_work(task: Supervised) -> None:
            try:
                await work(task)
            except Exception:
                self._counters.add("upkeep_failures")
                raise

        return counted_work

    async def _watch_space(self, task: Supervised) -> None:
        while True:
            async with task.step(SPACE_SECONDS):
                # Off the event loop: the disk of a server that is away may take its time.
                self._found(await asyncio.to_thread(self._space_now))
            task.works()
            await asyncio.sleep(self._pause)

    async def _keep_compressing(self, task: Supervised) -> None:
        while True:
            # No time limit: its thread cannot be ended, and a second one must not work on the same file.
            await self._archive.compress()
            task.works()
            await asyncio.sleep(self._pause)

    async def _keep_saving(self, task: Supervised) -> None:
        assert self._recovery is not None
        while True:
            await asyncio.sleep(self._snapshot_seconds)
            # It waits for the commit that is under way, which a full disk may hold up.
            async with task.step(SAVE_SECONDS):
                await self._recovery.save()
            task.works()

    async def _keep_deleting(self, task: Supervised) -> None:
        assert self._retention is not None
        try:
            while True:
                # No time limit: its thread cannot be ended, and a second one must not work on the same files.
                await asyncio.to_thread(self._retention.delete_old)
                task.works()
                await asyncio.sleep(RETENTION_SECONDS)
        except asyncio.CancelledError:
            self._retention.stopped = True
            raise

    def measure(self) -> None:
        """Measure the space.

        Raises:
            OSError: the disk does not answer.
        """
        self._found(self._space_now())

    def _space_now(self) -> Space:
        return Space(self._archive.used_bytes(), shutil.disk_usage(self._folder).free)

    def _found(self, space: Space) -> None:
        self.space = space
        short = space.free_bytes < self._warn
        if short and not self._short:
            self._counters.add("limit_warn_free_bytes")
        self._short = short

    def findings(self) -> list[Finding]:
        """A finding if space is short, and while a clock is not trusted. Failures are findings of the tasks."""
        found = list(self._retention.findings()) if self._retention else []
        if self._short and self.space:
            free, used = size(self.space.free_bytes), size(self.space.archive_bytes)
            found.append(finding("archive.space", free=free, used=used))
        return found


def size(number: int) -> str:
    """A number of bytes for people to read, in units of 1,024."""
    if number < 1024:
        return counted(number, "byte")
    power = 1 if number < 1 << 20 else 2 if number < 1 << 30 else 3
    return f"{number / 1024**power:.1f} {'KMG'[power - 1]}iB"
