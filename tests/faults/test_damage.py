"""Files that were cut off, or whose bytes have flipped: the program starts, says what is damaged, and uses the rest.

Each start is one of the program's own start-up, in this process, so that every byte can have its turn.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from appliance.archive import Record, segments
from appliance.archive.chain import GROUP_END
from appliance.recovery.snapshot import snapshots
from tests.faults.world import a_class, records
from tests.launcher import Program
from tests.typist import Typist
from tests.web.world import World, world


class Lived:
    """A data folder after two runs: the first was stopped in an orderly way, with a snapshot; the second was killed.

    Attributes:
        data: the folder.
        students: the pages, with what they typed.
    """

    def __init__(self, data: Path, students: list[Typist]) -> None:
        self.data = data
        self.students = students

    @property
    def segment(self) -> Path:
        """The last segment, which is in no snapshot."""
        return segments(self.data / "archive")[-1]

    def copy(self, folder: Path, *, with_snapshots: bool = True) -> Path:
        """Copy the data folder; returns the path of the copy."""
        shutil.rmtree(folder, ignore_errors=True)
        left_out = shutil.ignore_patterns("lock", *(() if with_snapshots else ("snapshots",)))
        return Path(shutil.copytree(self.data, folder / "data", ignore=left_out))


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Lived:
    folder = tmp_path_factory.mktemp("lived")
    chance = random.Random(f"{request.config.option.seed} damage")

    async def live() -> Lived:
        program = Program(folder)
        async with a_class(program, chance, 3) as room:
            room.connect()
            for life in range(2):
                # Few events in the second run, since every byte of them is tested.
                for student, events in zip(room.students, (3, 1, 1) if life else (4, 4, 4), strict=True):
                    for _ in range(events):
                        student.type()
                    await student.settled()
                if life == 0:
                    assert await asyncio.to_thread(program.stop) == 0
                    await asyncio.to_thread(program.start)
            await asyncio.to_thread(program.kill)
            return Lived(program.data, room.students)

    return asyncio.run(live())


async def stands(lived: Lived, there: World, kept: Iterable[Record]) -> None:
    """The states are those of these events."""
    last = {record.stream: record.seq for record in kept}
    for student in lived.students:
        whole = await there.get(f"/api/v1/students/{student.student_id}")
        number = last.get(student.stream, 0)
        assert whole["summaries"].get("activity", {}).get("events", 0) == number
        # A student who has only moved the cursor so far has written nothing.
        written = whole.get("documents", {}).get("essay", {}).get("writing", {}).get("text", "")
        assert written == student.text_after(number)


async def problems(there: World) -> str:
    """The findings on the teacher's page."""
    return " ".join(found["text"] for found in (await there.get("/api/v1/status"))["findings"])


async def test_every_cut_of_the_last_segment(tmp_path: Path, lived: Lived, chance: random.Random, long: bool) -> None:
    whole = lived.segment.read_bytes()
    before = len(records(lived.data / "archive")) - whole.count(b"\n")
    points = range(len(whole)) if long else cuts(whole, chance)
    for point in points:
        data = lived.copy(tmp_path / "case")
        segment = data / "archive" / lived.segment.name
        segment.write_bytes(whole[:point])
        async with world(tmp_path / "case") as there:
            kept = records(data / "archive")
            # A commit without its end was not acknowledged.
            complete = max((found.end() for found in GROUP_END.finditer(whole[:point])), default=0)
            assert len(kept) == before + whole[:complete].count(b"\n")
            await stands(lived, there, kept)
            said = await problems(there)
            assert ("cut off" in said or "not finished" in said) == (point > complete)
            if point in points[::20]:
                await goes_on(lived, there)


def cuts(whole: bytes, chance: random.Random) -> list[int]:
    """Both sides of each line break, and some positions between."""
    breaks = [at for at, byte in enumerate(whole) if byte == 10]
    return sorted({0, 1, *breaks, *(at + 1 for at in breaks[:-1]), *chance.sample(range(len(whole)), 12)})


async def goes_on(lived: Lived, there: World) -> None:
    """Pages that still hold what was cut off send it again, and all is complete."""
    for student in lived.students:
        async with there.connect() as page:
            welcome = await page.hello(student.token, stream=student.stream, source="org.example.typist")
            events = [json.loads(event) for event in student.log[welcome["ack"] :]]
            if events:
                await page.send(*events, first=welcome["ack"] + 1)
                await page.acked(len(student.log))
        whole = await there.get(f"/api/v1/students/{student.student_id}")
        assert whole["documents"]["essay"]["writing"]["text"] == student.text
        assert whole["summaries"]["activity"]["events"] == len(student.log)


def flipped(content: bytes, at: int, chance: random.Random) -> bytes:
    return content[:at] + bytes([content[at] ^ (1 << chance.randrange(8))]) + content[at + 1 :]


async def test_flipped_bits_in_the_last_segment(
    tmp_path: Path, lived: Lived, chance: random.Random, long: bool
) -> None:
    whole = lived.segment.read_bytes()
    for at in sorted(chance.sample(range(len(whole)), len(whole) // 4 if long else 25)):
        data = lived.copy(tmp_path / "case")
        (data / "archive" / lived.segment.name).write_bytes(flipped(whole, at, chance))
        async with world(tmp_path / "case") as there:
            # The student of the line; for the others nothing may be missing.
            line = json.loads(whole[whole.rfind(b"\n", 0, at) + 1 :].split(b"\n")[0])
            after = whole[whole.rfind(b"\n", 0, at) + 1 :].split(b"\n")[1:2]
            hurt = {line["stream"], *(json.loads(next_line)["stream"] for next_line in after if next_line)}
            for student in lived.students:
                if student.stream not in hurt:
                    seen = await there.get(f"/api/v1/students/{student.student_id}")
                    assert seen["documents"]["essay"]["writing"]["text"] == student.text
                    assert seen["summaries"]["activity"]["events"] == len(student.log)
            lines = len(records(data / "archive"))
            if lines < len(records(lived.data / "archive")):
                assert "cannot be read" in (said := await problems(there)) or "cut off" in said, at


@pytest.mark.parametrize("which", ["the newest snapshot", "all snapshots", "a compressed segment"])
async def test_flipped_bits_that_a_checksum_guards(
    tmp_path: Path, lived: Lived, chance: random.Random, long: bool, which: str
) -> None:
    everything = records(lived.data / "archive")
    compressed = [path for path in segments(lived.data / "archive") if path.suffix == ".gz"]
    assert compressed
    find: dict[str, Callable[[Path], list[Path]]] = {
        "the newest snapshot": lambda data: snapshots(data / "snapshots")[-1:],
        "all snapshots": lambda data: snapshots(data / "snapshots"),
        "a compressed segment": lambda data: [data / "archive" / compressed[0].name],
    }
    size = min(path.stat().st_size for path in find[which](lived.data))
    for at in sorted(chance.sample(range(size), 100 if long else 8)):
        data = lived.copy(tmp_path / "case")
        for path in find[which](data):
            path.write_bytes(flipped(path.read_bytes(), at, chance))
        async with world(tmp_path / "case") as there:
            # The unreadable part is also in a snapshot before it, in the archive, or in a snapshot after it.
            await stands(lived, there, everything)
            said = await problems(there)
            if "snapshot" in which:
                assert said.count("cannot be used") == len(find[which](data)), said


async def test_a_damaged_compressed_segment_without_any_snapshot(
    tmp_path: Path, lived: Lived, chance: random.Random
) -> None:
    data = lived.copy(tmp_path / "case", with_snapshots=False)
    [first, *_] = segments(data / "archive")
    content = first.read_bytes()
    first.write_bytes(content[: len(content) // 2])
    async with world(tmp_path / "case") as there:
        assert "cannot be read" in await problems(there)
        kept = records(data / "archive")
        after = records(lived.data / "archive")[-lived.segment.read_bytes().count(b"\n") :]
        assert kept[-len(after) :] == after, "what comes after the damage is used"
        for student in lived.students:
            seen: dict[str, Any] = await there.get(f"/api/v1/students/{student.student_id}")
            number = sum(record.stream == student.stream for record in kept)
            assert seen["summaries"]["activity"]["events"] == number


async def test_the_real_program_says_what_is_damaged(tmp_path: Path, lived: Lived, chance: random.Random) -> None:
    data = lived.copy(tmp_path / "case")
    lines = lived.segment.read_bytes().splitlines(keepends=True)
    (data / "archive" / lived.segment.name).write_bytes(
        b"".join([*lines[:2], b"{" + lines[2], *lines[3:-1], lines[-1][:-9]])
    )
    newest = snapshots(data / "snapshots")[-1]
    newest.write_bytes(flipped(newest.read_bytes(), newest.stat().st_size // 2, chance))
    program = Program(tmp_path, data=data)
    try:
        await asyncio.to_thread(program.start)
        said = " ".join(found["text"] for found in program.get("/api/v1/status")["findings"])
        for words in (newest.name, "cut off", "1 line of the archive cannot be read"):
            assert words in said, said
        assert f"{lived.segment.name}, line" in program.last_words()
        assert program.stop() == 0
        verified = program.run("verify", "--data-dir", str(data))
        assert verified.returncode == 1
        assert lived.segment.name in verified.stdout + verified.stderr
    finally:
        program.end()
