"""A class whose pages stream to the real program, and the checks that nothing acknowledged is lost or counted twice."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from appliance.archive import Damage, Record, read
from tests.launcher import PATIENCE, Program
from tests.typist import Typist

# Snapshots each second and small segments, so that many of them are being written, closed and compressed at any moment.
RESTLESS = {
    "CLASSROOM_OBSERVER_KVS__SNAPSHOT_SECONDS": "1",
    "CLASSROOM_OBSERVER_ARCHIVE__SEGMENT_BYTES": "65536",
}


async def until(condition: Callable[[], object], what: str, *, patience: float = PATIENCE) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(patience):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"Waited in vain: {what}.") from None


class Class:
    """A program and the pages of a class.

    Attributes:
        program: the appliance.
        students: the pages.
        may: while set, pages may connect.
    """

    def __init__(self, program: Program, students: list[Typist], client: aiohttp.ClientSession) -> None:
        self.program = program
        self.students = students
        self.client = client
        self.may = asyncio.Event()
        self._staying: list[asyncio.Task[None]] = []
        self._typing: list[asyncio.Task[None]] = []

    async def get(self, path: str) -> Any:
        """The answer to an educator's request."""
        headers = {"Authorization": f"Bearer {self.program.ready['educator_token']}"}
        async with self.client.get(self.program.url + path, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def health(self) -> tuple[int, dict[str, Any]]:
        """The answer of ``/healthz``."""
        async with self.client.get(f"{self.program.url}/healthz") as answer:
            return answer.status, await answer.json()

    async def join(self) -> None:
        """Every student joins."""
        for student in self.students:
            await student.join(self.client, self.program.ready["join_code"])

    def connect(self) -> None:
        """From now on every page keeps a connection, or tries to."""
        self.may.set()
        self._staying = [asyncio.create_task(student.stay(self.client, self.may)) for student in self.students]

    def begin_typing(self, per_second: float) -> None:
        """Everybody begins to type."""
        self._typing = [asyncio.create_task(student.typing(per_second)) for student in self.students]

    async def end_typing(self) -> None:
        """Everybody stops typing."""
        await _end(self._typing)

    async def disconnect(self) -> None:
        """All pages are closed; they keep their unsent events."""
        await _end(self._staying)

    async def everybody_online(self) -> None:
        """Wait until every page has its welcome."""
        for student in self.students:
            await _in_time(student.online.wait(), f"{student.name} is online")

    async def healthy(self, status: int) -> None:
        """Wait until ``/healthz`` answers with a status."""
        async with asyncio.timeout(PATIENCE):
            while (await self.health())[0] != status:
                await asyncio.sleep(0.02)

    async def at_work(self, events: int = 1) -> None:
        """Wait until a number of further events of every student is acknowledged."""
        wanted = {student: student.acked + events for student in self.students}
        await until(lambda: all(s.acked >= wanted[s] for s in self.students), "the class is at work")

    async def settled(self) -> None:
        """Wait until all that was typed is acknowledged."""
        for student in self.students:
            await _in_time(student.settled(), f"all that {student.name} typed is acknowledged")

    def no_promise_broken(self) -> None:
        """Check that no answer of the server contradicts an earlier one."""
        assert {s.name: s.broken for s in self.students if s.broken} == {}

    def archived(self) -> dict[str, int]:
        """Check the archive: of each stream it holds, once and in order, the events that were typed, to the letter.

        Not while the program runs.

        Returns:
            How many events it holds, by student.
        """
        texts: dict[str, list[str]] = {}
        damaged: list[Damage] = []
        for record in read([self.program.data / "archive"]):
            if isinstance(record, Damage):
                damaged.append(record)
            else:
                stream = texts.setdefault(record.stream, [])
                assert record.seq == len(stream) + 1, f"{record.seq} follows {len(stream)} in the archive."
                stream.append(bytes(record.event).decode())
        # A line that was being written at the power cut; nothing else may be damaged.
        assert [damage.reason for damage in damaged] in ([], ["the line is cut off"])
        counts = {}
        for student in self.students:
            held = texts.pop(student.stream, [])
            assert held == student.log[: len(held)], f"The archive holds other events than {student.name} typed."
            assert len(held) >= student.acked, f"Of {student.acked} acknowledged events {len(held)} are archived."
            counts[student.student_id] = len(held)
        assert texts == {}
        return counts

    async def stands_at(self, counts: Mapping[str, int]) -> None:
        """Check the states: each has counted so many events, each of them once."""
        for student in self.students:
            whole = await self.get(f"/api/v1/students/{student.student_id}")
            number = counts[student.student_id]
            assert whole["summaries"].get("activity", {}).get("events", 0) == number, f"of {student.name}"
            # A student with only the first events may have edited nothing.
            text = whole["documents"].get("essay", {}).get("writing", {}).get("text", "")
            assert text == student.text_after(number), f"the text of {student.name}"

    async def complete(self) -> None:
        """Check the end: everything is acknowledged and counted once, and texts are those on the pages."""
        await self.settled()
        await self.stands_at({student.student_id: len(student.log) for student in self.students})
        for student in self.students:
            assert student.text == student.text_after(len(student.log))
        self.no_promise_broken()

    async def replayed_alike(self, folder: Path) -> None:
        """End the program, and check that a replay of the archive gives the states that were lived through.

        Nothing that happened may have been unforeseen, either: that would be a traceback in the log.
        """
        lived = {s.student_id: await self.get(f"/api/v1/students/{s.student_id}") for s in self.students}
        await self.disconnect()
        assert await asyncio.to_thread(self.program.stop) == 0
        counts = self.archived()
        assert counts == {student.student_id: len(student.log) for student in self.students}
        out = folder / "replayed.json"
        await asyncio.to_thread(self.replay, out)
        replayed = json.loads(out.read_text())
        assert replayed["damaged"] == []
        assert replayed["events"] == sum(counts.values())
        for student_id, whole in lived.items():
            again = replayed["students"][student_id]
            assert again["summaries"] == whole["summaries"]
            assert again["documents"] == whole["documents"]
        assert "Traceback" not in self.program.log.read_text()

    def replay(self, out: Path) -> None:
        """Reduce the archive from nothing."""
        done = self.program.run("replay", str(self.program.data / "archive"), "--out", str(out))
        assert done.returncode == 0, done.stderr

    async def end(self) -> None:
        """Stop what was started."""
        await self.end_typing()
        await self.disconnect()
        await asyncio.to_thread(self.program.end)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
    tasks.clear()


async def _in_time(coming: Awaitable[object], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await coming
    except TimeoutError:
        raise AssertionError(f"Waited in vain: {what}.") from None


@asynccontextmanager
async def a_class(
    program: Program,
    chance: random.Random,
    size: int,
    *,
    url: Callable[[], str] | None = None,
    **options: Any,
) -> AsyncIterator[Class]:
    """Start the program, let a class join, and stop all of it afterwards.

    Args:
        program: not started yet.
        chance: of all students.
        size: how many.
        url: the server's URL for students, if it is not its own address.
        options: of `Typist`.
    """
    students = [
        Typist(f"Student {n}", url or (lambda: program.url), random.Random(chance.random()), **options)
        for n in range(1, size + 1)
    ]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        room = Class(program, students, client)
        try:
            await asyncio.to_thread(program.start)
            await room.join()
            yield room
        finally:
            await room.end()


def records(folder: Path) -> list[Record]:
    """All lines of an archive that can be read."""
    return [record for record in read([folder]) if isinstance(record, Record)]
