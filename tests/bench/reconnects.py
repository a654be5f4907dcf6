"""A crowd that comes at one instant: how long it takes to let it in, and what another student notices of it."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
from pathlib import Path

from tests.services.reconnects import WAY_SECONDS, a_distant_redis


def reconnects(students: int) -> None:
    """How long a crowd that comes at once is waited for, and another student meanwhile."""

    async def run(folder: Path) -> None:
        async with a_distant_redis(folder) as school:
            crowd = await school.join(students)
            other = (await school.join(1)).tokens[0]
            for name in ("come", "come again", "come again"):
                storm = await school.storm(crowd, other)
                print(
                    f"{students:6,} students {name:10} {storm.welcomed:6,} welcomed, {len(storm.refused):,} refused, "
                    f"all after {storm.seconds * 1e3:5,.0f} ms   another's acknowledgement p50 "
                    f"{statistics.median(storm.acks) * 1e3:.0f} ms, most {max(storm.acks) * 1e3:.0f} ms, "
                    f"while they leave {max(storm.leaving) * 1e3:.0f} ms",
                    flush=True,
                )

    if shutil.which("redis-server") is None:
        print("\nSKIPPED: reconnects, because there is no redis-server (Debian: redis-server).")
        return
    print(f"\nreconnects at one instant, Redis {WAY_SECONDS * 1e3:g} ms away each way")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))
