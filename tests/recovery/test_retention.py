"""Retention deletes whole old days, what no snapshot covers stays, and a wrong clock deletes nothing at once."""

from __future__ import annotations

import asyncio
import calendar
import time
from pathlib import Path

import pytest

from appliance.archive import Position, segments
from appliance.archive.compression import compress
from appliance.archive.markers import known_missing
from appliance.config import ArchiveSettings, KvsSettings, Settings
from appliance.counters import Counters
from appliance.health import Health
from appliance.recovery import retention, snapshot
from appliance.recovery.retention import Retention, covered_before, delete_old
from appliance.recovery.upkeep import Upkeep
from appliance.tasks import Tasks
from tests.recovery.test_recovery import bundled
from tests.recovery.test_upkeep import of
from tests.recovery.world import Core

DAY = 86400.0
OPEN = 6


def end_of(day: str) -> float:
    return calendar.timegm(time.strptime(day, "%Y%m%d")) + DAY


def segment(folder: Path, day: str, number: int, *, at: float | None = None, packed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    came = end_of(day) - DAY / 2 if at is None else at
    path = folder / f"events-{day}-{number:04d}.jsonl"
    path.write_text(
        f'{{"received":{came:.3f},"at":{came:.3f},"student_id":"s-1","class_id":"c","source":"o","stream":"t",'
        f'"seq":{number},"event":{{"event":"e"}}}}\n'
    )
    if packed:
        compress(path, lambda: False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two segments on each of two days, one on a third, and the open one."""
    folder = tmp_path / "archive"
    for number, day in enumerate(("20240901", "20240901", "20240902", "20240902", "20240903", "20240904"), 1):
        segment(folder, day, number, packed=number < OPEN)
    snapshot.write(tmp_path / "snapshots", Position(OPEN, 0), {}, [])
    return folder


def numbers(folder: Path) -> list[int]:
    return [int(path.name.split("-")[2][:4]) for path in segments(folder)]


def everything() -> Position:
    return Position(OPEN, 0)


@pytest.mark.parametrize(
    ("limit", "left"),
    [
        (end_of("20240901") - 1, [1, 2, 3, 4, 5, 6]),
        (end_of("20240901"), [3, 4, 5, 6]),
        (end_of("20240902"), [5, 6]),
        (end_of("20250101"), [6]),
    ],
)
def test_whole_days_are_deleted_with_a_marker(folder: Path, limit: float, left: list[int]) -> None:
    deleted = delete_old(folder, limit, covered=everything, plain=False)
    assert numbers(folder) == left
    assert [one.number for one in deleted] == [number for number in range(1, OPEN + 1) if number not in left]
    assert [(one.segment.number, one.marker.kind) for one in known_missing(folder)] == [
        (one.number, "deleted") for one in deleted
    ]
    assert len(list(folder.glob("*.index"))) == len(left) - 1
    assert delete_old(folder, limit, covered=everything, plain=False) == []


def test_a_day_that_snapshots_cover_in_part_stays(folder: Path) -> None:
    delete_old(folder, end_of("20250101"), covered=lambda: Position(4, 1), plain=False)
    assert numbers(folder) == [3, 4, 5, 6]


def test_a_day_with_a_line_that_came_later_stays(folder: Path, tmp_path: Path) -> None:
    segments(folder)[1].unlink()
    segment(folder, "20240901", 2, at=end_of("20240903"))
    delete_old(folder, end_of("20240902"), covered=everything, plain=False)
    assert numbers(folder) == [1, 2, 5, 6]


def test_what_is_still_to_be_compressed_stays_until_it_is(folder: Path) -> None:
    segments(folder)[0].unlink()
    segment(folder, "20240901", 1, packed=False)
    delete_old(folder, end_of("20240901"), covered=everything, plain=False)
    assert numbers(folder) == [1, 2, 3, 4, 5, 6]
    delete_old(folder, end_of("20240901"), covered=everything, plain=True)
    assert numbers(folder) == [3, 4, 5, 6]


def test_all_snapshots_that_a_start_may_use_count(tmp_path: Path) -> None:
    assert covered_before(tmp_path) == Position(0, 0)
    for position in (Position(3, 5), Position(7, 0)):
        snapshot.write(tmp_path / "snapshots", position, {}, [])
    assert covered_before(tmp_path) == Position(3, 5)
    snapshot.snapshots(tmp_path / "snapshots")[0].write_bytes(b"damaged")
    assert covered_before(tmp_path) == Position(7, 0)


def settings(data: Path, *, kvs: str = "memory://") -> Settings:
    return Settings(data_dir=str(data), archive=ArchiveSettings(retention_days=30), kvs=KvsSettings(url=kvs))


class TestClock:
    def test_a_clock_far_ahead_deletes_nothing_for_a_day(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ahead = time.time() + 100 * DAY
        now = time.monotonic()
        monkeypatch.setattr(retention.time, "time", lambda: ahead)
        counters = Counters()
        one = Retention(settings(folder.parent), folder, counters)
        assert one.delete_old() == []
        [found] = one.findings()
        assert (found.code, found.params) == ("archive.retention_clock", {"days": 100})
        monkeypatch.setattr(retention.time, "monotonic", lambda: now + retention.CLOCK_SECONDS + 60)
        assert len(one.delete_old()) == 5
        assert list(one.findings()) == []
        assert counters["archive_segments_deleted"] == 5

    def test_holidays_delay_nothing(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ahead = max(time.time(), end_of("20240903") + 31 * DAY) + 50 * DAY
        written = ahead - 50 * DAY
        with monkeypatch.context() as then:
            then.setattr(snapshot.time, "time", lambda: written)
            snapshot.write(folder.parent / "snapshots", Position(OPEN, 0), {}, [])
        monkeypatch.setattr(retention.time, "time", lambda: ahead)
        assert len(Retention(settings(folder.parent), folder, Counters()).delete_old()) == 5


def test_without_snapshots_only_a_store_on_a_server_allows_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in snapshot.snapshots(folder.parent / "snapshots"):
        path.unlink()
    monkeypatch.setattr(retention.time, "time", lambda: end_of("20250101"))
    monkeypatch.setattr(retention, "CLOCK_SECONDS", 0.0)
    assert Retention(settings(folder.parent), folder, Counters()).delete_old() == []
    assert len(Retention(settings(folder.parent, kvs="redis://h"), folder, Counters()).delete_old()) == 5


async def test_upkeep_does_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CLOCK_DAYS", 100_000)
    core = Core(folder.parent, *bundled())
    counters = Counters()
    upkeep = Upkeep(settings(folder.parent), core.archive, None, counters)
    tasks = Tasks(Health(counters), counters)
    assert "upkeep.retention" in [task.name for task in upkeep.start(tasks)]
    old = [name for name in ("20240901", "20240902", "20240903") if end_of(name) + 30 * DAY <= time.time()]
    async with asyncio.timeout(20):
        while counters["archive_segments_deleted"] < {0: 0, 1: 2, 2: 4, 3: 5}[len(old)]:
            await asyncio.sleep(0)
    await tasks.close()
    assert of(core, folder.parent)[0].findings() == []
    await core.crash()
