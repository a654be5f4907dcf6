"""School: what a node has when it shares its key-value store with others, put together and started in order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from appliance.archive import Archive
from appliance.config import Settings
from appliance.counters import Counters
from appliance.credentials import Credentials, share_credentials
from appliance.errors import BackendError, Notice
from appliance.following import Following
from appliance.kvs import KVS
from appliance.nodes import Nodes
from appliance.pipeline import Pipeline
from appliance.pubsub import PubSub
from appliance.refill import Refill
from appliance.roster import RosterLimits
from appliance.roster.shared import SharedRoster
from appliance.shared import SharedRecords
from appliance.states import Fold, StateLimits
from appliance.tasks import cancelled, in_background

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5


class School:
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
        pubsub: PubSub,
        pipeline: Pipeline,
        archive: Archive,
        credentials: Credentials,
        counters: Counters,
    ) -> None:
        """Args:
        settings: names this node, its folder and its patience.
        kvs: the shared store.
        pubsub: carries what nodes tell each other.
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
        self._task: asyncio.Task[None] | None = None
        self.records = SharedRecords(kvs, settings.data_path / "shared.jsonl")
        self.nodes = Nodes(settings.node_name, kvs, pubsub, counters, silent_seconds=float(limits.node_silent_seconds))

        def fold() -> Fold:
            return Fold(pipeline.fold.reducers, Counters(), StateLimits.of(limits))

        self._refill = Refill(
            settings.data_path,
            kvs,
            pubsub,
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

    async def start(self, following: Following) -> None:
        """Be one of the nodes.

        Args:
            following: told of what other nodes change.

        Raises:
            BackendError: the store or the pubsub did not answer in time.
            SettingsError: other nodes run newer reducers.
        """
        self._refill.on_lost = lambda: self._after_loss(following)
        await patiently(lambda: self._join(following), self._settings.kvs.start_seconds)
        self.nodes.on_roster = following.tell
        following.on_own_change = lambda: in_background(self.nodes.tell_of_roster())
        self._task = asyncio.create_task(self._refill.run(), name="refill")
        # Mostly there is nothing to bring, and who connects is served at once; else students are told to come later.
        try:
            async with asyncio.timeout(self._settings.kvs.start_seconds):
                await self._refill.done.wait()
        except TimeoutError:
            pass

    async def close(self) -> None:
        """Leave the others."""
        if self._task:
            await cancelled(self._task)
            await self.nodes.close()
        await self.records.close()

    def notices(self) -> list[Notice]:
        """What educators and IT staff should know."""
        return self._refill.notices()

    async def _join(self, following: Following) -> None:
        self.credentials = await share_credentials(self._kvs, self._settings.data_path, self.credentials)
        await self._refill.prepare()
        await self.records.put_back()
        await following.look_anew()
        await self.nodes.start()

    async def _after_loss(self, following: Following) -> None:
        await share_credentials(self._kvs, self._settings.data_path, self.credentials)
        await following.look_anew()


async def patiently(step: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Do a step of the start, again and again while a backend does not answer.

    Raises:
        BackendError: it did not within these seconds.
    """
    end = time.monotonic() + seconds
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
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return
