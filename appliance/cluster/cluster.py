"""School: what a node has when it shares its key-value store with others, put together and started in order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from appliance.archive import Archive
from appliance.cluster.credentials import Credentials, share_credentials
from appliance.cluster.membership import Membership
from appliance.cluster.refill import Refill
from appliance.config import Settings
from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.health import Finding
from appliance.kvs import KVS
from appliance.kvs.records import JOURNAL, SharedRecords
from appliance.lessons.roster_watch import RosterWatch
from appliance.pipeline import Pipeline
from appliance.pubsub.hints import Hints
from appliance.roster import RosterLimits
from appliance.roster.shared import SharedRoster
from appliance.states import Fold, StateLimits
from appliance.tasks import BackOff, Supervised, Tasks, in_background

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0


class Cluster:
    """A node's ties to the other nodes.

    Attributes:
        records: what all nodes know, beside states.
        nodes: the other nodes.
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
        settings: names this node, its folder and its patience.
        kvs: the shared store.
        hints: carries what nodes tell each other.
        tasks: runs what goes on for ever.
        pipeline: commits this node's events.
        archive: this node's.
        credentials: this node's own, which count where it is the first.
        counters: counts what goes wrong.

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
        self.nodes = Membership(
            settings.node_name, kvs, hints, tasks, counters, silent_seconds=float(limits.node_silent_seconds)
        )

        def fold() -> Fold:
            return Fold(pipeline.fold.reducers, Counters(), StateLimits.of(limits))

        self._refill = Refill(
            settings.data_path,
            kvs,
            hints.pubsub,
            pipeline,
            archive,
            self.records,
            self.nodes,
            counters,
            fold,
            wait_seconds=float(settings.kvs.refill_seconds),
            mark_seconds=float(settings.kvs.snapshot_seconds),
        )

    def roster(self) -> SharedRoster:
        """The roster that all nodes share, with this node's lists."""
        settings = self._settings
        return SharedRoster(
            self.records,
            settings.data_path / "roster",
            settings.node_name,
            RosterLimits.of(settings.limits),
            self._counters,
        )

    async def start(self, following: RosterWatch) -> None:
        """Be one of the nodes.

        Args:
            following: told of what other nodes change.

        Raises:
            BackendError: the store did not answer in time.
            SettingsError: other nodes run newer reducers.
        """
        self._refill.on_lost.add(lambda: self._after_loss(following))
        await patiently(lambda: self._join(following), self._settings.kvs.start_seconds)
        self.nodes.on_roster.add(following.tell)
        following.on_own_change.add(lambda: in_background(self.nodes.tell_of_roster()))
        self._task = self._tasks.run("refill", self._refill.run, owner="school", says_so=True)
        # Mostly there is nothing to bring, and who connects is served at once; else students are told to come later.
        try:
            async with asyncio.timeout(self._settings.kvs.start_seconds):
                await self._refill.done.wait()
        except TimeoutError:
            pass

    async def close(self) -> None:
        """Leave the others."""
        if self._task:
            await self._tasks.end(self._task)
            await self.nodes.close()
        await self.records.close()

    def findings(self) -> list[Finding]:
        """What is wrong between this node, the store and the other nodes."""
        return [*self._refill.findings(), *self.nodes.findings()]

    async def _join(self, following: RosterWatch) -> None:
        self.credentials = await share_credentials(self._kvs, self._settings.data_path, self.credentials)
        await self._refill.prepare()
        await self.records.put_back()
        await following.look_anew()
        await self.nodes.start()

    async def _after_loss(self, following: RosterWatch) -> None:
        await share_credentials(self._kvs, self._settings.data_path, self.credentials)
        await following.look_anew()


async def patiently(step: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Do a step of the start, again and again while a backend does not answer.

    Raises:
        BackendError: it did not within these seconds.
    """
    end = time.monotonic() + seconds
    back_off = BackOff(most=_RETRY_SECONDS)
    told = False
    while True:
        try:
            await step()
        except BackendError as error:
            if time.monotonic() >= end:
                raise
            if not told:
                told = True
                log.warning("%s It is tried again for %d s.", error, seconds)
            await asyncio.sleep(back_off.next())
        else:
            return
