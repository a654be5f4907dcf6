"""Joining beside a prankster at the same address: wrong codes, and names without end."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp

from tests.launcher import Program

STUDENTS = 30
AT_ONCE = 100
"""Requests of the prankster at a time."""
_PAUSE_SECONDS = 0.2
"""Between the joins of two students."""


class _Joins:
    """Requests to join, and how they are answered.

    Attributes:
        statuses: of the prankster's requests.
    """

    def __init__(self, program: Program, session: aiohttp.ClientSession) -> None:
        self.program = program
        self.session = session
        self.statuses: Counter[int] = Counter()

    async def join(self, code: str, name: str) -> tuple[int, float]:
        """The status, and the seconds that a page is asked to wait."""
        url = f"{self.program.url}/api/v1/join"
        async with self.session.post(url, json={"code": code, "name": name}) as answer:
            await answer.read()
            return answer.status, float(answer.headers.get("Retry-After", 0))

    async def student(self, number: int) -> float:
        """Join as a page does, which waits as long as it is asked to; returns the seconds until it is in."""
        began = time.monotonic()
        while True:
            status, wait = await self.join(self.program.ready["join_code"], f"Student {number}")
            if status == 200:
                return time.monotonic() - began
            assert status in (409, 429), status
            await asyncio.sleep(wait or 1.0)

    async def prank(self, number: int, code: str) -> None:
        """Send so many requests, as fast as they are answered."""
        places = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with places:
                status, _ = await self.join(code, f"Nobody {number}")
                self.statuses[status] += 1

        await asyncio.gather(*(one(n) for n in range(number)))

    async def students(self) -> list[float]:
        """A class that comes within some seconds; returns how long each waited."""
        coming = []
        for number in range(STUDENTS):
            coming.append(asyncio.create_task(self.student(number)))
            await asyncio.sleep(_PAUSE_SECONDS)
        return await asyncio.gather(*coming)


def joins(wrong: int, ghosts: int) -> None:
    """Print how long students wait, and what the pranks take of the program.

    Args:
        wrong: number of wrong codes.
        ghosts: number of joins by names that nobody has.
    """
    print(
        f"\n{'a prankster sends':24} {'answers':36} {'students wait':>24} {'memory':>8} {'roster':>9} {'dashboard':>10}"
    )
    for what, number in (("wrong codes", wrong), ("names", ghosts)):
        with tempfile.TemporaryDirectory() as folder:
            program = Program(Path(folder)).start()
            try:
                print(asyncio.run(_row(program, what, number)), flush=True)
            finally:
                program.end()


async def _row(program: Program, what: str, number: int) -> str:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        made = _Joins(program, session)
        code = program.ready["join_code"] if what == "names" else "AAA-222"
        pranks = asyncio.create_task(made.prank(number, code))
        waits = sorted(await made.students())
        await pranks
    answers = ", ".join(f"{count:,} x {status}" for status, count in sorted(made.statuses.items()))
    mib, roster = _taken(program)
    students = len(program.get("/api/v1/students"))
    return (
        f"{f'{number:,} {what}':24} {answers:36} p50 {waits[len(waits) // 2]:4.1f} s, most {waits[-1]:4.1f} s "
        f"{mib:4.0f} MiB {roster:5,.0f} KiB {students:10,}"
    )


def _taken(program: Program) -> tuple[float, float]:
    """The memory of the program in MiB, and the size of the roster's files in KiB."""
    status = Path(f"/proc/{program.pid}/status").read_text()
    roster = sum(file.stat().st_size for file in (program.data / "roster").iterdir())
    return int(status.split("VmRSS:")[1].split()[0]) / 1024, roster / 1024
