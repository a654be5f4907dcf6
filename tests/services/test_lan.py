"""A slow network: delay and loss between students and nodes, and between nodes and Redis."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.cluster import SOON_SECONDS, a_cluster, until
from tests.services.lan import netem_missing, relayed
from tests.services.servers import RedisServer

pytestmark = pytest.mark.services


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


async def test_students_work_over_a_slow_network_that_loses_packets(
    tmp_path: Path, redis: RedisServer, chance: random.Random
) -> None:
    """All data of students and nodes goes through relays, also if the kernel could add delay and loss itself."""
    print(f"netem: {netem_missing() or 'could be used'}; relays add delay and loss.")
    direct = redis.port
    async with relayed(direct, chance) as to_redis:
        redis.port = to_redis.port
        try:
            async with a_cluster(tmp_path, redis, chance, nodes=2) as cluster:
                redis.port = direct
                async with relayed(cluster.nodes[0].port, chance) as one, relayed(cluster.nodes[1].port, chance) as two:
                    await cluster.students(20)
                    urls = [f"http://127.0.0.1:{relay.port}" for relay in (one, two)]
                    for tab in cluster.every_tab():
                        tab.move(lambda: chance.choice(urls))
                    dashboards = [await cluster.dashboard(node) for node in range(2)]
                    cluster.connect()
                    cluster.type(10)
                    await until(lambda: all(tab.acked > 30 for tab in cluster.every_tab()), "the class is at work", 60)
                    await cluster.rest()
                    await cluster.settled()
                    quiet = time.monotonic()
                    await until(
                        lambda: all(d.events() == cluster.model() for d in dashboards), "dashboards agree", SOON_SECONDS
                    )
                    print(f"Dashboards agreed {time.monotonic() - quiet:.2f} s after the last acknowledgement.")
                    await cluster.complete()
                    assert one.lost + two.lost > 0
                    assert to_redis.chunks > 100
        finally:
            redis.port = direct
