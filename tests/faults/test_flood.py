"""Silent connections, as many as the program may have open files: students are served nevertheless."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.launcher import PATIENCE, Program, until

FILES = 200


@contextmanager
def flood(port: int, number: int) -> Iterator[None]:
    """Connections that say nothing."""
    silent: list[socket.socket] = []
    try:
        for _ in range(number):
            silent.append(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
        yield
    finally:
        for one in silent:
            one.close()


def join(program: Program, name: str) -> None:
    body = json.dumps({"code": program.ready["join_code"], "name": name}).encode()
    request = Request(f"{program.url}/api/v1/join", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=PATIENCE) as answer:
        assert answer.status == 200


@pytest.mark.skipif(sys.platform != "linux", reason="sets the limit of another process")
def test_silent_connections_do_not_take_the_last_files(tmp_path: Path) -> None:
    import resource

    program = Program(tmp_path).start()
    try:
        # It raised its limit at the start; here the limit cannot be raised further.
        soft, hard = resource.prlimit(program.pid, resource.RLIMIT_NOFILE)
        assert soft == hard or soft >= 1_000_000
        resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        with flood(program.port, 3 * FILES):
            # A new student is served, and the work can be saved.
            for number in range(5):
                join(program, f"Ada {number}")
            counters = program.get("/api/v1/status")["counters"]
            assert counters["limit_reserved_files"] >= 2 * FILES
            with flood(program.port, FILES):
                program.post("/api/v1/class/pause", {})
        until(lambda: len(list(Path(f"/proc/{program.pid}/fd").iterdir())) < FILES // 2, "connections are let go")
        assert program.stop() == 0
        assert "Traceback" not in program.last_words()
        assert list((program.data / "snapshots").iterdir())
    finally:
        program.end()
