"""A school that comes back at one instant is let in whole, and who is there already is served meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.reconnects import a_distant_redis

pytestmark = [pytest.mark.services, pytest.mark.slow]

STUDENTS = 1000


async def test_none_of_a_thousand_who_come_at_once_is_refused(tmp_path: Path) -> None:
    async with a_distant_redis(tmp_path) as school:
        crowd = await school.join(STUDENTS)
        other = (await school.join(1)).tokens[0]
        # First nobody knows them, then they come back.
        for _ in range(2):
            storm = await school.storm(crowd, other)
            assert (storm.welcomed, storm.refused) == (STUDENTS, [])
            # It was acknowledged again and again meanwhile. How fast, `python -m tests.bench --only reconnects` says.
            assert len(storm.acks) > 1
            assert max(storm.acks) < storm.seconds + 1
        counters = await school.counters()
        for name in ("limit_strangers", "limit_strangers_per_address", "limit_hello_seconds", "limit_opening_seconds"):
            assert not counters.get(name), counters
        assert not counters.get("publish_failures"), counters
