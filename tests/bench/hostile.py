"""The effect of one hostile client on honest students: each attack during the work of a class, on the real program."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from tests.faults.hostile import FAMILIES
from tests.faults.siege import a_siege


def hostile(seconds: float, names: tuple[str, ...] = ()) -> None:
    """Print for each attack how long events of honest students waited, and the state of the program.

    Args:
        seconds: how long each attack is measured, after a sixth of that without one.
        names: of attacks or their kinds; all if empty.
    """
    print(
        f"\n{'hostile client':32} {'quiet p99':>9} {'p50':>7} {'p99':>7} {'most':>7} {'healthz':>8} "
        f"{'window':>8} {'memory':>8} {'stop':>7}  exit"
    )
    for kind, family in FAMILIES.items():
        for name in family.attacks:
            if not names or kind in names or name in names:
                print(asyncio.run(_row(name, family.files, seconds)), flush=True)


async def _row(name: str, files: int, seconds: float) -> str:
    with tempfile.TemporaryDirectory() as folder:
        async with a_siege(Path(folder), files=files) as siege:
            quiet = await siege.watch(max(1.0, seconds / 6))
            await siege.attack(name)
            found = await siege.watch(seconds)
            code, stop = await siege.stop()
            await siege.exact_after_restart()
    return (
        f"{name:32} {quiet.percentile(99):6.0f} ms {found.percentile(50):4.0f} ms {found.percentile(99):4.0f} ms "
        f"{max(found.waits) * 1000:4.0f} ms {found.worst_health():5.0f} ms {found.window * 1000:5.0f} ms "
        f"{found.rss:4.0f} MiB {stop:5.1f} s  {code:4}"
    )
