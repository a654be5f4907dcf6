"""The program as a person starts it, in an environment that a test controls."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from appliance.datafolder.sealed import unseal

ROOT = Path(__file__).parents[2]
PATIENCE = 90.0

posix = pytest.mark.skipif(os.name != "posix", reason="signals and shell scripts are those of POSIX")


def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> Any:
    """Wait for a condition; returns its result."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"Waited in vain: {what}."
        time.sleep(0.05)
    return found


def signs_in(link: str) -> bool:
    """Whether a link opens the dashboard."""
    address = urlsplit(link)
    connection = HTTPConnection(address.netloc, timeout=10)
    try:
        connection.request("GET", f"{address.path}?{address.query}")
        answer = connection.getresponse()
        return answer.status == 303 and "Set-Cookie" in answer.headers
    finally:
        connection.close()


class Program:
    """One start of the program.

    Attributes:
        log: its output on stderr so far.
    """

    def __init__(
        self, folder: Path, program: Sequence[str], *words: str, environment: Mapping[str, str], **options: Any
    ) -> None:
        self.data = folder / "data"
        self.errors = folder / f"stderr-{time.monotonic_ns()}"
        command = [*program, "--host", "127.0.0.1", "--port", "0", "--data-dir", str(self.data), *words]
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                **options,
            )

    @property
    def log(self) -> str:
        return self.errors.read_text(encoding="utf-8", errors="replace")

    @property
    def instance(self) -> dict[str, Any]:
        """The content of its instance file; {} until it serves."""
        try:
            found: dict[str, Any] = json.loads((self.data / "instance.json").read_bytes())
        except FileNotFoundError:
            return {}
        return found if found["pid"] in (self.process.pid, *self._children()) and found["url"] else {}

    def ready(self) -> Program:
        """Wait until it serves."""
        until(lambda: self.instance or self.process.poll() is not None, "the program serves")
        assert self.process.poll() is None, self.log
        return self

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """An educator's request; returns the answer's JSON."""
        token = json.loads(unseal((self.data / "credentials.json").read_bytes()))["educator_token"]
        address = self.instance["url"].removeprefix("http://")
        connection = HTTPConnection(address, timeout=PATIENCE)
        try:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            assert answer.status < 300, answer.status
            return json.loads(answer.read())
        finally:
            connection.close()

    def _children(self) -> list[int]:
        """Its child processes: a packaged one-file program runs as the child of the process that unpacked it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(child) for child in children.read_text().split()] if children.exists() else []

    def kill(self) -> None:
        """Kill it."""
        if self.process.poll() is None:
            for child in self._children():
                os.kill(child, signal.SIGKILL)
            self.process.kill()
        self.wait()

    def wait(self, seconds: float = PATIENCE) -> int:
        return self.process.wait(timeout=seconds)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()


class Desk:
    """Where programs are started: a folder, and an environment without a desktop until a test gives one."""

    def __init__(self, folder: Path, program: Sequence[str] = (sys.executable, "run.py")) -> None:
        self.folder = folder
        self._program = program
        self.log_file = folder / "log" / "classroom-observer.log"
        self.environment = {
            name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
        }
        self.environment["CLASSROOM_OBSERVER_LOG_DIR"] = str(folder / "log")
        self.environment["CLASSROOM_OBSERVER_REDUCERS__FOLDER"] = str(folder / "no-plugins")
        self._started: list[Program] = []

    def start(self, *words: str, **options: Any) -> Program:
        """Start the program with these flags beside its own."""
        program = Program(self.folder, self._program, *words, environment=self.environment, **options)
        self._started.append(program)
        return program

    def fake_program(self, name: str, script: str = 'echo "$@" >> $CALLS') -> Path:
        """Put a shell script first on the path; returns the file ``$CALLS``, to which it may write."""
        programs = self.folder / "programs"
        programs.mkdir(exist_ok=True)
        calls = programs / f"{name}.calls"
        (programs / name).write_text(f"#!/bin/sh\nCALLS={calls}\n{script}\n")
        (programs / name).chmod(0o755)
        path = self.environment["PATH"]
        if not path.startswith(f"{programs}:"):
            self.environment["PATH"] = f"{programs}:{path}"
        return calls

    def with_browser(self) -> Path:
        """Pretend that there is a desktop with a browser; returns the file with the addresses that it opens."""
        self.environment["DISPLAY"] = ":none"
        calls = self.fake_program("browser")
        self.environment["BROWSER"] = str(calls.with_suffix(""))
        return calls

    def close(self) -> None:
        for program in self._started:
            program.kill()


@contextmanager
def desk(folder: Path, program: Sequence[str] = (sys.executable, "run.py")) -> Iterator[Desk]:
    """An environment whose programs, started with this command line, end with it."""
    made = Desk(folder, program)
    try:
        yield made
    finally:
        made.close()
