"""Privacy: nobody else reads a data folder, nor what an earlier version made in it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from appliance.datafolder import files, notes, private
from appliance.datafolder.private import icacls_words, make_folder_private
from tests.datafolder.disks import ModelessDisk, RefusingDisk

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there are no modes")


def filled(folder: Path) -> Path:
    """A data folder as an earlier version made it."""
    (folder / "archive" / "torn").mkdir(parents=True)
    for name in ("archive/events-20260101-0001.jsonl", "archive/torn/a.txt", "format.json"):
        (folder / name).write_text("x")
        (folder / name).chmod(0o644)
    for path in (folder, folder / "archive", folder / "archive" / "torn"):
        path.chmod(0o755)
    return folder


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}


def test_what_others_could_read_is_mended_once(tmp_path: Path) -> None:
    folder = filled(tmp_path / "data")
    outside = tmp_path / "outside"
    outside.write_text("x")
    outside.chmod(0o644)
    (folder / "link").symlink_to(outside)
    assert make_folder_private(folder) == 6
    (folder / "link").unlink()
    assert modes(folder) == {0o600, 0o700}
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644, "a link is not followed"
    assert make_folder_private(folder) == 0
    assert notes.findings(folder) == []


@pytest.mark.parametrize("mode", [0o750, 0o2770])
def test_a_folder_that_somebody_opened_to_a_group_stays_so_and_shows_no_content(tmp_path: Path, mode: int) -> None:
    folder = filled(tmp_path / "data")
    folder.chmod(mode)
    make_folder_private(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == mode
    assert modes(folder) == {mode, 0o600, 0o700}


def test_a_set_group_id_bit_stays(tmp_path: Path) -> None:
    folder = filled(tmp_path / "data")
    folder.chmod(0o2775)
    make_folder_private(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o2700


@pytest.mark.parametrize("number", [errno.EPERM, errno.EROFS, errno.ENOTSUP])
def test_a_refusal_is_noted_and_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    folder = filled(tmp_path / "data")
    monkeypatch.setattr(files, "disk", RefusingDisk(chmod=number))
    assert make_folder_private(folder) == 0
    assert [one.code for one in notes.findings(folder)] == ["datafolder.not_private"]


def test_modes_that_are_ignored_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(tmp_path / "data")
    monkeypatch.setattr(files, "disk", ModelessDisk(refuses=False))
    assert make_folder_private(folder) == 0
    [found] = notes.findings(folder)
    assert (found.code, found.params["detail"]) == ("datafolder.not_private", "the mode stays 755")


def test_the_walk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(tmp_path / "data")
    monkeypatch.setattr(private, "MOST_ENTRIES", 1)
    assert make_folder_private(folder) == 1
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700, "nobody reaches what is inside"


def test_the_command_of_windows_names_the_user_and_the_system_alone() -> None:
    assert icacls_words(Path("data folder"), "SCHOOL\\ada") == [
        *("icacls", "data folder", "/inheritance:r", "/grant:r", "SCHOOL\\ada:(OI)(CI)F"),
        *("/grant:r", "*S-1-5-18:(OI)(CI)F", "/q"),
    ]
