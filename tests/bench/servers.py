"""Starts the servers that are measured, each in a separate process, and reads their resource usage from the system."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from tests.bench.load import Plan, Result

ROOT = Path(__file__).parents[2]
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PATIENCE = 60
# All students of a run join at once.
_NO_RATE = {
    "CLASSROOM_OBSERVER_LIMITS__JOINS_PER_MINUTE": "1000000",
    "CLASSROOM_OBSERVER_LIMITS__ADDRESS_JOINS_PER_MINUTE": "1000000",
}


class Server:
    """A running server.

    Attributes:
        port: on 127.0.0.1.
        ready: its output when it was ready.
        token: the educator token; "" for a bare server.
    """

    def __init__(self, process: subprocess.Popen[bytes], ready: dict[str, Any]) -> None:
        self.process = process
        self.ready = ready
        self.port: int = ready["port"]
        self.token: str = ready.get("educator_token", "")

    def cpu_seconds(self) -> float:
        """Processor time it has used, in user and kernel mode, all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_mib(self) -> float:
        """Memory it holds."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("The system does not report how much memory the server uses.")

    async def tokens(self, number: int) -> list[str]:
        """Let students join; a bare server accepts anybody."""
        if "join_code" not in self.ready:
            return ["anybody"] * number
        tokens = []
        async with aiohttp.ClientSession() as client:
            for name in range(number):
                body = {"code": self.ready["join_code"], "name": f"Student {name}"}
                async with client.post(f"http://127.0.0.1:{self.port}/api/v1/join", json=body) as answer:
                    tokens.append((await answer.json())["token"])
        return tokens


@contextmanager
def bare() -> Iterator[Server]:
    """The baseline."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.json"
        with _process([sys.executable, "-m", "tests.bench.ceiling", str(ready)], ready) as server:
            yield server


# The load generator sends as fast as it can, which no student does: with budgets, only they would be measured.
_NO_BUDGETS = {
    "CLASSROOM_OBSERVER_LIMITS__STUDENT_BYTES_PER_SECOND": "2000000000",
    "CLASSROOM_OBSERVER_LIMITS__STUDENT_BURST_BYTES": "2000000000",
    "CLASSROOM_OBSERVER_LIMITS__STUDENT_WORK": "100",
    "CLASSROOM_OBSERVER_LIMITS__STUDENT_WORK_BURST_MS": "1000000",
    "CLASSROOM_OBSERVER_LIMITS__STUDENT_BUFFER_BYTES": "2000000000",
}


@contextmanager
def ours(options: dict[str, str] | None = None, profile: Path | None = None) -> Iterator[Server]:
    """This program as a user starts it, with all its reducers and the archive, on an empty data folder.

    Args:
        options: environment variables to set.
        profile: where to write a profile of it.
    """
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.json"
        profiled = ["-m", "cProfile", "-o", str(profile)] if profile else []
        command = [sys.executable, *profiled, "run.py", "--no-tray", "--no-browser", "--host", "127.0.0.1"]
        command += ["--port", "0", "--data-dir", str(Path(folder) / "data"), "--ready-file", str(ready)]
        with _process(command, ready, {**_NO_BUDGETS, **(options or {})}) as server:
            yield server


@contextmanager
def _process(command: list[str], ready: Path, options: dict[str, str] | None = None) -> Iterator[Server]:
    environment = {**os.environ, **_NO_RATE, **(options or {})}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    try:
        _wait(lambda: process.poll() is not None or (ready.exists() and ready.read_bytes().endswith(b"}")))
        if process.poll() is not None:
            assert process.stderr
            raise SystemExit(f"A server did not start: {process.stderr.read().decode()}")
        yield Server(process, json.loads(ready.read_bytes()))
    finally:
        process.terminate()
        try:
            process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("A server was not ready in time.")
        time.sleep(0.02)


def play(plan: Plan) -> Result:
    """Run the load generator."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load"],
        cwd=ROOT,
        input=msgspec.json.encode(plan),
        stdout=subprocess.PIPE,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=Result)
