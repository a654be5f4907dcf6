"""The program as a whole: one instance per data folder, the appliance in a thread of its own, and the desktop.

The main thread belongs to the tray icon, because macOS wants it so; where there is no tray it waits. The appliance runs
in an event loop in a worker thread. Either side ends the other: `Program.quit` may be called from any thread and as
often as one likes, and a watchdog ends the process where something hangs.

============================  ========================================================================================
a second start on the folder  what it does
============================  ========================================================================================
plain                         opens the dashboard of the one that runs, exit 0, whatever its other flags say
with --no-browser, or with    an error that names the process, exit 2: a program started it, and must not believe
--ready-file                  that what it asked for runs
============================  ========================================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from appliance import logs, node
from appliance.config import Settings
from appliance.datafolder import DataFolder, instance
from appliance.datafolder.instance import Instance
from appliance.desktop import browser
from appliance.errors import DataFolderInUseError, ObserverError
from appliance.listeners import Listeners
from appliance.maintenance.upgrade import bring_up_to_date
from appliance.node import Node, Ready, Status
from appliance.program import parent
from appliance.tasks import in_background

log = logging.getLogger("classroom_observer.desktop")

QUIT_SECONDS = 5.0
SECOND_START_SECONDS = 15.0
# So long the tray waits for the appliance, so as not to take the processor from it while it starts.
_TRAY_WAITS_SECONDS = 3.0
_STATUS_SECONDS = 1.0
_STATUS_PATIENCE_SECONDS = 10.0


def run(settings: Settings, ready_file: Path | None, config_file: Path | None = None) -> int:
    """Serve until somebody ends it, or bring the dashboard of the one that runs already to the front.

    Args:
        settings: what to run.
        ready_file: where to say that the appliance listens; removed at the end.
        config_file: the configuration file that was named, which a start at login names again.

    Returns:
        The exit code, 0 after an orderly end.

    Raises:
        ObserverError: it cannot start; the text says why.
    """
    logs.to_file(settings)
    try:
        folder = DataFolder(settings.data_path)
    except DataFolderInUseError:
        if not settings.desktop.browser or ready_file is not None:
            raise
        link = instance.wait_for_link(settings.data_path, SECOND_START_SECONDS)
        if link is None:
            raise
        return _second_start(settings, *link)
    with folder:
        try:
            shared = settings.web.workers > 1
            with contextlib.closing(node.bind(settings.web.host, settings.web.port, share=shared)) as listener:
                instance.write(settings.data_path, Instance(os.getpid()))
                bring_up_to_date(folder)
                return Program(settings, listener, ready_file, config_file).run()
        finally:
            instance.remove(settings.data_path)
            if ready_file is not None:
                ready_file.unlink(missing_ok=True)


def _second_start(settings: Settings, running: Instance, link: str) -> int:
    log.info("Classroom Observer runs already (process %d) at %s.", running.pid, running.url)
    if settings.web.port and not running.url.endswith(f":{settings.web.port}"):
        log.info("End it first if it shall listen on port %d.", settings.web.port)
    if browser.has_desktop():
        browser.show(link, SECOND_START_SECONDS)
    _tell_link(link)
    return 0


def _tell_link(link: str) -> bool:
    """Show a link that signs in, but only to a person at the terminal: a log would keep it. Whether there is one."""
    if sys.stdout is None or not sys.stdout.isatty():
        return False
    sys.stdout.write(f"Dashboard, works once: {link}\n")
    sys.stdout.flush()
    return True


class Program:
    """A running appliance and what shows of it on the desktop.

    Attributes:
        settings: what runs.
        config_file: the configuration file that was named; None for the default one.
        status: how the appliance is; None while it is starting.
        on_status: called with each new status, in the appliance's thread.
        ended: set when the appliance has ended.
    """

    def __init__(
        self, settings: Settings, listener: socket.socket, ready_file: Path | None, config_file: Path | None = None
    ) -> None:
        self.settings = settings
        self.config_file = config_file
        self.status: Status | None = None
        self.on_status: Listeners[[Status]] = Listeners("the status")
        self.on_quit: Listeners[[]] = Listeners("the end")
        self.ended = threading.Event()
        self._listener = listener
        self._ready_file = ready_file
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
        """Run it from the main thread; returns the exit code.

        Raises:
            ObserverError: it cannot start; the text says why.
        """
        with _signals(self.quit):
            parent.stop_with(self.quit)
            self._worker.start()
            self._started.wait(_TRAY_WAITS_SECONDS)
            try:
                self._show()
                _wait(self.ended)
            finally:
                self.quit()
                self._worker.join()
                if not _others_run():
                    self._over.set()
        if self._failure is not None:
            raise self._failure
        return 0

    def quit(self) -> None:
        """End the program in good order, from whichever thread; further calls change nothing."""
        with self._lock:
            if self._quitting.is_set():
                return
            self._quitting.set()
        threading.Thread(target=self._watchdog, name="watchdog", daemon=True).start()
        self._stop_serving()
        self.on_quit()

    @property
    def quitting(self) -> bool:
        """Whether the program is about to end."""
        return self._quitting.is_set()

    def open_dashboard(self, place: str = "") -> None:
        """Open the dashboard in the browser, signed in.

        Args:
            place: what to show of it: ``join``, ``about``, or "" for the class.
        """

        async def opened() -> None:
            if self._node is not None:
                browser.open_url(self._node.launch_url() + (f"#{place}" if place else ""))

        self._ask(opened)

    def set_paused(self, paused: bool) -> None:
        """Pause every class, or let every class go on."""

        async def set_paused() -> None:
            if self._node is None:
                return
            try:
                await self._node.set_paused(paused)
                await self._tell_status(self._node)
            except ObserverError as error:
                log.error("The class could not be %s: %s", "paused" if paused else "resumed", error)

        self._ask(set_paused)

    def open_data_folder(self) -> None:
        """Show the data folder in the file manager."""
        browser.open_folder(self.settings.data_path)

    def _ask(self, coroutine: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have something done in the appliance's thread; nothing where it has ended."""
        with self._lock:
            loop = self._loop
            if loop is not None and not self.ended.is_set():
                loop.call_soon_threadsafe(lambda: in_background(coroutine(), "desktop"))

    def _show(self) -> None:
        """The desktop's side, until the appliance has ended or there is nothing to show."""
        wanted = self.settings.desktop
        if not (wanted.tray or wanted.browser) or self.ended.is_set():
            return
        if not browser.has_desktop():
            log.info("No desktop was found, so no browser is opened and there is no tray icon.")
        elif wanted.tray:
            from appliance.desktop.tray import Tray

            Tray(self).show()

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

        def on_ready(running: Node, ready: Ready) -> None:
            self._node = running
            instance.write(
                self.settings.data_path, Instance(os.getpid(), running.url, running.web.program_routes.launch_secret)
            )
            self._started.set()
            opens = self.settings.desktop.browser and browser.has_desktop()
            if opens:
                browser.open_url(ready.dashboard_url)
            if not _tell_link(ready.dashboard_url) and not opens:
                log.info(
                    "The dashboard is at %s; sign in with the educator's token, which stands in %s, or start the "
                    "program once more in a terminal for a link.",
                    running.url,
                    self.settings.data_path / "credentials.json",
                )
            if self.settings.desktop.tray and browser.has_desktop():
                running.tasks.run("status", lambda task: self._keep_telling(running), owner="desktop")

        await node.serve(self.settings, self._listener, stop, self._ready_file, on_ready)

    async def _keep_telling(self, running: Node) -> None:
        """Tell the tray whenever something is different from what it shows."""
        while True:
            with contextlib.suppress(ObserverError):
                async with asyncio.timeout(_STATUS_PATIENCE_SECONDS):
                    await self._tell_status(running)
            await asyncio.sleep(_STATUS_SECONDS)

    async def _tell_status(self, running: Node) -> None:
        status = await running.status()
        if status != self.status:
            self.status = status
            self.on_status(status)

    def _stop_serving(self) -> None:
        with self._lock:
            if self._loop is not None and self._stop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)

    def _watchdog(self) -> None:
        """End the process where its orderly end takes too long. What was acknowledged is on the disk."""
        if self._over.wait(QUIT_SECONDS):
            return
        served_out = self.ended.is_set() and self._failure is None
        log.error("The program did not end by itself within %d seconds and is ended now.", QUIT_SECONDS)
        instance.remove(self.settings.data_path)
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)
        logging.shutdown()
        os._exit(0 if served_out else 1)


def _others_run() -> bool:
    """Whether a thread is left that would keep the process from ending, as one of a failed tray icon may be."""
    return any(not thread.daemon and thread is not threading.current_thread() for thread in threading.enumerate())


def _wait(event: threading.Event) -> None:
    # Without a limit of time no handler of Ctrl+C would run meanwhile on Windows.
    while not event.wait(3600 if sys.platform != "win32" else 0.5):
        pass


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` when the system asks the program to end."""
    if sys.platform == "win32":
        with _console_events(stop):
            yield
        return
    # A signal that was ignored when we were started, as nohup does, stays so.
    wanted = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    wanted = {number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN}
    # They are blocked in every thread, and one thread waits for them: so neither the event loop nor the desktop's own
    # loop, which takes SIGINT for itself, can miss or steal one.
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)

    def listen() -> None:
        while True:
            signal.sigwait(wanted)
            stop()

    threading.Thread(target=listen, name="signals", daemon=True).start()
    # They stay blocked to the very end: a second one, sent while the program ends, must not turn a good end into a bad.
    yield


@contextlib.contextmanager
def _console_events(stop: Callable[[], None]) -> Iterator[None]:
    """Windows: Ctrl+C, Ctrl+Break, the closed console window, the end of the session."""
    import ctypes

    def happened(kind: int) -> bool:
        stop()
        if kind >= 2:
            # The system ends the process when this returns: the console is closed, or the person signs out.
            time.sleep(QUIT_SECONDS)
        return True

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    handler = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_uint)(happened)  # type: ignore[attr-defined]
    kernel.SetConsoleCtrlHandler(handler, True)
    try:
        yield
    finally:
        kernel.SetConsoleCtrlHandler(handler, False)
