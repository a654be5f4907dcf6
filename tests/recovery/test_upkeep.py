"""Upkeep warns early: of little free space, and of snapshots that cannot be written."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance.config import ArchiveSettings, KvsSettings, Settings
from appliance.counters import Counters
from appliance.errors import ArchiveError
from appliance.health import Health
from appliance.recovery.upkeep import Upkeep, size
from appliance.tasks import Tasks
from tests.recovery.test_recovery import bundled
from tests.recovery.world import Core


def of(core: Core, folder: Path, *, warn: int = 0) -> tuple[Upkeep, Counters]:
    counters = Counters()
    settings = Settings(
        data_dir=str(folder), archive=ArchiveSettings(warn_free_bytes=warn), kvs=KvsSettings(snapshot_seconds=1)
    )
    return Upkeep(settings, core.archive, core.recovery, counters), counters


async def test_room_that_gets_short_is_a_finding_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = Core(tmp_path, *bundled())
    upkeep, counters = of(core, tmp_path, warn=2 << 30)
    for free, words in ((3 << 30, []), (1 << 30, ["1.0 GiB are free"]), (1 << 20, ["1.0 MiB are free"]), (3 << 30, [])):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, free=free: SimpleNamespace(free=free))
        upkeep.measure()
        found = upkeep.findings()
        assert [one.code for one in found] == ["archive.space"] * len(words)
        assert all(said in one.text for one, said in zip(found, words, strict=True))
    assert counters["limit_warn_free_bytes"] == 1
    await core.crash()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ArchiveError("The snapshot cannot be written: No space left on device."), "No space left on device"),
        (OSError(5, "Input/output error"), "OSError"),
    ],
)
async def test_a_snapshot_that_cannot_be_written_is_a_finding_until_one_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    core = Core(tmp_path, *bundled())
    upkeep, counters = of(core, tmp_path)
    health = Health(counters)
    tasks = Tasks(health, counters)
    saves = 0

    async def save() -> bool:
        nonlocal saves
        saves += 1
        if saves == 1:
            raise error
        return True

    assert core.recovery is not None
    monkeypatch.setattr(core.recovery, "save", save)
    upkeep.start(tasks)
    async with asyncio.timeout(20):
        while not health.findings():
            await asyncio.sleep(0.001)
        [found] = health.findings()
        assert (found.code, found.subject) == ("task.down", "upkeep.snapshot")
        assert words in found.text
        while health.findings():
            await asyncio.sleep(0.01)
    assert counters["upkeep_failures"] == 1
    await tasks.close()
    await core.crash()


async def test_what_is_switched_off_has_no_task(tmp_path: Path) -> None:
    core = Core(tmp_path, *bundled())
    counters = Counters()
    settings = Settings(data_dir=str(tmp_path), archive=ArchiveSettings(compress=False))
    upkeep = Upkeep(settings, core.archive, None, counters)
    tasks = Tasks(Health(counters), counters)
    assert [(task.name, task.owner) for task in upkeep.start(tasks)] == [("upkeep.space", "upkeep")]
    async with asyncio.timeout(20):
        while upkeep.space is None:
            await asyncio.sleep(0)
    assert upkeep.findings() == []
    await tasks.close()
    await core.crash()


@pytest.mark.parametrize(
    ("number", "shown"),
    [(1, "1 byte"), (1023, "1,023 bytes"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3072.0 GiB")],
)
def test_a_number_of_bytes_for_people(number: int, shown: str) -> None:
    assert size(number) == shown
