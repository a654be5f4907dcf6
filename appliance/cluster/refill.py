"""Refill: keeps the shared store complete from this node's archive; each node does so with its own.

A store can lose its memory whole (then it has another epoch), or its last seconds, as after a power failure. Then every
node uploads its archive (`appliance.cluster.archive_upload`). Meanwhile no stream can be opened, because a student's
page must not get a lower number than was acknowledged before. The same happens where a reducer got a new version
(`appliance.cluster.reducer_versions`).

``store.json`` in the data folder keeps up to where this was done (`appliance.cluster.upload_mark`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

import msgspec

from appliance.archive import BEGINNING, Position
from appliance.archive.gaps import Gap, by_student, gap_findings
from appliance.cluster.archive_upload import ArchiveUpload
from appliance.cluster.membership import Membership
from appliance.cluster.reducer_versions import ReducerVersions
from appliance.cluster.upload_mark import UploadMark, UploadMarkFile
from appliance.counters import Counters
from appliance.errors import ArchiveError, BackendError, ObserverError, SettingsError, place_of
from appliance.health import Finding, finding
from appliance.kvs.records import SharedRecords
from appliance.listeners import AsyncListeners
from appliance.pipeline import Pipeline
from appliance.tasks import Supervised, in_background
from appliance.text import counted

log = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
"""Pause between two checks of the store."""
STEP_SECONDS = 120.0
"""The most time that a step which does not depend on the archive's length may take."""
_WAIT_SECONDS = 0.3
_ESCALATE_SECONDS = 30.0
"""A loss so soon after a refill means that the refill was too short."""


class RefillTimes(msgspec.Struct):
    """Times of a refill, in seconds.

    Attributes:
        wait: how long other nodes are waited for without any progress.
        mark: interval at which the position is noted from which the archive is read after a short loss.
        refresh: interval at which shared records are written again so that they do not expire; None if they never do.
    """

    wait: float
    mark: float
    refresh: float | None = None


class Refill:
    """Checks whether the store has everything that this node's archive has, and uploads the archive if not.

    Attributes:
        done: set once the store was complete for the first time.
        marks: how much of the archive is in the store.
        times: the times that it keeps.
        on_lost: awaited when the store has lost its memory, after shared records were put back.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        records: SharedRecords,
        membership: Membership,
        versions: ReducerVersions,
        marks: UploadMarkFile,
        upload: Callable[[Position, Mapping[str, int]], ArchiveUpload],
        counters: Counters,
        times: RefillTimes,
    ) -> None:
        """Args:
        pipeline: opens no streams until the store is complete.
        records: what nodes share besides states.
        membership: the other nodes.
        versions: of reducers, and the store's generation.
        marks: see above.
        upload: makes an upload from a position on, given when students were erased.
        counters: counts refills and missing events.
        times: see above.
        """
        self.on_lost: AsyncListeners[[]] = AsyncListeners()
        self.done = asyncio.Event()
        self.times = times
        self.marks = marks
        self._pipeline = pipeline
        self._records = records
        self._membership = membership
        self._versions = versions
        self._new_upload = upload
        self._counters = counters
        self._lost = asyncio.Event()
        self._soon = asyncio.Event()
        self._attempt = 0
        self._refilled = float("-inf")
        self._marked = self._refreshed = time.monotonic()
        self._upload: ArchiveUpload | None = None
        self._waits_for: list[str] = []
        self._missing = 0
        self._gaps: list[Gap] = []
        self._gap_findings: list[Finding] = []
        self._failure: Finding | None = None
        self._first = True
        pipeline.on_lost.add(self._note_lost)
        pipeline.confirm_with(self._confirm)

    async def prepare(self) -> None:
        """At the start: agree with the other nodes on reducers; then no stream opens until `run` has checked the store.

        Raises:
            BackendError: the store cannot be reached.
            SettingsError: other nodes run newer reducers.
        """
        self.marks.load()
        await self._versions.agree()
        if self._versions.outdated:
            raise SettingsError(
                f"Other nodes run newer versions of {', '.join(self._versions.outdated)}. Install the same version "
                "here."
            )
        self._pipeline.refilling = True

    async def run(self, task: Supervised) -> None:
        """The work of its task: check the store again and again, and at once where a loss was noticed."""
        self._marked = time.monotonic()
        while True:
            try:
                # A refill takes as long as the archive is long; each request to the store has its own time limit.
                await self.check()
                async with task.step(STEP_SECONDS):
                    await self.keep_up()
                self._failure = None
            except Exception as error:
                self._failure, explained = self._explained(error)
                if explained is error:
                    raise
                raise explained from error
            task.works()
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._soon.wait()
            except TimeoutError:
                pass
            self._soon.clear()

    def check_soon(self) -> None:
        """Check the store at once: it may have lost its memory."""
        self._soon.set()

    def _note_lost(self) -> None:
        self._lost.set()
        self._soon.set()

    def findings(self) -> list[Finding]:
        """Why this node takes no students, and what is missing in the store."""
        found = []
        if self._versions.outdated:
            found.append(finding("nodes.outdated", reducers=", ".join(self._versions.outdated)))
        elif self._waits_for:
            found.append(finding("refill.waiting", nodes=", ".join(self._waits_for)))
        elif self._upload is not None:
            found.append(finding("refill.running", percent=int(100 * self._upload.progress)))
            if self._upload.blocked:
                found.append(finding("refill.blocked", count=len(self._upload.blocked)))
        elif self._pipeline.refilling:
            found.append(finding("refill.checking"))
        if self._missing:
            found += [finding("refill.missing", count=self._missing), *self._gap_findings]
        if self._failure is not None:
            found.append(self._failure)
        return found

    async def check(self) -> None:
        """Check whether the store is the same as before and has what it had; refill it if not.

        Raises:
            BackendError: the store cannot be reached.
            ArchiveError: the archive cannot be read.
            OSError: the mark cannot be written.
        """
        await self._versions.agree()
        if self._versions.outdated:
            if not self._pipeline.refilling:
                log.error("%s", self.findings()[0].text)
            self._pipeline.refilling = True
            return
        generation = await self._versions.generation()
        mark = self.marks.mark
        if generation != mark.generation:
            await self._refill(BEGINNING, generation, forgot=bool(mark.generation))
        elif self._lost.is_set():
            await self._refill(self._start_after_loss(), generation, forgot=False)
        elif self._first:
            await self._refill(mark.position, generation, forgot=False)
        elif time.monotonic() - self._refilled >= _ESCALATE_SECONDS:
            self._pipeline.accept_gaps = False
        self._first = False
        self.done.set()
        self.marks.add_nodes(self._membership.others())

    async def keep_up(self) -> None:
        """Write what waits for the records' journal; note the position of the archive, and refresh shared records, each
        when its interval is over.

        Raises:
            BackendError: the store cannot be reached.
            OSError: the mark cannot be written.
        """
        await self._records.write_waiting()
        if time.monotonic() - self._marked >= self.times.mark:
            self._marked = time.monotonic()
            position = await self._position()
            if position is not None:
                self.marks.note(position)
        if self.times.refresh is not None and time.monotonic() - self._refreshed >= self.times.refresh:
            self._refreshed = time.monotonic()
            await self._records.refresh()

    async def _position(self) -> Position | None:
        """A position in the archive up to which the store has everything; None where it turns out to have lost data.

        Then the commit under way does not end before this task has refilled the store.
        """
        checkpoint = in_background(self._pipeline.checkpoint(lambda: None), "mark", awaited=True)
        lost = in_background(self._lost.wait(), "loss", awaited=True)
        try:
            await asyncio.wait((checkpoint, lost), return_when=asyncio.FIRST_COMPLETED)
            return checkpoint.result()[0] if checkpoint.done() else None
        finally:
            # The commit itself goes on.
            checkpoint.cancel()
            lost.cancel()

    def _explained(self, error: Exception) -> tuple[Finding | None, Exception]:
        """The finding for an error that ended a check, and the error to raise."""
        if isinstance(error, TimeoutError):
            return self._failure, error
        if isinstance(error, OSError):
            detail = f"{self.marks.path} cannot be written: {error.strerror}."
            return finding("refill.failing", detail=detail), ArchiveError(detail)
        if isinstance(error, ObserverError):
            return finding("kvs.away", detail=str(error)), error
        # Without this task no student could ever connect again.
        self._counters.add("refill_failures")
        failed = f"The store could not be compared with the archive: {place_of(error)}."
        return finding("refill.failing", detail=failed), error

    def _start_after_loss(self) -> Position:
        """The position to upload from: first the mark, then the beginning; after that, gaps are accepted."""
        self._attempt = self._attempt + 1 if time.monotonic() - self._refilled < _ESCALATE_SECONDS else 1
        if self._attempt == 1:
            return self.marks.mark.position
        if self._attempt > 2:
            self._counters.add("refills_in_vain")
            log.error("The store lost events that no node has in its archive. What came after them is kept.")
            self._pipeline.accept_gaps = True
        return BEGINNING

    async def _refill(self, start: Position, generation: str, *, forgot: bool) -> None:
        """Upload the archive from a position on; `forgot` if the store has lost its memory."""
        self._pipeline.refilling = True
        self._lost.clear()
        self._membership.uploaded = ""
        if forgot:
            self._counters.add("refills")
            log.warning("The key-value store has lost its data. It is refilled from the archives of the nodes.")
            self._pipeline.forget_versions()
        if await self._records.put_back():
            # The other nodes may have read the roster before this node's part of it was back.
            await self._membership.announce_roster_change()
        if forgot:
            await self.on_lost()
        await self._membership.beat()
        await self._upload_archive(start, generation)
        self._membership.uploaded = generation
        await self._membership.beat()
        mark = self.marks.mark
        if forgot or not mark.generation:
            await self._wait_for_others(generation)
        await self._check_same(generation)
        others = self._membership.others()
        known = others if forgot else sorted({*self.marks.mark.nodes, *others})
        position = start if mark.generation == generation else BEGINNING
        self.marks.save(UploadMark(generation, position, known))
        self._pipeline.refilling = False
        # A commit that was tried in the meantime may have found the store as it was before.
        self._lost.clear()
        self._refilled = time.monotonic()

    async def _upload_archive(self, start: Position, generation: str) -> None:
        began = time.monotonic()
        self._upload = upload = self._new_upload(start, await self._records.erased())
        try:
            await upload.run(self.times.wait, lambda: self._check_same(generation))
        finally:
            self._upload = None
        if upload.gaps:
            self._gaps += upload.gaps
            count = sum(gap.events for gap in upload.gaps)
            self._missing += count
            self._gap_findings = list(gap_findings(self._gaps, upload.folder, "refill.gap"))
            self._counters.add("events_missing", count)
            log.error(
                "%s of %s in none of the archives that were uploaded in time.",
                counted(count, "event"),
                counted(len(by_student(upload.gaps)), "student is", "students are"),
            )
        if upload.events:
            events = counted(upload.events, "archived event was", "archived events were")
            log.info("%s uploaded into the store in %.1f s.", events, time.monotonic() - began)

    async def _wait_for_others(self, generation: str) -> None:
        """Wait until every node that was there before has uploaded its archive too, for some time."""
        end = time.monotonic() + self.times.wait
        try:
            while time.monotonic() < end:
                nodes = {*self.marks.mark.nodes, *self._membership.others()}
                self._waits_for = sorted(nodes - self._membership.uploaded_in(generation))
                if not self._waits_for:
                    return
                await asyncio.sleep(_WAIT_SECONDS)
                await self._check_same(generation)
                await self._membership.beat()
            names = ", ".join(self._waits_for)
            log.error("The nodes %s did not upload their archives in time; the store lacks what only they have.", names)
        finally:
            self._waits_for = []

    async def _check_same(self, generation: str) -> None:
        """Return if the store is still the one that is being refilled.

        Raises:
            BackendError: it has lost its memory again, and with it what was uploaded.
        """
        if await self._versions.generation() != generation:
            raise BackendError("The key-value store has lost its data again, while it was refilled.")

    async def _confirm(self) -> None:
        """Notice at once, and not only at the next check, that the store has lost its memory.

        Raises:
            BackendError: it has.
        """
        if await self._versions.generation() != self.marks.mark.generation:
            self._note_lost()
            raise BackendError("The key-value store has lost its data.")
