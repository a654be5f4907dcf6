"""The disk is full: acknowledgements stop, all pages say so, the program may even be killed; then space is freed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.faults.test_kill import STOP_SECONDS
from tests.faults.world import Class, a_class, until
from tests.launcher import Program


class Disk(Protocol):
    """A disk that can be filled and emptied while the program runs, and where the data folder is."""

    data: Path

    def fill(self, program: Program) -> None: ...

    def empty(self, program: Program) -> None: ...


class SmallDisk:
    """A file system of a few megabytes in memory, and one large file that takes what is free."""

    def __init__(self, mounted: Path) -> None:
        self.data = mounted / "data"
        self._filler = mounted / "filler"

    def fill(self, program: Program) -> None:
        with self._filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            for size in (65536, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"x" * size):
                        pass

    def empty(self, program: Program) -> None:
        self._filler.unlink()


class FileSizeLimit:
    """Limit files of this process to 0 bytes, which has the same effect as a full disk."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"

    def fill(self, program: Program) -> None:
        import resource

        _, hard = resource.prlimit(program.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (0, hard))

    def empty(self, program: Program) -> None:
        import resource

        _, hard = resource.prlimit(program.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (hard, hard))


@pytest.fixture(params=["a small disk", "a limit on files"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "a limit on files":
        if not sys.platform.startswith("linux"):
            pytest.skip("only Linux lets one process change the limits of another")
        yield FileSizeLimit(tmp_path)
        return
    mounted = tmp_path / "disk"
    mounted.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mounted)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a tmpfs cannot be mounted here, which takes root; a limit on files stands for it")
    try:
        yield SmallDisk(mounted)
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


async def full(room: Class, disk: Disk) -> None:
    """Fill the disk while everybody types, and check that nothing is acknowledged from then on."""

    async def some_more() -> int:
        typed = sum(len(student.log) for student in room.students)
        await until(lambda: sum(len(s.log) for s in room.students) > typed + 200, "typing goes on")
        return sum(student.acked for student in room.students)

    await asyncio.to_thread(disk.fill, room.program)
    await room.healthy(503)
    # What was acknowledged before may still be on its way.
    acked = await some_more()
    assert await some_more() == acked


async def test_all_goes_on_when_there_is_room_again(tmp_path: Path, chance: random.Random, disk: Disk) -> None:
    program = Program(tmp_path, data=disk.data)
    async with a_class(program, chance, 20) as room:
        room.connect()
        room.begin_typing(per_second=25)
        for _ in range(2):
            await room.at_work()
            await full(room, disk)
            status, health = await room.health()
            assert (status, health["status"]) == (503, "trouble"), health
            # The teacher's page says why.
            findings = (await room.get("/api/v1/status"))["findings"]
            assert any("archive" in found["text"] for found in findings), findings
            await asyncio.to_thread(disk.empty, program)
            await room.at_work()
            await room.healthy(200)
        await room.end_typing()
        await room.complete()
        await room.replayed_alike(tmp_path)


async def test_killed_while_the_disk_is_full(tmp_path: Path, chance: random.Random, disk: Disk, long: bool) -> None:
    program = Program(tmp_path, data=disk.data)
    async with a_class(program, chance, 20) as room:
        room.connect()
        room.begin_typing(per_second=25)
        for _ in range(10 if long else 2):
            await room.at_work()
            await full(room, disk)
            await asyncio.sleep(chance.uniform(0, 0.5))
            await asyncio.to_thread(program.kill)
            room.may.clear()
            counts = room.archived()
            if isinstance(disk, SmallDisk):
                # A full disk does not prevent a start: the class can continue, and pages say that nothing is saved.
                await asyncio.to_thread(program.start)
                await room.stands_at(counts)
                room.may.set()
                await room.healthy(503)
                room.may.clear()
                await asyncio.to_thread(program.kill)
                assert room.archived() == counts
                disk.empty(program)
            await asyncio.to_thread(program.start)
            await room.stands_at(counts)
            room.may.set()
        await room.end_typing()
        await room.complete()
        await room.replayed_alike(tmp_path)


async def test_stopped_while_the_disk_is_full(tmp_path: Path, chance: random.Random, disk: Disk) -> None:
    program = Program(tmp_path, data=disk.data)
    async with a_class(program, chance, 20) as room:
        room.connect()
        room.begin_typing(per_second=25)
        await room.at_work()
        await full(room, disk)
        began = time.monotonic()
        assert await asyncio.to_thread(program.stop) == 0
        assert time.monotonic() - began < STOP_SECONDS
        room.may.clear()
        counts = room.archived()
        if isinstance(disk, SmallDisk):
            disk.empty(program)
        await asyncio.to_thread(program.start)
        await room.stands_at(counts)
        room.may.set()
        await room.end_typing()
        await room.complete()
        await room.replayed_alike(tmp_path)
