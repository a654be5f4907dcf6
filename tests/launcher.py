"""The program as its users start it: a separate process, on loopback, with its data in a folder of the test."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[1]
PATIENCE = 30.0
"""Seconds after which waiting for a condition fails, long enough for the slowest machine."""


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"Waited in vain: {what}."
        time.sleep(0.02)


def free_port() -> int:
    """A port that is free, and that no system hands out to outgoing connections: one that stays free while the program
    is down, however often clients knock."""
    while True:
        with socket.socket() as probe:
            try:
                port = random.randrange(15000, 32000)
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Program:
    """One appliance, which can be stopped in every way and started again on the same data and port.

    Attributes:
        data: its data folder.
        log: its output on standard error, of all runs together.
        ready: the content of its ready file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        data: Path | None = None,
        environment: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        self.data = data or folder / "data"
        self.log = folder / "program.log"
        self.ready: dict[str, Any] = {}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = dict(environment or {})
        self._ready_file = folder / "ready.json"
        self._flags = list(flags)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process is not None
        return self._process.pid

    def begin(self) -> None:
        """Start the process without waiting for it."""
        assert self._process is None
        self._ready_file.unlink(missing_ok=True)
        command = [sys.executable, str(ROOT / "run.py"), "--no-tray", "--no-browser", *self._flags]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--data-dir", str(self.data), "--ready-file", str(self._ready_file)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stderr=log, env={**os.environ, **self.environment}
            )

    def wait_ready(self) -> None:
        """Wait until it serves."""
        process = self._process
        assert process is not None
        until(lambda: self._ready_file.exists() or process.poll() is not None, "the program is ready")
        assert process.poll() is None, f"The program ended at its start:\n{self.last_words()}"
        self.ready = json.loads(self._ready_file.read_text())

    def start(self) -> Program:
        """Start it, and wait until it serves; if that fails, or the tests are interrupted, it is stopped."""
        self.begin()
        try:
            self.wait_ready()
        except BaseException:
            self.end()
            raise
        return self

    def kill(self) -> None:
        """Kill it, as a power cut would, between two instructions."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self, *, patience: float = PATIENCE) -> int:
        """Stop it as a service manager does; returns its exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs after `patience` seconds.
        """
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        code = process.wait(patience)
        self._process = None
        return code

    def end(self) -> None:
        """Make sure that no process is left, whatever the result of the test."""
        if self._process is not None:
            self.kill()

    def last_words(self) -> str:
        """The end of its output on standard error."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another of its commands on the same data."""
        command = [sys.executable, str(ROOT / "run.py"), *arguments]
        return subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False
        )

    def get(self, path: str) -> Any:
        """The answer to an educator's GET request."""
        request = Request(self.url + path, headers={"Authorization": f"Bearer {self.ready['educator_token']}"})
        with urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to an educator's POST request."""
        headers = {
            "Authorization": f"Bearer {self.ready['educator_token']}",
            "Content-Type": "application/json",
        }
        with urlopen(Request(self.url + path, json.dumps(body).encode(), headers), timeout=PATIENCE) as answer:
            return json.load(answer)
