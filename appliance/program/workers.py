"""Workers: several whole nodes on one port of one Linux computer, started, watched and ended together.

Each worker is a process with a node of its own, named after this one (``NAME-1``, ``NAME-2``, ...), with its data in
``workers/NUMBER`` of the data folder; the kernel distributes new connections among them (SO_REUSEPORT). They share the
key-value store and the pubsub like nodes on different computers. The lists of classes and students stay in the folder
``roster`` of the data folder. Commands that read archives find those of all workers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections import deque
from pathlib import Path

import msgspec

from appliance import node
from appliance.config import Settings
from appliance.datafolder import READY, WORKERS, DataFolder
from appliance.datafolder.files import make_folder, remove
from appliance.errors import ObserverError, SettingsError
from appliance.kvs import kvs_facts
from appliance.maintenance.upgrade import bring_up_to_date
from appliance.network.addresses import base_url
from appliance.node.ready_file import read_ready_file, write_ready_file
from appliance.program.parent import end_with_parent
from appliance.pubsub import pubsub_facts
from appliance.roster import roster_facts
from appliance.roster.place import RosterPlace
from appliance.text import counted

log = logging.getLogger(__name__)

STOP_SECONDS = 4.7
READY_SECONDS = 90.0
DEATHS = 5
"""So many ends of one worker within `DEATHS_SECONDS` end all of them: another restart would not help."""
DEATHS_SECONDS = 60.0
_POLL_SECONDS = 0.1
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}


class _Worker:
    """A worker: its process, and when its earlier processes died."""

    def __init__(self, number: int, settings: Settings) -> None:
        self.number = number
        self.settings = settings
        self.ready_file = settings.data_path / READY
        self.pid = 0
        self.deaths: deque[float] = deque(maxlen=DEATHS)


def run(settings: Settings, ready_file: Path | None) -> int:
    """Run as many workers as the settings say, until SIGTERM or SIGINT.

    Returns:
        The exit code, 0 after an orderly end.

    Raises:
        ObserverError: they cannot start; the text says why.
    """
    check(settings)
    with DataFolder(settings.data_path) as folder:
        bring_up_to_date(folder, lists=RosterPlace.of(settings).lists)
        # Reserves the port for all of them, also one that the system chose; without `listen` it gets no connections.
        with contextlib.closing(node.bind(settings.web.host, settings.web.port, share=True, listen=False)) as holder:
            port = holder.getsockname()[1]
            workers = [_Worker(n, worker_settings(settings, n, port)) for n in range(1, settings.web.workers + 1)]
            try:
                return _Parent(workers, settings, port, ready_file).run()
            finally:
                if ready_file is not None:
                    remove(ready_file)


def check(settings: Settings) -> None:
    """Raises:
    SettingsError: workers cannot run under these settings; the text says what to change.
    """
    if not sys.platform.startswith("linux"):
        raise SettingsError("--workers needs Linux; on other systems run one node, or several behind a proxy.")
    for name, url, facts in (
        ("kvs", settings.kvs.url, kvs_facts(settings.kvs.url)),
        ("pubsub", settings.pubsub.url, pubsub_facts(settings.pubsub.url)),
    ):
        if not facts.shared:
            raise SettingsError(
                f"--workers needs a {name} that processes can share, and {url} is for one process; set --{name} to "
                "redis://..."
            )
    place = RosterPlace.of(settings)
    if place.chosen and not roster_facts(place.url).shared:
        raise SettingsError("--workers needs a roster that processes can share; leave --roster out.")


def worker_settings(settings: Settings, number: int, port: int) -> Settings:
    """The settings of one worker."""
    return msgspec.structs.replace(
        settings,
        node=f"{settings.node_name[:58]}-{number}",
        data_dir=str(settings.data_path.absolute() / WORKERS / str(number)),
        log_dir=str(settings.log_path.absolute() / f"worker-{number}"),
        web=msgspec.structs.replace(settings.web, port=port),
        desktop=msgspec.structs.replace(settings.desktop, tray=False, browser=False),
    )


class _Parent:
    """Starts the workers, restarts those that die, ends all."""

    def __init__(self, workers: list[_Worker], settings: Settings, port: int, ready_file: Path | None) -> None:
        self._workers = workers
        self._settings = settings
        self._port = port
        self._ready_file = ready_file
        self._ready = False
        self._restarts = 0
        self._mask: set[int | signal.Signals] = set()

    def run(self) -> int:
        self._mask = set(signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS))
        try:
            self._share_lists()
            for worker in self._workers:
                self._start(worker)
            return self._watch()
        finally:
            self._stop()
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _share_lists(self) -> None:
        """Give the first worker, and through it all others, the lists in the data folder."""
        # Commands search it before the archives of the workers.
        make_folder(self._settings.data_path / "archive")
        lists = self._settings.data_path.absolute() / "roster"
        make_folder(lists)
        for worker in self._workers:
            make_folder(worker.settings.data_path)
        link = self._workers[0].settings.data_path / "roster"
        if not link.exists():
            link.symlink_to(lists)

    def _start(self, worker: _Worker) -> None:
        remove(worker.ready_file)
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        worker.pid = os.fork()
        if worker.pid == 0:
            os._exit(self._serve(worker, parent))

    def _serve(self, worker: _Worker, parent: int) -> int:
        """In the worker's process."""
        try:
            # Without its parent, nothing would end it.
            end_with_parent()
            if os.getppid() != parent:
                return 1
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            from appliance.program import process

            return process.run(worker.settings, worker.ready_file)
        except ObserverError as error:
            log.error("Worker %d: %s", worker.number, error)
            return error.exit_code
        except BaseException:
            log.exception("Worker %d ended because of an error in the program.", worker.number)
            return 1
        finally:
            logging.shutdown()

    def _watch(self) -> int:
        began = time.monotonic()
        while True:
            found = signal.sigtimedwait(_SIGNALS, _POLL_SECONDS)
            if found is not None and found.si_signo in (signal.SIGTERM, signal.SIGINT):
                log.info("Stopping %s.", counted(len(self._workers), "worker"))
                return 0
            code = self._reap()
            if code is not None:
                return code
            if not self._ready and all(worker.ready_file.exists() for worker in self._workers):
                self._write_ready_file()
            if not self._ready and time.monotonic() - began > READY_SECONDS:
                raise ObserverError(f"The workers did not all start within {READY_SECONDS:.0f} seconds; see the log.")

    def _reap(self) -> int | None:
        """Restart the workers that died; returns the exit code where that would not help."""
        for worker in self._workers:
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if not pid:
                continue
            worker.pid = 0
            code = os.waitstatus_to_exitcode(status)
            if not self._ready and code > 0:
                log.error("Worker %d could not start.", worker.number)
                return code
            now = time.monotonic()
            worker.deaths.append(now)
            if len(worker.deaths) == DEATHS and now - worker.deaths[0] < DEATHS_SECONDS:
                log.error("Worker %d ended %d times within %d s; all end.", worker.number, DEATHS, DEATHS_SECONDS)
                return 1
            self._restarts += 1
            log.error(
                "Worker %d ended (%s) and is started again; restarts so far: %d.",
                worker.number,
                f"signal {-code}" if code < 0 else f"exit code {code}",
                self._restarts,
            )
            self._start(worker)
        return None

    def _write_ready_file(self) -> None:
        """Write the ready file of all workers together."""
        self._ready = True
        first = read_ready_file(self._workers[0].ready_file)
        # Only one worker knows a link that signs in once; the login page is the same on all.
        login = f"{base_url('127.0.0.1', self._port)}/login"
        ready = msgspec.structs.replace(first, pid=os.getpid(), port=self._port, dashboard_url=login)
        if self._ready_file is not None:
            write_ready_file(self._ready_file, ready)
        log.info("%s on port %d.", counted(len(self._workers), "worker serves", "workers serve"), self._port)

    def _stop(self) -> None:
        left = [worker for worker in self._workers if worker.pid]
        for worker in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGTERM)
        end = time.monotonic() + STOP_SECONDS
        while left and time.monotonic() < end:
            left = [worker for worker in left if not os.waitpid(worker.pid, os.WNOHANG)[0]]
            time.sleep(0.02)
        for worker in left:
            log.error(
                "Worker %d did not stop in time and is ended by force. Nothing that was acknowledged is lost.",
                worker.number,
            )
            os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)
