"""The list of all stored files: each file of a data folder has an owner, and one without is noticed."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from appliance import plugins
from appliance.config import Settings
from appliance.datafolder import DataFolder
from appliance.datafolder.instance import Instance, write
from appliance.health import Finding
from appliance.maintenance import backup, erase
from appliance.maintenance.all_files import OtherFiles, backed_up, stored_files
from appliance.maintenance.verify import verify
from appliance.roster import RosterLimits
from appliance.roster.place import RosterPlace
from tests.maintenance.test_erase import World
from tests.web.world import world

LIMITS = RosterLimits()


def others(data: Path) -> list[str]:
    """The files that no part of the program knows."""
    found = OtherFiles(data, stored_files(data, RosterPlace.within(data / "roster"), LIMITS)).files()
    return [path.relative_to(data).as_posix() for path in found]


@pytest.fixture
async def lived(tmp_path: Path) -> World:
    """A data folder with files of every kind."""
    lived = World(tmp_path / "data")
    await lived.live()
    lived.spoil()
    return lived


async def test_every_file_that_the_program_writes_has_one_owner(lived: World) -> None:
    async with world(lived.data.parent) as w, w.student() as student:
        await student.send({"event": "e", "t": 1})
        await student.acked(1)
        await w.post("/api/v1/class/pause", {})
    write(lived.data, Instance(1))
    DataFolder(lived.data).__exit__(None, None, None)
    lived.erase()
    assert others(lived.data) == []
    parts = stored_files(lived.data, RosterPlace.within(lived.data / "roster"), LIMITS)
    for path in (path for path in lived.data.rglob("*") if path.is_file()):
        assert len([part for part in parts if part.owns(path)]) == 1, path


async def test_a_file_without_an_owner_is_noticed_backed_up_and_left_by_erasing(lived: World, tmp_path: Path) -> None:
    strange = lived.data / "archive" / "notes" / "of the head.txt"
    strange.parent.mkdir()
    strange.write_text(f"about {lived.student}")
    assert others(lived.data) == ["archive/notes/of the head.txt"]
    found: list[Finding] = []
    await verify(Settings(data_dir=str(lived.data)), plugins.load(tmp_path, ()), found.append, lambda share: None)
    [one] = [one for one in found if one.code == "file.other"]
    assert (one.subject, one.severity) == ("archive/notes/of the head.txt", "ok")
    assert "archive/notes/of the head.txt" in backup.back_up(lived.data, tmp_path / "b.tar").files
    assert lived.erase().named == [str(strange)]
    assert strange.exists()


async def test_a_backup_takes_snapshots_first_and_the_archive_last(lived: World) -> None:
    names = [path.relative_to(lived.data).parts[0] for _, path in backed_up(lived.data)]
    assert (names[0], names[-1]) == ("snapshots", "archive")
    assert names.index("archive") > max(at for at, name in enumerate(names) if name != "archive")
    assert "backups" not in names


async def test_workers_are_backed_up_each_in_the_same_order_and_a_linked_roster_once(
    lived: World, tmp_path: Path
) -> None:
    data = tmp_path / "whole"
    lived.data.rename(data)
    worker = World(data / "workers" / "1")
    await worker.live()
    for path in (worker.data / "roster").iterdir():
        path.unlink()
    (worker.data / "roster").rmdir()
    (worker.data / "roster").symlink_to("../../roster")
    manifest = backup.back_up(data, tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar") as tar:
        names = [name for name in tar.getnames() if name.startswith("workers/1/")]
    assert names[0].startswith("workers/1/snapshots/")
    assert names[-1].startswith("workers/1/archive/")
    assert "roster/roster.sqlite" in manifest.files
    assert not [name for name in names if "roster" in name]


async def test_a_roster_elsewhere_is_erased_and_not_in_the_backup(lived: World, tmp_path: Path) -> None:
    roster = tmp_path / "elsewhere"
    (lived.data / "roster").rename(roster)
    place = RosterPlace.within(roster)
    parts = stored_files(lived.data, place, LIMITS)
    assert not [path for path in others(lived.data) if "roster" in path]
    assert any(part.owns(roster / "roster.sqlite") for part in parts)
    assert not [path for _, path in backed_up(lived.data) if not path.is_relative_to(lived.data)]
    with DataFolder(lived.data):
        erase.erase(lived.data, place, lived.student, LIMITS)
    assert lived.student.encode() not in (roster / "roster.sqlite").read_bytes()
    assert not list(roster.glob(".*"))
