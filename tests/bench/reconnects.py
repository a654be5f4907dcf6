"""Many students connect at once: the time that takes, and the waits of another student meanwhile."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
from pathlib import Path

from tests.services.reconnects import DELAY_SECONDS, a_node_with_distant_redis


def reconnects(students: int) -> None:
    """Measure how long a crowd that connects at once waits, and another student meanwhile."""

    async def run(folder: Path) -> None:
        async with a_node_with_distant_redis(folder) as node:
            crowd = await node.join(students)
            other = (await node.join(1)).tokens[0]
            for name in ("come", "come again", "come again"):
                arrival = await node.reconnect(crowd, other)
                print(
                    f"{students:6,} students {name:10} {arrival.welcomed:6,} welcomed, "
                    f"{len(arrival.refused):,} refused, all after {arrival.seconds * 1e3:5,.0f} ms   "
                    f"another's acknowledgement p50 {statistics.median(arrival.acks) * 1e3:.0f} ms, "
                    f"most {max(arrival.acks) * 1e3:.0f} ms, while they leave {max(arrival.leaving) * 1e3:.0f} ms",
                    flush=True,
                )

    if shutil.which("redis-server") is None:
        print("\nSKIPPED: reconnects, because there is no redis-server (Debian: redis-server).")
        return
    print(f"\nreconnects at one instant, Redis {DELAY_SECONDS * 1e3:g} ms away each way")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))
