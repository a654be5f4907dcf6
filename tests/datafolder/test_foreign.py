"""Files of other programs: conflict copies of synced folders, and what desktops leave, are known by their names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from appliance.datafolder import files
from appliance.datafolder.filesystem import kind_of
from appliance.datafolder.foreign import is_of_desktop
from appliance.datafolder.synced import service_of
from appliance.maintenance.all_files import ConflictCopies, DesktopFiles, OtherFiles, stored_files
from appliance.roster import RosterLimits
from appliance.roster.place import RosterPlace

LIMITS = RosterLimits()
SEGMENT = "events-20261124-0001.jsonl"
COPIES = {
    "events-20261124-0001.sync-conflict-20261130-101112-ABCDEFG.jsonl.gz": f"{SEGMENT}.gz",
    "events-20261124-0001.jsonl.sync-conflict-20261130-101112-ABCDEFG.gz": f"{SEGMENT}.gz",
    "events-20261124-0001 (Ada's conflicted copy 2026-11-30).jsonl": SEGMENT,
    "events-20261124-0001 (conflicted copy 2026-11-30 101112).jsonl": SEGMENT,
    "events-20261124-0001 (In Konflikt stehende Kopie von PC 2026-11-30).jsonl": SEGMENT,
    "events-20261124-0001 (1).jsonl": SEGMENT,
    "events-20261124-0001.jsonl (1).gz": f"{SEGMENT}.gz",
    "events-20261124-0001 2.jsonl": SEGMENT,
    "events-20261124-0001 - Copy.jsonl": SEGMENT,
    "events-20261124-0001-DESKTOP-7AB3.jsonl": SEGMENT,
    "events-20261124-0001_conflict-20261130-101112.jsonl": SEGMENT,
    "credentials-LAPTOP-2.json": "credentials.json",
    "credentials-Adas-MacBook.json": "credentials.json",
    "classes (1).json": "classes.json",
}
OWN = [
    *(SEGMENT, f"{SEGMENT}.gz", "events-20261124-0001.index", "markers.jsonl", "snapshot-000001.bin", "format.json"),
    *(
        "credentials-copy.json",
        "classes-damaged.jsonl",
        "roster-damaged.jsonl",
        "erasing.json",
        "lock",
        "format-copy.json",
    ),
    *("format-1-20260101-000000.tar", "format-1-20260101-000000-2.tar", "events-20261124-0001-4711.txt"),
]
JUNK = ["._events-20261124-0001.jsonl.gz", ".DS_Store", "desktop.ini", "Thumbs.db", ".stfolder", "~$students.csv"]


@pytest.mark.parametrize("name", COPIES)
def test_a_conflict_copy_is_known_by_its_name(name: str) -> None:
    assert files.conflict_copy_of(Path("archive", name)) == COPIES[name]


@pytest.mark.parametrize("name", OWN)
def test_a_file_of_the_program_is_none(name: str) -> None:
    assert files.conflict_copy_of(Path(name)) is None
    assert not is_of_desktop(Path(name))


def test_they_belong_to_no_other_part_and_verify_says_what_they_are(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    for name, original in COPIES.items():
        (archive if original.startswith("events") else tmp_path).joinpath(name).write_bytes(b"x")
    for name in JUNK:
        (archive / name).write_bytes(b"x")
    (tmp_path / "Notes (1).txt").write_text("of a teacher")
    parts = stored_files(tmp_path, RosterPlace.within(tmp_path / "roster"), LIMITS)
    by_kind = {type(part): part.files() for part in parts}
    assert {path.name for path in by_kind.pop(ConflictCopies)} == set(COPIES)
    assert {path.name for path in by_kind.pop(DesktopFiles)} == set(JUNK)
    assert not any(by_kind.values())
    assert [path.name for path in OtherFiles(tmp_path, parts).files()] == ["Notes (1).txt"]
    found = [one for part in parts for one in part.verify()]
    assert {one.severity for one in found} == {"ok"}
    [said] = [one.text for one in found if one.subject == "classes (1).json"]
    assert "a conflict copy of classes.json" in said


def test_a_key_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "study 2").write_text("x")
    [owner] = [part for part in stored_files(tmp_path, None, LIMITS) if part.files()]
    assert owner.patterns == ("keys/*",)


@pytest.mark.parametrize(
    ("place", "service"),
    [
        ("OneDrive - Gymnasium/class", "OneDrive"),
        ("Dropbox/class", "Dropbox"),
        ("Library/Mobile Documents/com~apple~CloudDocs/class", "iCloud Drive"),
        ("Library/CloudStorage/GoogleDrive-ada@example.org/My Drive/class", "Google Drive"),
        ("Nextcloud/class", "Nextcloud"),
        ("documents/class", ""),
    ],
)
def test_a_synced_folder_is_known_by_its_place(tmp_path: Path, place: str, service: str) -> None:
    assert service_of(tmp_path / place, {}) == service


@pytest.mark.parametrize(
    ("marker", "service"),
    [(".stfolder", "Syncthing"), (".sync_0a1b2c3d.db", "Nextcloud"), (".dropbox.cache", "Dropbox")],
)
def test_a_synced_folder_is_known_by_what_the_service_leaves_there(tmp_path: Path, marker: str, service: str) -> None:
    (tmp_path / marker).mkdir()
    assert service_of(tmp_path / "a" / "b", {}) == service


def test_a_synced_folder_is_known_by_the_environment(tmp_path: Path) -> None:
    assert service_of(tmp_path / "a", {"OneDriveCommercial": str(tmp_path)}) == "OneDrive"


@pytest.mark.skipif(sys.platform != "linux", reason="reads the mounts of Linux")
def test_the_kind_of_a_file_system_is_that_of_the_innermost_mount(tmp_path: Path) -> None:
    folder = tmp_path / "with blank"
    folder.mkdir()
    mounts = tmp_path / "mounts"
    escaped = str(folder).replace(" ", "\\040")
    mounts.write_text(f"/dev/a / ext4 rw 0 0\n//server/x {escaped} cifs rw 0 0\nbroken\nproc /proc proc rw 0 0\n")
    assert kind_of(folder, mounts) == "cifs"
    assert kind_of(tmp_path, mounts) == "ext4"
    assert kind_of(tmp_path, tmp_path / "none") == ""
