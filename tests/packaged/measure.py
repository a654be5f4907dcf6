"""The resources of the packaged program: time to its first answer, memory, processor."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

PATIENCE = 60.0


def processes(pid: int) -> list[int]:
    """A process and all below it; a one-file program is two."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(below for child in children for below in processes(int(child)))]


def resident_megabytes(pid: int) -> float:
    """Memory that a program and its children use, in MB."""
    pages = sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in processes(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def processor_seconds(pid: int) -> float:
    """Processor time that a program and its children have used."""
    ticks = 0
    for each in processes(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def started(program: Path, flags: Sequence[str] = ("--no-tray",)) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Start a program in an empty home; returns the process, and the seconds to its first answer."""
    with tempfile.TemporaryDirectory() as home, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = [str(program), "--no-browser", "--host", "127.0.0.1", "--port", str(port), *flags]
        environment = {"HOME": home, "PATH": "/usr/bin:/bin"}
        quiet = subprocess.DEVNULL
        begun = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdin=quiet, stdout=quiet, stderr=quiet)
        try:
            while not _answers(port):
                assert process.poll() is None, "The program ended at its start."
                assert time.perf_counter() - begun < PATIENCE
                time.sleep(0.005)
            yield process, time.perf_counter() - begun
        finally:
            process.terminate()
            process.wait()


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def drop_caches() -> bool:
    """Drop the system's file cache, as only root may; returns whether it did."""
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return False
    return True


def report(built: Path, rounds: int, idle_seconds: float) -> None:
    """Print size, start-up times, memory and idle processor time of both forms."""
    for name, program in (("one file", built / "classroom-observer"), ("folder", built / "program/classroom-observer")):
        files = [program] if name == "one file" else [path for path in program.parent.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 1e6
        cold = _start(program) if drop_caches() else None
        warm = [_start(program) for _ in range(rounds)]
        with started(program) as (process, _):
            time.sleep(3)
            before = processor_seconds(process.pid)
            time.sleep(idle_seconds)
            idle = (processor_seconds(process.pid) - before) / idle_seconds
            memory = resident_megabytes(process.pid)
        print(
            f"{name:9} {size:6.1f} MB   first answer: cold {'?' if cold is None else f'{cold:.2f} s'}, warm "
            f"{statistics.median(warm):.2f} s ({min(warm):.2f} to {max(warm):.2f}, {rounds} runs)   "
            f"memory without tray {memory:.0f} MB   idle processor {idle:.2%} of a core",
            flush=True,
        )


def _start(program: Path) -> float:
    with started(program) as (_, seconds):
        return seconds
