"""A class under attack: honest students type in the real program while one hostile client attacks it."""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from tests.faults.hostile import Order
from tests.faults.world import Class
from tests.launcher import PATIENCE, ROOT, Program
from tests.typist import Typist

STUDENTS = 30
RATE = 5.0
"""Events a second of each."""
STOP_SECONDS = 5.0
"""Seconds within which the program stops in an orderly way, attacked or not."""
RSS_BOUND = 400.0
"""MiB that the program may use under attack by one student. It uses some 80 with a class at work. One student adds at
most the text of its states (`student_state_bytes`, 64 MiB) and a copy of it while they are stored, what waits to be
saved (`student_buffer_bytes`, 8 MiB), one unfinished message of `frame_bytes` on each of ten connections and their
copies while they are put together (80 MiB), and what decoding one message of 4 MiB takes (some 100 MiB)."""
_HEALTH_SECONDS = 0.1
_WINDOW_SECONDS = 1.0


class Timed(Typist):
    """A student who records how long each event waited for its acknowledgement."""

    def __init__(self, name: str, url: Callable[[], str], chance: random.Random) -> None:
        super().__init__(name, url, chance)
        self.waits: list[float] = []
        self._typed: list[float] = []

    def type(self) -> None:
        """Change the text, and record the time."""
        super().type()
        self._typed.append(time.perf_counter())

    async def _acknowledged(self, seq: int) -> None:
        now = time.perf_counter()
        self.waits.extend(now - typed for typed in self._typed[self.acked : seq])
        await super()._acknowledged(seq)


class Figures(msgspec.Struct):
    """The observations of one period of time.

    Attributes:
        waits: seconds from typing to acknowledgement, of all honest students.
        health: seconds that each ``/healthz`` took.
        statuses: what it answered.
        window: the longest time in seconds that the hostile student's window took; 0 if nobody opened it.
        rss: the most memory of the program since its start, in MiB.
    """

    waits: list[float]
    health: list[float]
    statuses: list[int]
    window: float
    rss: float

    def percentile(self, percent: int) -> float:
        """Milliseconds within which a percentage of the events was acknowledged."""
        return statistics.quantiles(self.waits, n=100)[percent - 1] * 1000 if len(self.waits) > 1 else 0.0

    def worst_health(self) -> float:
        """Milliseconds of the slowest ``/healthz``."""
        return max(self.health, default=0.0) * 1000


class Siege:
    """A program, its honest students, and a hostile one at a time.

    Attributes:
        room: the class.
        students: the honest ones.
        hostile: a student who has joined, and never types.
    """

    def __init__(self, room: Class, students: list[Timed], hostile: Typist, files: int) -> None:
        self.room = room
        self.students = students
        self.hostile = hostile
        self._files = files
        self._attacker: asyncio.subprocess.Process | None = None

    async def begin(self) -> None:
        """All students connect and type."""
        if self._files:
            import resource

            resource.prlimit(self.room.program.pid, resource.RLIMIT_NOFILE, (self._files, self._files))
        self.room.connect()
        await self.room.everybody_online()
        self.room.begin_typing(RATE)

    async def attack(self, *names: str, seconds: float = 0.0) -> None:
        """Start the hostile client; its last attack continues until `relieve`.

        Args:
            names: of attacks, one after the other.
            seconds: of each but the last.
        """
        program = self.room.program
        order = Order(list(names), program.port, program.ready["join_code"], self.hostile.token, seconds)
        self._attacker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.hostile"),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._attacker.stdin
        assert self._attacker.stdout
        self._attacker.stdin.write(msgspec.json.encode(order))
        self._attacker.stdin.close()
        async with asyncio.timeout(PATIENCE):
            assert await self._attacker.stdout.readline(), "The hostile client did not begin."

    async def relieve(self) -> None:
        """Stop the hostile client; if it has ended already, it failed, and its error is raised."""
        attacker, self._attacker = self._attacker, None
        if attacker is None:
            return
        by_itself = attacker.returncode is not None
        if not by_itself:
            attacker.kill()
        _, said = await attacker.communicate()
        assert not by_itself, f"The hostile client ended:\n{said.decode(errors='replace')[-3000:]}"

    async def watch(self, seconds: float) -> Figures:
        """Observe for a number of seconds."""
        for student in self.students:
            student.waits.clear()
        found = Figures([], [], [], 0.0, 0.0)
        tasks = [asyncio.create_task(self._ask_health(found))]
        if self._attacker:
            tasks.append(asyncio.create_task(self._open_window(found)))
        await asyncio.sleep(seconds)
        # What was typed in this time counts however late it is acknowledged.
        typed = {student: len(student.log) for student in self.students}
        async with asyncio.timeout(PATIENCE):
            while any(student.acked < number for student, number in typed.items()):
                await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        found.waits = [wait for student in self.students for wait in student.waits]
        found.rss = peak_mib(self.room.program.pid)
        return found

    async def _ask_health(self, found: Figures) -> None:
        while True:
            began = time.perf_counter()
            status, _ = await self.room.health()
            found.health.append(time.perf_counter() - began)
            found.statuses.append(status)
            await asyncio.sleep(_HEALTH_SECONDS)

    async def _open_window(self, found: Figures) -> None:
        """An educator opens the window of the hostile student."""
        while True:
            began = time.perf_counter()
            await self.room.get(f"/api/v1/students/{self.hostile.student_id}")
            found.window = max(found.window, time.perf_counter() - began)
            await asyncio.sleep(_WINDOW_SECONDS)

    async def stop(self) -> tuple[int, float]:
        """Stop the program during the attack; returns its exit code, and how many seconds that took.

        Honest students have stopped typing, and all that they typed is acknowledged.
        """
        await self.room.end_typing()
        await self.room.settled()
        began = time.perf_counter()
        code = await asyncio.to_thread(self.room.program.stop)
        return code, time.perf_counter() - began

    async def exact_after_restart(self) -> None:
        """Start the program again, and check that every honest text is what its student typed."""
        await self.relieve()
        await asyncio.to_thread(self.room.program.start)
        await self.room.stands_at({student.student_id: len(student.log) for student in self.students})
        self.room.no_promise_broken()


@asynccontextmanager
async def a_siege(folder: Path, *, files: int = 0) -> AsyncIterator[Siege]:
    """Start the program, let an honest class join, connect and type; and end all of it.

    Args:
        folder: for the program's data.
        files: how many it may have open; 0 for the system's limit.
    """
    program = Program(folder)
    students = [Timed(f"Student {n}", lambda: program.url, random.Random(n)) for n in range(STUDENTS)]
    hostile = Typist("Mallory", lambda: program.url, random.Random(-1))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        room = Class(program, list[Any](students), client)
        siege = Siege(room, students, hostile, files)
        try:
            await asyncio.to_thread(program.start)
            await room.join()
            await hostile.join(client, program.ready["join_code"])
            await siege.begin()
            yield siege
        finally:
            try:
                await siege.relieve()
            finally:
                await room.end()


def peak_mib(pid: int) -> float:
    """The most memory that a process used since its start."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("The system does not report how much memory the program uses.")
