"""What leaves numbers out of order, twice or without states, and is no gap of the archive."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from appliance.maintenance.erase import erase
from appliance.roster import RosterLimits
from tests.pipeline.world import Tally
from tests.recovery.test_gaps import STREAM, files, lesson, rebuilt, rewrite, seen, send
from tests.recovery.test_recovery import Doubled, bundled
from tests.recovery.world import Core

FIXTURES = Path(__file__).parents[1] / "fixtures"


async def test_rejected_paused_and_repeated_lines(tmp_path: Path) -> None:
    core = Core(tmp_path, Tally())
    await core.start()
    stream = await core.stream("s-1", STREAM)
    core.accept(stream, 1, {"event": "edit"}, "no object", {"event": "edit"})
    await core.pipeline.settle()
    await core.classes.set_state("class-1", "paused")
    core.accept(stream, 4, {"event": "edit"})
    await core.pipeline.settle()
    await core.classes.set_state("class-1", "open")
    core.accept(stream, 5, {"event": "edit"})
    await core.pipeline.settle()
    await core.crash()
    [path] = files(tmp_path)
    rewrite(path, lambda lines: [*lines[:2], lines[1], *lines[2:], *lines[3:]])
    core = Core(tmp_path, Tally())
    await core.start()
    assert core.recovery.findings == []
    assert core.counters["archive_events_missing"] == 0
    assert seen(core, "s-1") == 3
    await core.crash()


@pytest.mark.parametrize("fixture", ["data-1", "data-2", "data-3", "data-4"])
@pytest.mark.parametrize("snapshots", [True, False])
async def test_data_of_earlier_formats(tmp_path: Path, fixture: str, snapshots: bool) -> None:
    shutil.copytree(FIXTURES / fixture, tmp_path / "data")
    if not snapshots:
        shutil.rmtree(tmp_path / "data" / "snapshots", ignore_errors=True)
    core = Core(tmp_path / "data", *bundled(), Tally())
    await core.start()
    assert core.recovery.findings == []
    assert await rebuilt(core) == []
    assert core.counters["archive_events_missing"] == 0
    assert core.kvs.rows()
    await core.crash()


async def test_a_student_who_was_erased(tmp_path: Path) -> None:
    await lesson(tmp_path, 3, save_after=3)
    erase(tmp_path, None, "s-2", RosterLimits())
    core = Core(tmp_path, Doubled())
    await core.start()
    assert core.recovery.findings == []
    assert await rebuilt(core) == []
    assert seen(core, "s-1") == 30
    # The page of the erased student begins again.
    await send(core, "s-2")
    assert seen(core, "s-2") == 10
    await core.crash()
    core = Core(tmp_path, Doubled())
    await core.start()
    assert core.recovery.findings == []
    await core.crash()


async def test_lines_that_a_failed_write_left_twice(tmp_path: Path) -> None:
    await lesson(tmp_path, 3)
    first, second, _ = files(tmp_path)
    second.write_bytes(first.read_bytes() + second.read_bytes())
    core = Core(tmp_path, Tally())
    await core.start()
    assert not [found for found in core.recovery.findings if found.code == "archive.gap"]
    assert seen(core, "s-1") == 15
    await core.crash()
