"""Upkeep: what is done now and then while the appliance runs: snapshots, compressing, a look at the space left."""

from __future__ import annotations

import asyncio
import shutil
import time

import msgspec

from appliance.archive import Archive
from appliance.config import Settings
from appliance.counters import Counters
from appliance.errors import ObserverError
from appliance.health import Finding, finding
from appliance.recovery import Recovery
from appliance.wording import counted

LOOK_SECONDS = 10.0


class Space(msgspec.Struct, frozen=True):
    """Attributes:
    archive_bytes: what the archive takes.
    free_bytes: room left on the disk of the data folder, for the user that the appliance runs as.
    """

    archive_bytes: int
    free_bytes: int


class Upkeep:
    """Attributes:
    space: how it was at the last look, None before the first.
    """

    def __init__(self, settings: Settings, archive: Archive, recovery: Recovery | None, counters: Counters) -> None:
        """Args:
        settings: how often, and what is short.
        archive: is compressed and measured.
        recovery: writes snapshots; None where the store needs none.
        counters: counts what fails.
        """
        self.space: Space | None = None
        self._short = False
        self._failure = ""
        self._compress = settings.archive.compress
        self._warn = settings.archive.warn_free_bytes
        self._snapshot_seconds = settings.kvs.snapshot_seconds
        self._folder = settings.data_path
        self._archive = archive
        self._recovery = recovery
        self._counters = counters

    async def run(self) -> None:
        """Go on until cancelled; what fails is a finding, and done again the next time."""
        saved = time.monotonic()
        while True:
            try:
                self.look()
                if self._compress:
                    await self._archive.compress()
                if self._recovery and time.monotonic() - saved >= self._snapshot_seconds:
                    saved = time.monotonic()
                    await self._recovery.save()
            except (ObserverError, OSError) as error:
                self._counters.add("upkeep_failures")
                self._failure = str(error) if isinstance(error, ObserverError) else f"The disk fails: {error.strerror}."
            else:
                self._failure = ""
            await asyncio.sleep(min(LOOK_SECONDS, self._snapshot_seconds))

    def look(self) -> None:
        """See how much room there is.

        Raises:
            OSError: the disk does not tell.
        """
        space = self.space = Space(self._archive.used_bytes(), shutil.disk_usage(self._folder).free)
        short = space.free_bytes < self._warn
        if short and not self._short:
            self._counters.add("limit_warn_free_bytes")
        self._short = short

    def findings(self) -> list[Finding]:
        """Whether room is short, and what fails."""
        found = []
        if self._short and self.space:
            free, used = size(self.space.free_bytes), size(self.space.archive_bytes)
            found.append(finding("archive.space", free=free, used=used))
        if self._failure:
            found.append(finding("upkeep.failing", detail=self._failure))
        return found


def size(number: int) -> str:
    """A number of bytes for people, in steps of 1,024."""
    amount = float(number)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return counted(number, "byte") if unit == "bytes" else f"{amount:.1f} {unit}"
