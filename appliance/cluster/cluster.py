"""Cluster: the parts that a node needs when it shares its key-value store with others, started in order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from appliance.archive import Archive, Position
from appliance.cluster.archive_upload import ArchiveUpload
from appliance.cluster.credentials import Credentials, share_credentials
from appliance.cluster.membership import Membership
from appliance.cluster.reducer_versions import ReducerVersions
from appliance.cluster.refill import Refill, RefillTimes
from appliance.cluster.upload_mark import UploadMarkFile
from appliance.config import Settings
from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.health import Finding
from appliance.kvs import KVS
from appliance.kvs.records import JOURNAL, SharedRecords
from appliance.lessons.roster_watch import RosterWatch
from appliance.pipeline import Pipeline
from appliance.pubsub.hints import Hints
from appliance.roster import Roster, open_shared_roster
from appliance.roster.earlier_shared import move_earlier_rows
from appliance.roster.shared_store import SharedStore
from appliance.states import Fold, StateLimits
from appliance.tasks import BackOff, Supervised, Tasks, in_background

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0


class Cluster:
    """This node among those that share its store.

    Attributes:
        records: what nodes share besides states.
        membership: the other nodes.
        refill: keeps the store complete.
        credentials: those of all nodes, once it has started.
    """

    def __init__(
        self,
        settings: Settings,
        kvs: KVS,
        hints: Hints,
        tasks: Tasks,
        pipeline: Pipeline,
        archive: Archive,
        credentials: Credentials,
        counters: Counters,
    ) -> None:
        """Args:
        settings: this node's.
        kvs: the shared store.
        hints: carries messages between nodes.
        tasks: runs endless tasks.
        pipeline: commits this node's events.
        archive: this node's.
        credentials: this node's own, which all nodes get if it is the first.
        counters: counts failures.

        Raises:
            SettingsError: this node's journal cannot be read.
        """
        limits = settings.limits
        self.credentials = credentials
        self._settings = settings
        self._kvs = kvs
        self._counters = counters
        self._tasks = tasks
        self._task: Supervised | None = None
        self.records = SharedRecords(kvs, settings.data_path / JOURNAL)
        self.membership = Membership(
            settings.node_name, kvs, hints, tasks, counters, silent_seconds=float(limits.node_silent_seconds)
        )

        def fold() -> Fold:
            return Fold(pipeline.fold.reducers, Counters(), StateLimits.of(limits))

        def upload(start: Position, erased: Mapping[str, int]) -> ArchiveUpload:
            return ArchiveUpload(archive, start, kvs, hints.pubsub, fold, counters, erased)

        self.refill = Refill(
            pipeline,
            self.records,
            self.membership,
            ReducerVersions(kvs, {reducer.name: reducer.version for reducer in pipeline.fold.reducers}),
            UploadMarkFile(settings.data_path),
            upload,
            counters,
            RefillTimes(
                wait=float(settings.kvs.refill_seconds),
                mark=float(settings.kvs.snapshot_seconds),
                refresh=kvs.ttl_seconds / 3 if kvs.ttl_seconds else None,
            ),
        )

    def roster(self) -> Roster:
        """The roster that all nodes share, with this node's lists."""
        return open_shared_roster(self._settings, self._kvs, self.records, self._counters)

    async def start(self, roster_watch: RosterWatch) -> None:
        """Join the other nodes.

        Args:
            roster_watch: gets changes of the roster at other nodes, and has those of this node.

        Raises:
            BackendError: the store did not answer in time.
            SettingsError: other nodes run newer reducers.
        """
        self.refill.on_lost.add(lambda: self._restore(roster_watch))
        self.membership.on_missing.add(self.refill.check_soon)
        self.membership.on_roster.add(roster_watch.note_foreign_change)
        await retry(lambda: self._join(roster_watch), self._settings.kvs.start_seconds)
        roster_watch.on_local_change.add(lambda: in_background(self.membership.announce_roster_change()))
        self._task = self._tasks.run("refill", self.refill.run, owner="school", says_so=True)
        # Mostly nothing is to be uploaded, and students are served at once; else they are asked to come later.
        try:
            async with asyncio.timeout(self._settings.kvs.start_seconds):
                await self.refill.done.wait()
        except TimeoutError:
            pass

    async def close(self) -> None:
        """Leave the other nodes."""
        if self._task:
            await self._tasks.end(self._task)
            await self.membership.close()
        await self.records.close()

    def findings(self) -> list[Finding]:
        """What is wrong between this node, the store and the other nodes."""
        return [*self.refill.findings(), *self.membership.findings()]

    async def _join(self, roster_watch: RosterWatch) -> None:
        self.credentials = await share_credentials(self._kvs, self._settings.data_path, self.credentials)
        await self.refill.prepare()
        # Before the roster is read: where the store has just lost its memory, the other nodes put it back.
        await self.membership.start()
        if await self.records.put_back():
            await self.membership.announce_roster_change()
        await move_earlier_rows(self._kvs, self.records, SharedStore(self._kvs, self.records))
        await roster_watch.reread()

    async def _restore(self, roster_watch: RosterWatch) -> None:
        """Put back what is neither a record nor a state, after the store has lost its memory."""
        await share_credentials(self._kvs, self._settings.data_path, self.credentials)
        await roster_watch.reread()
        # Dashboards may have read the roster while it was empty.
        roster_watch.note_foreign_change()


async def retry(step: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Retry a step until the backend answers or time is up.

    Raises:
        BackendError: the backend did not answer within these seconds.
    """
    end = time.monotonic() + seconds
    back_off = BackOff(most=_RETRY_SECONDS)
    logged = False
    while True:
        try:
            await step()
        except BackendError as error:
            if time.monotonic() >= end:
                raise
            if not logged:
                logged = True
                log.warning("%s It is tried again for %d s.", error, seconds)
            await asyncio.sleep(back_off.next())
        else:
            return
