"""Several workers on one port: students and educators may use any of them, and one that ends is started again."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launcher import Program
from tests.services.cluster import SOON_SECONDS, a_cluster, until
from tests.services.servers import RedisServer

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="SO_REUSEPORT distributes connections on Linux"),
]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_workers_share_a_port_and_one_that_ends_is_started_again(
    tmp_path: Path, redis: RedisServer, chance: random.Random
) -> None:
    options = {"CLASSROOM_OBSERVER_WEB__WORKERS": "3"}
    async with a_cluster(tmp_path, redis, chance, nodes=1, options=options) as cluster:
        [program] = cluster.nodes
        assert program.ready["pid"] == program.pid
        assert len(children(program.pid)) == 3
        await cluster.students(12)
        dashboards = [await cluster.dashboard(0) for _ in range(4)]
        cluster.connect()
        cluster.type(5)
        await until(lambda: all(tab.acked > 5 for tab in cluster.every_tab()), "everybody is at work")
        os.kill(children(program.pid)[0], signal.SIGKILL)
        await until(lambda: len(children(program.pid)) == 3, "the worker is started again")
        before = [tab.acked for tab in cluster.every_tab()]
        await until(
            lambda: all(tab.acked > acked for tab, acked in zip(cluster.every_tab(), before, strict=True)),
            "everybody is acknowledged again",
        )
        await cluster.rest()
        await cluster.settled()
        await until(
            lambda: all(d.events() == cluster.model() for d in dashboards), "all dashboards agree", SOON_SECONDS
        )
        await cluster.complete()
        began = time.monotonic()
        assert program.stop() == 0
        assert time.monotonic() - began < 5.5
        out = tmp_path / "replayed.json"
        done = program.run("replay", str(program.data), "--out", str(out))
        assert done.returncode == 0, done.stderr
        students = json.loads(out.read_text())["students"]
        counts = {id: student["summaries"]["activity"]["events"] for id, student in students.items()}
        assert counts == cluster.model()


@pytest.mark.parametrize("flags", [[], ["--kvs", "redis://127.0.0.1:1/0"]])
def test_workers_without_a_shared_store_are_refused_in_a_sentence(tmp_path: Path, flags: list[str]) -> None:
    program = Program(tmp_path, flags=["--workers", "2", *flags])
    done = program.run("run", "--workers", "2", "--data-dir", str(tmp_path / str(uuid.uuid4())), *flags)
    assert done.returncode == 2
    assert "--workers needs a" in done.stderr
