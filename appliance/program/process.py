"""The process: one program per data folder, the appliance in a thread of its own, an orderly end.

The main thread belongs to the desktop, because macOS allows a tray icon only there; without a desktop it waits. The
appliance runs in an event loop in a worker thread. Either side ends the other: `Program.quit` may be called from any
thread and any number of times, and a watchdog ends the process where something hangs.

=================================  ===================================================================================
a second start on the data folder  effect
=================================  ===================================================================================
plain                              opens the dashboard of the running program, exit 0, whatever its other flags are
with ``--no-browser`` or           an error that names the process, exit 2: a program started it, and must not assume
``--ready-file``                   that its own request is served
=================================  ===================================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from appliance import logs, node
from appliance.config import Settings
from appliance.datafolder import DataFolder, instance
from appliance.datafolder.files import remove
from appliance.datafolder.instance import Instance
from appliance.errors import DataFolderInUseError, ObserverError
from appliance.listeners import Listeners
from appliance.maintenance.upgrade import bring_up_to_date
from appliance.node import Node, Ready, Status
from appliance.program import parent, signals
from appliance.roster.place import RosterPlace
from appliance.tasks import in_background

log = logging.getLogger(__name__)

QUIT_SECONDS = 5.0
SECOND_START_SECONDS = 15.0
# The desktop starts after the appliance or after this time, so as not to take processor time from its start.
_DESKTOP_WAITS_SECONDS = 3.0
_STATUS_SECONDS = 1.0
_STATUS_TIMEOUT_SECONDS = 10.0


class Desktop(Protocol):
    """The desktop of the person who started the program, as the program uses it (`appliance.desktop.Desktop`)."""

    @property
    def opens_pages(self) -> bool:
        """Whether `open_page` is able and allowed to open a page."""

    @property
    def shows_status(self) -> bool:
        """Whether `run` shows the status of the appliance."""

    def open_page(self, url: str, wait_seconds: float = 0) -> None:
        """Open a page in the browser, and wait at most this long until it is there. Never raises."""

    def run(self, program: Program) -> None:
        """Show the program in the main thread, until it quits or there is nothing to show."""


class NoDesktop:
    """For a program that is to open no page and show no icon."""

    opens_pages = False
    shows_status = False

    def open_page(self, url: str, wait_seconds: float = 0) -> None:
        pass

    def run(self, program: Program) -> None:
        pass


def run(settings: Settings, ready_file: Path | None, desktop: Desktop | None = None) -> int:
    """Serve until the program is asked to end, or open the dashboard of the program that runs already.

    Args:
        settings: of the node.
        ready_file: where to write that the appliance listens; removed at the end.
        desktop: shows the program; None for no desktop.

    Returns:
        The exit code, 0 after an orderly end.

    Raises:
        ObserverError: it cannot start; the text says why.
    """
    logs.to_file(settings)
    desktop = desktop or NoDesktop()
    try:
        folder = DataFolder(settings.data_path)
    except DataFolderInUseError:
        if not settings.desktop.browser or ready_file is not None:
            raise
        link = instance.wait_for_link(settings.data_path, SECOND_START_SECONDS)
        if link is None:
            raise
        return _second_start(settings, desktop, *link)
    with folder:
        try:
            shared = settings.web.workers > 1
            with contextlib.closing(node.bind(settings.web.host, settings.web.port, share=shared)) as listener:
                instance.write(settings.data_path, Instance(os.getpid()))
                bring_up_to_date(folder, lists=RosterPlace.of(settings).lists)
                return Program(settings, listener, ready_file, desktop).run()
        finally:
            instance.remove(settings.data_path)
            if ready_file is not None:
                remove(ready_file)


def _second_start(settings: Settings, desktop: Desktop, running: Instance, link: str) -> int:
    log.info("Classroom Observer runs already (process %d) at %s.", running.pid, running.url)
    if settings.web.port and not running.url.endswith(f":{settings.web.port}"):
        log.info("Stop it first if it must listen on port %d.", settings.web.port)
    if desktop.opens_pages:
        desktop.open_page(link, SECOND_START_SECONDS)
    _print_link(link)
    return 0


def _print_link(link: str) -> bool:
    """Print a link that signs in, but only on a terminal: a log would keep it. Returns whether it was printed."""
    if sys.stdout is None or not sys.stdout.isatty():
        return False
    sys.stdout.write(f"Dashboard, works once: {link}\n")
    sys.stdout.flush()
    return True


class Program:
    """A running appliance, as the desktop controls it. All its methods may be called from any thread.

    Attributes:
        status: the last status of the appliance; None while it starts.
        on_status: called when `status` has changed, in the appliance's thread.
        on_quit: called when the program begins to end.
        ended: set when the appliance has ended.
    """

    def __init__(self, settings: Settings, listener: socket.socket, ready_file: Path | None, desktop: Desktop) -> None:
        self.status: Status | None = None
        self.on_status: Listeners[[]] = Listeners("the status")
        self.on_quit: Listeners[[]] = Listeners("the end")
        self.ended = threading.Event()
        self._settings = settings
        self._listener = listener
        self._ready_file = ready_file
        self._desktop = desktop
        self._failure: BaseException | None = None
        self._worker = threading.Thread(target=self._serve, name="appliance")
        self._started = threading.Event()
        self._quitting = threading.Event()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._node: Node | None = None

    def run(self) -> int:
        """Run it, from the main thread; returns the exit code.

        Raises:
            ObserverError: it cannot start; the text says why.
        """
        with signals.calling(self.quit, QUIT_SECONDS):
            parent.stop_with(self.quit)
            self._worker.start()
            self._started.wait(_DESKTOP_WAITS_SECONDS)
            try:
                if not self.ended.is_set():
                    self._desktop.run(self)
                signals.wait(self.ended)
            finally:
                self.quit()
                self._worker.join()
                if not _other_threads_run():
                    self._over.set()
        if self._failure is not None:
            raise self._failure
        return 0

    def quit(self) -> None:
        """Begin the orderly end of the program; further calls have no effect."""
        with self._lock:
            if self._quitting.is_set():
                return
            self._quitting.set()
        threading.Thread(target=self._watchdog, name="watchdog", daemon=True).start()
        self._stop_serving()
        self.on_quit()

    @property
    def quitting(self) -> bool:
        """Whether the end of the program has begun."""
        return self._quitting.is_set()

    def with_dashboard_link(self, use: Callable[[str], None]) -> None:
        """Call `use`, in the appliance's thread, with a link that opens the dashboard once, signed in."""

        async def call() -> None:
            if self._node is not None:
                use(self._node.launch_url())

        self._in_appliance(call)

    def set_paused(self, paused: bool) -> None:
        """Pause every class, or resume every class."""

        async def set_paused() -> None:
            if self._node is None:
                return
            try:
                await self._node.set_paused(paused)
                await self._update_status(self._node)
            except ObserverError as error:
                log.error("The class could not be %s: %s", "paused" if paused else "resumed", error)

        self._in_appliance(set_paused)

    def _in_appliance(self, coroutine: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine in the appliance's thread; nothing where the appliance does not run."""
        with self._lock:
            loop = self._loop
            if loop is not None and not self.ended.is_set():
                loop.call_soon_threadsafe(lambda: in_background(coroutine(), "desktop"))

    def _serve(self) -> None:
        """The worker thread: the appliance in an event loop."""
        try:
            with asyncio.Runner(loop_factory=node.loop_factory()) as runner:
                runner.run(self._main())
        except BaseException as error:
            self._failure = error
        finally:
            with self._lock:
                self._loop = None
                self.ended.set()
            self._started.set()
            self.quit()

    async def _main(self) -> None:
        stop = asyncio.Event()
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._stop = stop
        if self._quitting.is_set():
            stop.set()
        await node.serve(self._settings, self._listener, stop, self._ready_file, self._on_ready)

    def _on_ready(self, running: Node, ready: Ready) -> None:
        self._node = running
        data = self._settings.data_path
        instance.write(data, Instance(os.getpid(), running.url, running.web.program_routes.launch_secret))
        self._started.set()
        opens = self._desktop.opens_pages
        if opens:
            self._desktop.open_page(ready.dashboard_url)
        if not _print_link(ready.dashboard_url) and not opens:
            log.info(
                "The dashboard is at %s; sign in with the teacher key, which is in %s, or start the program once "
                "more in a terminal for a link.",
                running.url,
                data / "credentials.json",
            )
        if self._desktop.shows_status:
            running.tasks.run("status", lambda task: self._watch_status(running), owner="desktop")

    async def _watch_status(self, running: Node) -> None:
        while True:
            with contextlib.suppress(ObserverError):
                async with asyncio.timeout(_STATUS_TIMEOUT_SECONDS):
                    await self._update_status(running)
            await asyncio.sleep(_STATUS_SECONDS)

    async def _update_status(self, running: Node) -> None:
        status = await running.status()
        if status != self.status:
            self.status = status
            self.on_status()

    def _stop_serving(self) -> None:
        with self._lock:
            if self._loop is not None and self._stop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)

    def _watchdog(self) -> None:
        """End the process where its orderly end takes too long. What was acknowledged is on the disk."""
        if self._over.wait(QUIT_SECONDS):
            return
        served_to_the_end = self.ended.is_set() and self._failure is None
        log.error("The program did not stop within %d seconds and is ended by force.", QUIT_SECONDS)
        instance.remove(self._settings.data_path)
        if self._ready_file is not None:
            remove(self._ready_file)
        logging.shutdown()
        os._exit(0 if served_to_the_end else 1)


def _other_threads_run() -> bool:
    """Whether a thread would keep the process from ending, as one of a failed tray icon may."""
    return any(not thread.daemon and thread is not threading.current_thread() for thread in threading.enumerate())
