"""The composition root: creates each part of an appliance from the settings and connects them to each other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from typing import cast

from appliance import plugins
from appliance.archive import Archive, Sync
from appliance.cluster.cluster import Cluster, retry
from appliance.cluster.credentials import Credentials, load_credentials
from appliance.config import Settings
from appliance.counters import Counters
from appliance.datafolder import notes
from appliance.errors import ArchiveError, ObserverError
from appliance.health import Finding, Health, files_limit, finding
from appliance.health.watchdog import Watchdog
from appliance.kvs import VolatileKVS, open_kvs
from appliance.lessons.class_control import ClassControl
from appliance.lessons.roster_watch import RosterWatch
from appliance.metrics import Metrics
from appliance.network.addresses import base_url
from appliance.network.announce import Announcer
from appliance.network.network import WILDCARDS, Network
from appliance.node.http_server import HttpServer
from appliance.node.listening import is_loopback
from appliance.node.measured import measure_archive, measure_kvs, measure_pubsub
from appliance.node.merging import Merging
from appliance.node.metric_sources import build_of, sources_of
from appliance.node.ready_file import Ready
from appliance.node.rebuilding import Rebuilding
from appliance.node.status import Status, status_of
from appliance.pipeline import Backends, Pipeline, PipelineOptions
from appliance.pubsub import open_pubsub
from appliance.pubsub.hints import Hints
from appliance.recovery.start import Recovery
from appliance.recovery.upkeep import Space, Upkeep
from appliance.roster import Roster, RosterLimits, open_roster
from appliance.roster.place import RosterPlace
from appliance.states import Fold, StateLimits
from appliance.tasks import Supervised, Tasks
from appliance.web.app import WebApp
from appliance.web.services import ClassServices, Monitoring


class Node:
    """One appliance, from its settings.

    Its parts are attributes, in the order in which they are created; each may use those before it.

    Attributes:
        port: the port that it listens on.
        supervised: the endless tasks that end with it.
    """

    def __init__(self, settings: Settings, stop: Callable[[], None] = lambda: None) -> None:
        """Create what needs no event loop.

        Args:
            settings: of the node.
            stop: called when an educator stops the program.

        Raises:
            SettingsError: a folder, file or URL of the settings cannot be used.
            ArchiveError: the archive cannot be written.
        """
        self.settings = settings
        self.port = settings.web.port
        self.supervised: list[Supervised] = []
        self._closing = False
        self._create_monitoring()
        self.credentials: Credentials = load_credentials(settings.data_path)
        self.catalog = plugins.load(settings.reducers_path, settings.reducers.disabled)
        self._create_backends()
        self._create_pipeline()
        self._create_class_services()
        self._create_network()
        self._create_web(stop)
        self._add_finding_sources()

    def _create_monitoring(self) -> None:
        self.counters = Counters()
        self.health = Health(self.counters)
        self.tasks = Tasks(self.health, self.counters)
        self.metrics = Metrics(self.counters)
        self.watchdog = Watchdog(self.health, self.counters, blocked_ms=self.settings.limits.loop_blocked_ms)

    def _create_backends(self) -> None:
        settings, counters = self.settings, self.counters
        self.kvs = open_kvs(settings.kvs.url, counters)
        self.pubsub = open_pubsub(
            settings.pubsub.url,
            counters,
            queue=settings.pubsub.queue,
            outgoing=settings.pubsub.outgoing,
            tasks=self.tasks,
        )
        self.hints = Hints(self.pubsub, self.tasks, self.health, counters)
        self.archive = Archive(
            settings.data_path / "archive",
            counters,
            segment_bytes=settings.archive.segment_bytes,
            sync=cast(Sync, settings.archive.sync),
        )
        measure_kvs(self.kvs, self.metrics)
        measure_pubsub(self.pubsub, self.metrics)
        measure_archive(self.archive, self.metrics)

    def _create_pipeline(self) -> None:
        settings, limits = self.settings, self.settings.limits
        reducers = [loaded.reducer for loaded in self.catalog.reducers]
        for reducer in reducers:
            # Prometheus sees no increase where a counter appears with its first value, so each begins at 0.
            self.counters.add(f"reducer_failures{{{reducer.name}}}", 0)
            self.counters.add(f"reducer_states_failed{{{reducer.name}}}", 0)
        self.fold = Fold(reducers, self.counters, StateLimits.of(limits), health=self.health)
        self.pipeline = Pipeline(
            self.fold,
            Backends(self.kvs, self.pubsub, self.archive),
            self.counters,
            PipelineOptions.of(settings),
            health=self.health,
            tasks=self.tasks,
            metrics=self.metrics,
        )
        # A shared store keeps the states itself; the one in memory is restored from snapshots and the archive.
        self.recovery = (
            Recovery(
                settings.data_path,
                self.kvs,
                self.pipeline,
                self.archive,
                self.counters,
                accept_gaps=settings.archive.accept_gaps,
            )
            if isinstance(self.kvs, VolatileKVS)
            else None
        )
        self.upkeep = Upkeep(settings, self.archive, self.recovery, self.counters)
        self.rebuilding = Rebuilding(self.pipeline, self.archive, self.health, self.counters, StateLimits.of(limits))

    def _create_class_services(self) -> None:
        settings = self.settings
        self.cluster = (
            Cluster(
                settings,
                self.kvs,
                self.hints,
                self.tasks,
                self.pipeline,
                self.archive,
                self.credentials,
                self.counters,
            )
            if self.kvs.shared
            else None
        )
        place = RosterPlace.of(settings)
        self.roster: Roster = (
            self.cluster.roster()
            if self.cluster and not place.chosen
            else open_roster(
                place.url,
                place.lists,
                RosterLimits.of(settings.limits),
                self.counters,
                node=settings.node_name,
                ask_removed=settings.roster.ask_removed,
            )
        )
        self.class_control = ClassControl(
            self.kvs, self.hints, self.pipeline.paused, self.cluster.records if self.cluster else None
        )
        if self.recovery:
            self.class_control.on_stored.add(self.recovery.save_classes)
        self.roster_watch = RosterWatch(self.roster, self.class_control)
        self.merging = Merging(
            self.roster,
            self.pipeline,
            self.kvs,
            self.class_control,
            self.rebuilding,
            settings.data_path / "archive",
            self.recovery,
        )

    def _create_network(self) -> None:
        web = self.settings.web
        self.network = Network(
            self.settings.data_path,
            self.counters,
            host=web.host,
            port=web.port,
            preferred=web.address,
            seconds=web.watch_seconds,
        )
        self.announcer = Announcer(self.network, self.counters)

    def _create_web(self, stop: Callable[[], None]) -> None:
        services = ClassServices(
            self.roster,
            self.class_control,
            self.catalog,
            self.pipeline,
            self.kvs,
            self.hints,
            self.merging.merge,
            self.cluster.membership if self.cluster else None,
        )

        def space() -> Space | None:
            return self.upkeep.space

        monitoring = Monitoring(self.counters, self.health, self.tasks, self.metrics, space)
        self.web = WebApp(self.settings, self.credentials, services, monitoring, self.network, stop)
        self.metrics.follow(
            sources_of(self.settings, self.pipeline, self.web, self.health, self.tasks, space), build_of(self.settings)
        )
        self.http_server = HttpServer(self.web, self.counters)

    def _add_finding_sources(self) -> None:
        """Let the registry of findings ask each part that can report on itself."""
        add = self.health.add_source
        add(lambda: self.catalog.findings, logs=True)
        add(lambda: self.recovery.findings if self.recovery else ())
        add(self.roster.findings)
        add(self.upkeep.findings)
        add(lambda: [finding("node.deaf")] if self.http_server.lost and not self._closing else [])
        add(self.rebuilding.findings)
        add(files_limit.findings)
        add(self._notes_of_files)
        # Closing is logged already, and is no error.
        add(lambda: [finding("node.closing")] if self._closing else [], logs=True)
        if self.cluster:
            add(self.cluster.findings, logs=True)
            add(self.cluster.records.findings)

    def _notes_of_files(self) -> list[Finding]:
        """What was found out about the data folder and the roster's folder while they were read and written."""
        place = RosterPlace.of(self.settings)
        folders = {self.settings.data_path, place.lists, *([] if place.file is None else [place.file])}
        return list({(one.code, one.subject): one for folder in folders for one in notes.findings(folder)}.values())

    async def start(self, listener: socket.socket) -> None:
        """Restore what was archived, then serve on a bound socket.

        Raises:
            BackendError: a backend cannot be reached.
        """
        self.health.belong_to_this_loop()
        if self.recovery:
            if self.roster.store.shared:
                await retry(self._reach_roster, self.settings.kvs.start_seconds)
            await self.merging.prepare()
            await self.recovery.restore()
        if self.cluster:
            await self._join_cluster(self.cluster)
            await self.merging.prepare()
        self.pipeline.start()
        await self.pipeline.settle()
        self.rebuilding.start(self.recovery)
        await self.merging.finish()
        self.supervised += self.upkeep.start(self.tasks)
        await self.roster_watch.check()
        self.roster_watch.on_change.add(self.web.feed.refresh)
        self._run("following", self.roster_watch.run, says_so=True)
        self.web.start()
        self._run("sessions.read", self.web.security.sessions.run)
        self.port = listener.getsockname()[1]
        self.network.listening_on(self.port)
        await self.http_server.start(listener)
        self.network.on_addresses.add(self.announcer.again)
        self._run("network", lambda task: self.network.watch())
        self._run("health", lambda task: self.health.watch())
        if self.settings.web.announce and not is_loopback(self.settings.web.host):
            self._run("announce", lambda task: self.announcer.run(self.port))
        self.watchdog.start()

    async def _reach_roster(self) -> None:
        await self.roster.class_ids()

    async def _join_cluster(self, cluster: Cluster) -> None:
        await cluster.start(self.roster_watch)
        self.credentials = cluster.credentials
        self.web.security.use(self.credentials)
        cluster.membership.on_presence.add(self.web.feed.students_changed)

    def _run(self, name: str, work: Callable[[Supervised], Awaitable[None]], *, says_so: bool = False) -> None:
        self.supervised.append(self.tasks.run(name, work, owner="node", says_so=says_so))

    async def stop(self) -> None:
        """Stop accepting, commit, sync, close everything.

        Raises:
            ObserverError: what was taken last could not be made durable; it was never acknowledged.
        """
        self._closing = True
        self.watchdog.stop()
        await self.merging.close()
        await self.rebuilding.close()
        await asyncio.gather(*(self.tasks.end(task) for task in self.supervised))
        await self.announcer.close()
        self.http_server.stop_accepting()
        self.pipeline.stop_retries()
        try:
            with contextlib.suppress(ObserverError):
                await self.pipeline.settle()
            await self.web.close()
            await self.pipeline.close()
            if self.cluster:
                await self.cluster.close()
            if self.recovery:
                with contextlib.suppress(ArchiveError):
                    await self.recovery.save()
        finally:
            await self.class_control.close()
            await self.http_server.close()
            with contextlib.suppress(ArchiveError):
                # What it cannot write now, the pipeline could not write either, and reported.
                await self.archive.close()
            await self.pubsub.close()
            await self.kvs.close()
            await self.roster.close()
            await self.tasks.close()

    async def ready(self) -> Ready:
        """What others need to use this appliance, with a new link that signs in once."""
        [view, *_] = await self.web.educators.classes.views()
        return Ready(
            os.getpid(), self.port, self.launch_url(), view.join_url, view.code, self.credentials.educator_token
        )

    @property
    def url(self) -> str:
        """The address of the appliance for programs on this computer."""
        host = self.settings.web.host
        return base_url("127.0.0.1" if host in WILDCARDS else host, self.port)

    def launch_url(self) -> str:
        """A link that opens the dashboard once, on this computer."""
        return f"{self.url}/?token={self.web.security.launch_links.create()}"

    async def status(self) -> Status:
        """The status at this moment.

        Raises:
            BackendError: the roster cannot be read.
        """
        views = await self.web.educators.classes.views()
        return status_of(views, self.health.findings(), self.web.students_online)

    async def set_paused(self, paused: bool) -> None:
        """Pause every class, or resume every class.

        Raises:
            BackendError: the state cannot be stored.
        """
        for section in await self.roster.classes():
            await self.class_control.set_state(section.class_id, "paused" if paused else "open")
