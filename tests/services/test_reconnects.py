"""A whole school reconnects at once: nobody is refused, and connected students are served meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.reconnects import a_node_with_distant_redis

pytestmark = [pytest.mark.services, pytest.mark.slow]

STUDENTS = 1000


async def test_none_of_a_thousand_students_who_connect_at_once_is_refused(tmp_path: Path) -> None:
    async with a_node_with_distant_redis(tmp_path) as node:
        crowd = await node.join(STUDENTS)
        other = (await node.join(1)).tokens[0]
        # The first time their streams are new.
        for _ in range(2):
            arrival = await node.reconnect(crowd, other)
            assert (arrival.welcomed, arrival.refused) == (STUDENTS, [])
            # The other student was acknowledged meanwhile; `python -m tests.bench --only reconnects` measures how fast.
            assert len(arrival.acks) > 1
            assert max(arrival.acks) < arrival.seconds + 1
        counters = await node.counters()
        for name in ("limit_strangers", "limit_strangers_per_address", "limit_hello_seconds", "limit_opening_seconds"):
            assert not counters.get(name), counters
        assert not counters.get("publish_failures"), counters
