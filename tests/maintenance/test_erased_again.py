"""What verify says after files were put back that were elsewhere while a student was erased."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.archive import segments
from appliance.archive.markers import last_markers
from appliance.archive.moving import bring_back, marked, move
from appliance.maintenance import erase
from appliance.maintenance.all_files import held
from appliance.maintenance.upgrade import bring_up_to_date
from appliance.recovery import snapshot
from appliance.roster import RosterLimits
from appliance.roster.place import RosterPlace
from tests.maintenance.test_verify_gaps import data, run, wrong

__all__ = ["data"]


def erase_one(folder: Path, student: str) -> None:
    with held(folder) as opened:
        bring_up_to_date(opened)
        erase.erase(folder, RosterPlace.within(folder / "roster"), student, RosterLimits())


def move_away(folder: Path, number: int, to: Path) -> None:
    to.mkdir(exist_ok=True)
    segment = marked(segments(folder / "archive")[number])
    assert segment
    assert move(folder / "archive", segment, to)


def return_all(folder: Path, source: Path) -> None:
    for missing in last_markers(folder / "archive").values():
        if missing.marker.kind == "moved":
            bring_back(folder / "archive", missing.segment, source)


@pytest.mark.parametrize("number", [0, 1])
async def test_the_student_is_to_be_erased_again(data: Path, tmp_path: Path, number: int) -> None:
    move_away(data, number, tmp_path / "usb")
    erase_one(data, "s-1")
    return_all(data, tmp_path / "usb")
    well, found = await run(data)
    assert not well
    # Not a word on missing events or on snapshots to be moved away, either of which would bring the student back.
    assert wrong(found) == [("archive.erased_again", "s-1")]
    [line] = [one.line for one in found if one.code == "archive.erased_again"]
    assert "with 10 events of the student. Stop the appliance and run 'erase-student' with this id again." in line
    # The other student is compared.
    assert {one.code for one in found} >= {"states.equal", "streams.equal"}
    erase_one(data, "s-1")
    well, found = await run(data)
    assert wrong(found) == []
    assert well


async def test_of_another_student_nothing_is_said(data: Path, tmp_path: Path) -> None:
    move_away(data, 1, tmp_path / "usb")
    erase_one(data, "s-2")
    return_all(data, tmp_path / "usb")
    assert wrong((await run(data))[1]) == []


async def test_what_came_back_before_an_erasing_has_nothing_of_the_student(data: Path, tmp_path: Path) -> None:
    move_away(data, 0, tmp_path / "usb")
    return_all(data, tmp_path / "usb")
    erase_one(data, "s-1")
    _, found = await run(data)
    assert not any("erased" in one.code for one in found)


async def test_without_a_snapshot_it_is_said_that_it_is_not_known(data: Path, tmp_path: Path) -> None:
    move_away(data, 0, tmp_path / "usb")
    erase_one(data, "s-1")
    return_all(data, tmp_path / "usb")
    for path in snapshot.snapshots(data / "snapshots"):
        path.unlink()
    _, found = await run(data)
    [one] = [one for one in found if one.code == "archive.erased_unknown"]
    assert one.severity == "info"
    assert "run 'erase-student' again before" in one.line
