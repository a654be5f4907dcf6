"""The simulated school: 200 seeds and all cases that failed once, without a violation; and its own parts."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from contextvars import copy_context
from pathlib import Path

import msgspec
import pytest

from appliance.datafolder import files
from appliance.reducer import Event
from reducers.responses import Response, ResponsesReducer
from tests.simulation.check import orderless
from tests.simulation.disk import DiskOfNode, Disks
from tests.simulation.loop import DeadlockError, PowerCutError, SimulationLoop
from tests.simulation.plan import Case, plan_of
from tests.simulation.virtual import Clock, Computer, computer

ROOT = Path(__file__).parents[2]
SEEDS = 200
PART = 50


def simulated(*arguments: str) -> tuple[int, str]:
    """Run the command; returns its exit code and what it printed. The simulation replaces clocks, so it has a process
    of its own."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


# In parts, so that several processes share them.
@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, SEEDS, PART))
def test_no_seed_and_no_case_that_failed_once_violates_anything(first: int) -> None:
    kept = ["--kept"] if first == 1 else []
    code, printed = simulated("--seeds", str(PART), "--first", str(first), *kept, "--no-shrink")
    assert code == 0, printed
    assert ", 0 with violations" in printed


@pytest.mark.slow
def test_a_seed_is_the_same_school_every_time() -> None:
    def steps(*arguments: str) -> int:
        code, printed = simulated("--json", "--no-shrink", *arguments)
        assert code == 0, printed
        return int(json.loads(printed.splitlines()[-1])["steps"])

    first, both = steps("--first", "1", "--seeds", "2"), steps("--first", "1", "--seeds", "4")
    # In another process, and after other seeds.
    assert both - first == steps("--first", "3", "--seeds", "2")


def test_a_case_is_one_line_of_text() -> None:
    case = Case(7, students=frozenset({1, 0}), faults=frozenset({3}))
    assert str(case) == "7 without students 0 1, faults 3"
    assert Case.parse(f"{case}  # found by chance") == case
    assert Case.parse("12") == Case(12)


def test_a_part_that_is_left_out_changes_no_other() -> None:
    whole = plan_of(8)
    left = Case(8, faults=frozenset({whole.faults[0][0]})).plan()
    assert left.faults == whole.faults[1:]
    assert (left.students, left.dashboards) == (whole.students, whole.dashboards)


def test_the_same_answers_at_other_times_and_in_another_order_are_the_same_without_order() -> None:
    field, first, second = "state/responses/item/q", answers(3.0, True, False), answers(5.0, False, True)
    assert first != second
    assert orderless(field, {field: first}) == orderless(field, {field: second}) == [2, 1]
    assert orderless(field, {field: answers(3.0, True)}) != orderless(field, {field: first})
    assert orderless(field, {}) is None


def answers(at: float, *correct: bool) -> bytes:
    """The stored state of answers to one item, a second apart."""
    reducer, state = ResponsesReducer(), Response()
    for number, one in enumerate(correct):
        body = {"event": "answer", "item": "q", "answer": "7", "correct": one}
        state = reducer.reduce(state, Event("answer", at + number, "org.example", body))
    return msgspec.msgpack.encode(state)


class TestLoop:
    def loop(self) -> SimulationLoop:
        return SimulationLoop("1", Clock(), lambda *_: None)

    def test_time_stands_still_while_anything_is_ready_and_then_jumps(self) -> None:
        loop = self.loop()
        times: list[float] = []

        async def work() -> None:
            await asyncio.sleep(0)
            times.append(loop.time())
            await asyncio.sleep(3600)
            times.append(loop.time())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5):
                    await asyncio.sleep(10)
            times.append(loop.time())

        loop.run_until_complete(work())
        assert times == [0, 3600, 3605]

    def test_what_waits_for_ever_is_an_error(self) -> None:
        loop = self.loop()
        with pytest.raises(DeadlockError):
            loop.run_until_complete(loop.create_future())

    def test_work_in_a_thread_is_done_later_and_its_error_arrives(self) -> None:
        loop = self.loop()

        async def work() -> int:
            with pytest.raises(ZeroDivisionError):
                await loop.run_in_executor(None, lambda: 1 // 0)
            return await asyncio.to_thread(int, "7")

        assert loop.run_until_complete(work()) == 7
        assert loop.time() > 0

    def test_nothing_of_a_computer_runs_after_its_power_was_cut(self) -> None:
        loop = self.loop()
        node = Computer("node")
        ran: list[str] = []

        async def on_node() -> None:
            ran.append("before")
            await asyncio.sleep(1)
            ran.append("after")

        async def world() -> None:
            context = copy_context()
            context.run(computer.set, node)
            loop.create_task(on_node(), context=context)
            await asyncio.sleep(0.5)
            node.alive = False
            await asyncio.sleep(5)

        loop.run_until_complete(world())
        assert ran == ["before"]


class TestDisk:
    @pytest.fixture
    def disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DiskOfNode:
        root = tmp_path / "data"
        root.mkdir()
        self.cuts = 0
        disk = DiskOfNode(root, random.Random(1), self.cut)
        disks = Disks()
        disks.add(disk)
        monkeypatch.setattr(files, "disk", disks)
        return disk

    def cut(self) -> None:
        self.cuts += 1

    def left(self, disk: DiskOfNode, tmp_path: Path) -> list[dict[str, bytes]]:
        """What power cuts leave, each file by its name."""
        found = []
        for number in range(30):
            folder = tmp_path / f"after-{number}"
            disk.after_power_cut(folder)
            found.append({path.name: path.read_bytes() for path in folder.iterdir()})
        return found

    def test_what_is_synced_stays(self, disk: DiskOfNode, tmp_path: Path) -> None:
        files.write_private(disk.root / "file", b"old")
        files.write_private(disk.root / "file", b"new")
        assert all(found == {"file": b"new"} for found in self.left(disk, tmp_path))

    def test_of_what_is_not_synced_a_part_stays(self, disk: DiskOfNode, tmp_path: Path) -> None:
        file = files.create(disk.root / "file")
        files.sync_folder(disk.root)
        files.write_all(file.fileno(), b"synced ")
        files.sync_file(file)
        files.write_all(file.fileno(), b"unsynced")
        found = {content["file"] for content in self.left(disk, tmp_path)}
        assert all(content.startswith(b"synced ") for content in found)
        assert any(b"unsynced".startswith(content[7:]) and len(content) > 7 for content in found)
        assert any(content.endswith(b"\0") for content in found)
        file.close()

    def test_a_new_name_is_there_only_once_its_folder_is_synced(self, disk: DiskOfNode, tmp_path: Path) -> None:
        file = files.create(disk.root / "file")
        files.sync_file(file)
        file.close()
        assert {bool(content) for content in self.left(disk, tmp_path)} == {True, False}

    def test_what_sqlite_removed_is_gone_and_what_it_wrote_stays(self, disk: DiskOfNode, tmp_path: Path) -> None:
        for name in ("base", "base-wal"):
            files.write_private(disk.root / name, b"old")
        # By code that knows nothing of this disk.
        (disk.root / "base").write_bytes(b"new")
        (disk.root / "base-wal").unlink()
        (disk.root / "base-shm").write_bytes(b"made")
        assert all(found == {"base": b"new", "base-shm": b"made"} for found in self.left(disk, tmp_path))

    def test_the_power_is_cut_in_the_middle_of_a_change(self, disk: DiskOfNode) -> None:
        disk.fuse = 2
        with pytest.raises(PowerCutError):
            files.write_private(disk.root / "file", b"content")
        assert self.cuts == 1
        assert not (disk.root / "file").exists()
