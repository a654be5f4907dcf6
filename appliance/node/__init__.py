"""One running appliance: opens every room in order, serves until it is told to stop, and closes them in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import ipaddress
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import cast

import msgspec
from aiohttp import web

from appliance import plugins
from appliance.archive import Archive, Sync
from appliance.cluster.cluster import Cluster
from appliance.cluster.credentials import Credentials, load_credentials
from appliance.config import Settings
from appliance.counters import Counters
from appliance.datafolder.files import write_private
from appliance.errors import ArchiveError, ObserverError, PortInUseError, SettingsError, place_of
from appliance.health import Finding, Health, files_limit, finding
from appliance.health.codes import SEVERITIES, Severity
from appliance.health.watchdog import Watchdog
from appliance.kvs import open_kvs
from appliance.kvs.memory import MemoryKVS
from appliance.lessons.class_control import ClassControl
from appliance.lessons.roster_watch import RosterWatch
from appliance.metrics import Build, Disk, Metrics, Sources, Waiting
from appliance.network.addresses import base_url
from appliance.network.announce import Announcer
from appliance.network.network import WILDCARDS, Network
from appliance.node.measured import measure_archive, measure_kvs, measure_pubsub
from appliance.pipeline import Backends, Pipeline, PipelineOptions
from appliance.pubsub import open_pubsub
from appliance.pubsub.hints import Hints
from appliance.recovery.rebuild import Rebuild
from appliance.recovery.start import Recovery
from appliance.recovery.upkeep import Upkeep
from appliance.roster import RosterLimits, open_roster
from appliance.states import Fold, StateLimits
from appliance.tasks import BackOff, Supervised, Tasks, cancelled, in_background
from appliance.web.app import WebApp
from appliance.web.security.idle_connections import LINGER_SECONDS, ServerLog

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0
# Objects more than were freed, at which Python looks for circles; its default is 700.
_COLLECT_AFTER = 50_000
# A school that comes back at one instant waits in the system, and is let in by so many in one turn of the event loop;
# between turns those who are here already are served. Windows takes one at a time, and has one backlog for good.
_BACKLOG = 1024
_ACCEPTED_AT_ONCE = 16 if sys.platform != "win32" else _BACKLOG
_SERIOUS = SEVERITIES[SEVERITIES.index("warning") :]


class Ready(msgspec.Struct):
    """What the ready file says once the appliance listens."""

    pid: int
    port: int
    dashboard_url: str
    join_url: str
    join_code: str
    educator_token: str


class Status(msgspec.Struct, frozen=True):
    """How the appliance is, at a glance.

    Attributes:
        students: how many are online.
        paused: whether every class is paused.
        findings: how many things are wrong, counted from the severity ``warning`` on.
        worst: the severity of the worst of them, ``ok`` where there is none.
        sentence: what the worst of them says, "" where there is none.
        join_url: where students join.
        code: the code they type; "" where each of several classes has its own.
    """

    students: int
    paused: bool
    findings: int
    worst: Severity
    sentence: str
    join_url: str
    code: str


class Node:
    """The rooms of one appliance, put together from its settings."""

    def __init__(self, settings: Settings, stop: Callable[[], None] = lambda: None) -> None:
        """Open what needs no event loop.

        Args:
            settings: what to run.
            stop: called when an educator stops the program.

        Raises:
            SettingsError: a folder, file or URL of the settings cannot be used.
            ArchiveError: the archive cannot be written.
        """
        limits = settings.limits
        self.settings = settings
        self.counters = Counters()
        self.health = Health(self.counters)
        self.tasks = Tasks(self.health, self.counters)
        self.metrics = Metrics(self.counters)
        self.watchdog = Watchdog(self.health, self.counters, blocked_ms=limits.loop_blocked_ms)
        self.credentials: Credentials = load_credentials(settings.data_path)
        self.catalog = plugins.load(settings.reducers_path, settings.reducers.disabled)
        self.kvs = open_kvs(settings.kvs.url, self.counters)
        self.pubsub = open_pubsub(
            settings.pubsub.url,
            self.counters,
            queue=settings.pubsub.queue,
            outgoing=settings.pubsub.outgoing,
            tasks=self.tasks,
        )
        self.hints = Hints(self.pubsub, self.tasks, self.health, self.counters)
        self.archive = Archive(
            settings.data_path / "archive",
            self.counters,
            segment_bytes=settings.archive.segment_bytes,
            sync=cast(Sync, settings.archive.sync),
        )
        measure_kvs(self.kvs, self.metrics)
        measure_pubsub(self.pubsub, self.metrics)
        measure_archive(self.archive, self.metrics)
        self.fold = Fold(
            [loaded.reducer for loaded in self.catalog.reducers],
            self.counters,
            StateLimits.of(limits),
            health=self.health,
        )
        self.pipeline = Pipeline(
            self.fold,
            Backends(self.kvs, self.pubsub, self.archive),
            self.counters,
            PipelineOptions.of(settings),
            health=self.health,
            tasks=self.tasks,
            metrics=self.metrics,
        )
        self.recovery = (
            Recovery(settings.data_path, self.kvs, self.pipeline, self.archive, self.counters)
            if isinstance(self.kvs, MemoryKVS)
            else None
        )
        self.school = (
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
        self.roster = (
            self.school.roster()
            if self.school and not settings.roster.url
            else open_roster(settings.roster_url, RosterLimits.of(limits), self.counters)
        )
        self.upkeep = Upkeep(settings, self.archive, self.recovery, self.counters)
        self.rebuild: Rebuild | None = None
        self.states = ClassControl(
            self.kvs, self.hints, self.pipeline.paused, self.school.records if self.school else None
        )
        self.following = RosterWatch(self.roster, self.states)
        if self.recovery:
            self.states.on_stored.add(self.recovery.save_classes)
        self.network = Network(
            settings.data_path,
            self.counters,
            host=settings.web.host,
            port=settings.web.port,
            preferred=settings.web.address,
            seconds=settings.web.watch_seconds,
        )
        self.announcer = Announcer(self.network, self.counters)
        self.web = WebApp(
            settings,
            self.credentials,
            self.catalog,
            self.pipeline,
            self.kvs,
            self.hints,
            self.tasks,
            self.roster,
            self.states,
            self.counters,
            self.health,
            self.network,
            stop,
            self.school.nodes if self.school else None,
            self.metrics,
        )
        self.metrics.follow(self._sources(), self._build())
        self.web.educators.space = lambda: self.upkeep.space
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None
        self.port = settings.web.port
        self._running: list[Supervised] = []
        self._rebuilding: asyncio.Task[None] | None = None
        self._closing = False
        self._add_sources()

    def _sources(self) -> Sources:
        """What metrics ask for when they are read."""
        pipeline = self.pipeline
        for loaded in self.catalog.reducers:
            # A rise from nothing to 1 would be none to Prometheus.
            self.counters.add(f"reducer_failures{{{loaded.reducer.name}}}", 0)
            self.counters.add(f"reducer_states_failed{{{loaded.reducer.name}}}", 0)

        def disk() -> Disk | None:
            space = self.upkeep.space
            if space is None:
                return None
            return Disk(space.archive_bytes, space.free_bytes, self.settings.archive.warn_free_bytes)

        return Sources(
            connections=self.web.connections,
            students=lambda: self.web.students_online,
            waiting=lambda: Waiting(pipeline.waiting_bytes, pipeline.buffer_bytes),
            reducer_seconds=lambda: self.fold.seconds,
            disk=disk,
            findings=self.health.findings,
            tasks=self.tasks.states,
        )

    def _build(self) -> Build:
        urls = (self.settings.kvs.url, self.settings.pubsub.url, self.settings.roster_url)
        return Build(self.settings.node_name, *(url.partition(":")[0] for url in urls))

    async def start(self, listener: socket.socket) -> None:
        """Bring back what was archived, then serve on a socket that is bound.

        Raises:
            BackendError: a backend cannot be reached.
        """
        self.health.belong_to_this_loop()
        if self.recovery:
            await self.recovery.restore()
        if self.school:
            await self.school.start(self.following)
            self.credentials = self.school.credentials
            self.web.security.use(self.credentials)
            self.web.security.signed_out.share(self.school.records)
            self._run("sessions", lambda task: self.web.security.signed_out.run())
            self.school.nodes.on_presence.add(self.web.feed.touch)
        self.pipeline.start()
        await self.pipeline.settle()
        if self.pipeline.fold.suspended:
            self._rebuilding = in_background(self._rebuild(), "rebuild")
        self._running += self.upkeep.start(self.tasks)
        await self.following.look()
        self.following.on_change.add(self.web.feed.look_again)
        self._run("following", self.following.run, says_so=True)
        self.web.start()
        self.port = listener.getsockname()[1]
        self.network.listening_on(self.port)
        self._runner = web.AppRunner(
            self.web.application,
            handle_signals=False,
            access_log=None,
            shutdown_timeout=1.0,
            auto_decompress=False,
            lingering_time=LINGER_SECONDS,
            logger=ServerLog(self.counters),
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self._listening = await asyncio.get_running_loop().create_server(
            self.web.strangers.protocol(self._runner.server), sock=listener, backlog=_ACCEPTED_AT_ONCE
        )
        # The event loop takes as many in one turn as it was given for a backlog; more may wait in the system.
        listener.listen(_BACKLOG)
        self.network.on_addresses.add(self.announcer.again)
        self._run("network", lambda task: self.network.watch())
        self._run("health", lambda task: self.health.watch())
        if self.settings.web.announce and not is_loopback(self.settings.web.host):
            self._run("announce", lambda task: self.announcer.run(self.port))
        self.watchdog.start()

    def _run(self, name: str, work: Callable[[Supervised], Awaitable[None]], *, says_so: bool = False) -> None:
        self._running.append(self.tasks.run(name, work, owner="node", says_so=says_so))

    async def stop(self) -> None:
        """Stop accepting, commit, sync, close everything.

        Raises:
            ObserverError: what was taken last could not be made durable; it was never acknowledged.
        """
        self._closing = True
        self.watchdog.stop()
        if self._rebuilding:
            await cancelled(self._rebuilding)
        await asyncio.gather(*(self.tasks.end(task) for task in self._running))
        await self.announcer.close()
        if self._listening:
            self._listening.close()
        self.pipeline.stop_retries()
        try:
            with contextlib.suppress(ObserverError):
                await self.pipeline.settle()
            await self.web.close()
            await self.pipeline.close()
            if self.school:
                await self.school.close()
            if self.recovery:
                with contextlib.suppress(ArchiveError):
                    await self.recovery.save()
        finally:
            await self.states.close()
            if self._runner:
                await self._runner.cleanup()
            with contextlib.suppress(ArchiveError):
                # What it cannot write now the pipeline could not either, and said so.
                await self.archive.close()
            await self.pubsub.close()
            await self.kvs.close()
            await self.roster.close()
            await self.tasks.close()

    async def ready(self) -> Ready:
        """What others need to use this appliance; it holds secrets, and a link that signs in once."""
        [view, *_] = await self.web.educators.class_views()
        return Ready(
            os.getpid(), self.port, self.launch_url(), view.join_url, view.code, self.credentials.educator_token
        )

    @property
    def url(self) -> str:
        """Where this computer itself finds the appliance."""
        host = self.settings.web.host
        return base_url("127.0.0.1" if host in WILDCARDS else host, self.port)

    def launch_url(self) -> str:
        """A link that opens the dashboard once, on this computer."""
        return f"{self.url}/?token={self.web.security.launch_token()}"

    async def status(self) -> Status:
        """What there is to tell at a glance."""
        views = await self.web.educators.class_views()
        code = views[0].code if len(views) == 1 else ""
        # The worst comes first.
        serious = [one for one in self.health.findings() if one.severity in _SERIOUS]
        return Status(
            students=self.web.students_online,
            paused=bool(views) and all(view.state == "paused" for view in views),
            findings=len(serious),
            worst=serious[0].severity if serious else "ok",
            sentence=serious[0].text if serious else "",
            join_url=views[0].join_url if views else "",
            code=code,
        )

    async def set_paused(self, paused: bool) -> None:
        """Pause every class, or let every class go on."""
        for section in await self.roster.classes():
            await self.states.set_state(section.class_id, "paused" if paused else "open")

    def _add_sources(self) -> None:
        """Let the registry of findings ask the rooms that know by themselves how they are."""
        add = self.health.add_source
        add(lambda: self.catalog.findings, logs=True)
        add(lambda: self.recovery.findings if self.recovery else ())
        add(self.roster.findings)
        add(self.upkeep.findings)
        add(self._findings)
        add(files_limit.findings)
        # That it closes is logged, and no error.
        add(lambda: [finding("node.closing")] if self._closing else [], logs=True)
        if self.school:
            add(self.school.findings, logs=True)
            add(self.school.records.findings)

    def _findings(self) -> Iterator[Finding]:
        """What the node itself knows."""
        if self._listening is not None and not self._closing and not self._listening.is_serving():
            yield finding("node.deaf")
        if self.rebuild and self.rebuild.progress < 1:
            for name in self.rebuild.names:
                yield finding("reducer.rebuild", name, percent=int(100 * self.rebuild.progress))

    async def _rebuild(self) -> None:
        """Rebuild the states of the reducers that are held, again with back-off where that fails."""
        back_off = BackOff(first=1.0, most=60.0)
        failed: set[str] = set()
        while self.pipeline.fold.suspended:
            rebuild = self.rebuild = Rebuild(
                self.pipeline, self.archive, self.pipeline.fold.suspended, limits=StateLimits.of(self.settings.limits)
            )
            try:
                await rebuild.run()
            except Exception as error:
                reason = str(error) if isinstance(error, ObserverError) else f"{place_of(error)}."
                self.counters.add("rebuild_failures")
                failed.update(rebuild.names)
                for name in rebuild.names:
                    self.health.report("reducer.rebuild_failed", name, detail=reason)
                await asyncio.sleep(back_off.next())
        for name in failed:
            self.health.clear("reducer.rebuild_failed", name)


async def serve(
    settings: Settings,
    listener: socket.socket,
    stop: asyncio.Event,
    ready_file: Path | None,
    on_ready: Callable[[Node, Ready], None],
) -> None:
    """Run one appliance until it is told to stop.

    Args:
        settings: what to run.
        listener: the bound socket that it serves on.
        stop: set, by a caller in this event loop, to make it stop; it may be set before the appliance has started.
        ready_file: where to say that the appliance listens.
        on_ready: called once, when the appliance serves.

    Raises:
        ObserverError: it cannot start; the text says why.
    """
    node = Node(settings, stop.set)
    starting = in_background(node.start(listener), "start", awaited=True)
    stopping = in_background(stop.wait(), "stop", awaited=True)
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        # Nothing was served yet, and what was read of the archive is there still.
        await cancelled(starting)
        return
    stopping.cancel()
    await starting
    # A commit holds thousands of decoded events at once. Looking through them again and again for circles, of which
    # JSON has none, would cost more than some megabytes that are given back later.
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    ready = await node.ready()
    log.info("Students join at %s with the code %s.", ready.join_url, ready.join_code)
    try:
        if ready_file is not None:
            _write_ready(ready_file, ready)
        on_ready(node, ready)
        await stop.wait()
        log.info("Stopping.")
    finally:
        try:
            async with asyncio.timeout(STOP_SECONDS - 0.5):
                await node.stop()
        except TimeoutError:
            log.error("Stopping took too long. Nothing that was acknowledged is lost.")
        except ObserverError as error:
            log.error("%s What came last was not acknowledged; students' pages keep it and send it again.", error)


def _write_ready(path: Path, ready: Ready) -> None:
    try:
        write_private(path, msgspec.json.encode(ready))
    except OSError as error:
        raise SettingsError(f"The ready file {path} cannot be written: {error.strerror}.") from error


def is_loopback(host: str) -> bool:
    """Whether nobody else can reach what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int, *, share: bool = False, listen: bool = True) -> socket.socket:
    """A socket that listens.

    Args:
        host: the address.
        port: the port; 0 for any free one.
        share: whether other processes of ours listen there too (Linux).
        listen: False to hold the port only.

    Raises:
        PortInUseError: another program listens there.
        SettingsError: the address or the port cannot be used.
    """
    try:
        [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError):
        raise SettingsError(f"web.host: {host!r} is not an address of this computer.") from None
    listener = socket.socket(family, kind, protocol)
    try:
        if sys.platform == "win32":
            # There SO_REUSEADDR would let two programs share the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if share:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        if listen:
            listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno in (errno.EADDRINUSE, getattr(errno, "WSAEADDRINUSE", -1), getattr(errno, "WSAEACCES", -1)):
            raise PortInUseError(
                f"Port {port} is in use by {_program_on(port) or 'another program'}. End it, or choose another port "
                "with --port."
            ) from None
        if error.errno == errno.EACCES:
            raise SettingsError(
                f"Port {port} may not be used without administrator rights; choose one above 1023."
            ) from None
        raise SettingsError(f"web.host: {host} port {port} cannot be listened on: {error.strerror}.") from error
    return listener


def _program_on(port: int) -> str | None:
    """The name and number of the process that listens on a TCP port, where Linux tells us."""
    try:
        listening = {
            fields[9]
            for table in ("/proc/net/tcp", "/proc/net/tcp6")
            for fields in map(str.split, Path(table).read_text().splitlines()[1:])
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port
        }
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if any(
                    str(link.readlink()) in {f"socket:[{inode}]" for inode in listening}
                    for link in (process / "fd").iterdir()
                ):
                    return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    except (OSError, ValueError, IndexError):
        pass
    return None


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop; None where Python's own is used."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
