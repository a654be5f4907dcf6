"""What verify, restore, replay and a start say about an archive whose checksums do not fit."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance import plugins
from appliance.archive import segments
from appliance.archive.head import head
from appliance.archive.markers import Marker, add_marker
from appliance.config import Settings
from appliance.health import Finding
from appliance.maintenance import backup
from appliance.maintenance.backup import BackupError
from appliance.maintenance.verify import verify
from tests.cli.world import CommandLine
from tests.recovery.test_recovery import bundled
from tests.recovery.world import Core

FIXTURE = Path(__file__).parents[1] / "fixtures" / "data-3"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURE, tmp_path / "data"))


@pytest.fixture
def observer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys, tmp_path)


async def run(data: Path) -> list[Finding]:
    found: list[Finding] = []
    well = await verify(Settings(data_dir=str(data)), plugins.load(data / "none", ()), found.append, lambda share: None)
    assert well == all(finding.severity == "ok" for finding in found)
    return found


def lines_of(found: list[Finding]) -> list[str]:
    return [one.line for one in found if one.severity != "ok"]


def plain(data: Path) -> Path:
    return segments(data / "archive")[-1]


def change_a_letter(data: Path) -> None:
    """A line that is not the last one of its group has another word, and is JSON still."""
    path = plain(data)
    path.write_bytes(path.read_bytes().replace(b'"wife. "', b'"life. "', 1))


def cut_a_group_out(data: Path) -> None:
    path = plain(data)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[6:]))


def remove_a_segment(data: Path) -> None:
    segments(data / "archive")[0].unlink()


async def test_each_segment_and_the_head_are_shown(data: Path) -> None:
    found = await run(data)
    assert lines_of(found) == []
    [proved] = [one for one in found if one.code == "archive.proved"]
    first, last = segments(data / "archive")
    assert proved.subject == f"{first.name} to {last.name}"
    assert proved.params["groups"] == 12
    [shown] = [one for one in found if one.code == "archive.head"]
    assert shown.params["words"] == head(data / "archive").words
    assert len(head(data / "archive").words.split()) == 8
    assert head(data / "archive").checksum in shown.line
    add_marker(data / "archive", Marker("deleted", 1.0, []))
    assert head(data / "archive") != head(FIXTURE / "archive"), "a change of the past changes the words"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (change_a_letter, "archive.damaged_line"),
        (cut_a_group_out, "archive.broken_link"),
        (remove_a_segment, "archive.broken_link"),
    ],
)
async def test_verify_names_file_and_place(data: Path, change: Callable[[Path], None], code: str) -> None:
    name = plain(data).name
    change(data)
    [one] = [one for one in await run(data) if one.code == code]
    assert f"{name}, line " in one.line
    assert "(byte " in one.line


async def test_a_start_says_so_and_uses_what_is_good(data: Path) -> None:
    shutil.rmtree(data / "snapshots")
    change_a_letter(data)
    core = Core(data, *bundled())
    await core.start()
    [one] = core.recovery.findings[:1]
    assert one.code == "archive.unreadable"
    assert f"3 lines of the archive cannot be read, the first in {plain(data).name}, line 1 (byte 0)" in one.text
    await core.crash()
    shutil.rmtree(data / "archive")
    shutil.copytree(FIXTURE / "archive", data / "archive")
    cut_a_group_out(data)
    core = Core(data, *bundled())
    await core.start()
    assert "archive.broken_link" in [one.code for one in core.recovery.findings]
    await core.crash()


@pytest.mark.parametrize("change", [change_a_letter, cut_a_group_out])
def test_a_backup_of_a_damaged_archive_is_restored_if_that_is_wanted(
    data: Path, tmp_path: Path, change: Callable[[Path], None], observer: CommandLine
) -> None:
    change(data)
    backup.back_up(data, tmp_path / "b.tar")
    with pytest.raises(BackupError, match=rf"was damaged before the backup was made \({plain(data).name}, line"):
        backup.restore(tmp_path / "b.tar", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert observer("restore", tmp_path / "b.tar", "--data-dir", tmp_path / "new") == 1
    assert "--accept-damage" in observer.err
    assert observer("restore", tmp_path / "b.tar", "--data-dir", tmp_path / "new", "--accept-damage") == 0
    assert plain(tmp_path / "new").read_bytes() == plain(data).read_bytes()


@pytest.mark.parametrize("change", [change_a_letter, cut_a_group_out])
def test_a_backup_of_a_damaged_archive_is_written_with_a_warning(
    data: Path, tmp_path: Path, change: Callable[[Path], None], observer: CommandLine
) -> None:
    shutil.copytree(data, data / "workers" / "1")
    words = ["backup", "--data-dir", data, "--force", "--out"]
    assert observer(*words, tmp_path / "b.tar") == 0, observer.err
    assert observer.err == ""
    change(data)
    change(data / "workers" / "1")
    assert observer(*words, tmp_path / "b.tar") == 1
    assert "each has its checksum" in observer.out
    assert "Warning: the archive in it is damaged in 2 places:" in observer.err
    for folder in ("", "workers/1/archive/"):
        assert f"\n  {folder}{plain(data).name}, line " in observer.err
    assert "Keep the earlier backups" in observer.err
    assert {path.name for path in tmp_path.iterdir()} == {"b.tar", "data"}, "what was unpacked is removed"
    assert observer("restore", tmp_path / "b.tar", "--data-dir", tmp_path / "new", "--accept-damage") == 0


def test_a_backup_that_cannot_be_unpacked_for_the_check_is_named(
    data: Path, observer: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("appliance.maintenance.backup_format.make_folder", full)
    assert observer("backup", "--data-dir", data, "--out", observer.home / "b.tar") == 1
    assert "it cannot be unpacked beside it (No space left on device)" in observer.err
    assert {path.name for path in observer.home.iterdir()} == {"b.tar", "data"}


def test_a_replay_names_broken_links(data: Path, observer: CommandLine) -> None:
    cut_a_group_out(data)
    observer("replay", data, "--out", "-")
    assert f"The chain of checksums is broken in 1 place:\n  {plain(data).name}, line 4 (byte " in observer.err
    [link] = json.loads(observer.out)["broken_links"]
    assert (link["file"], link["line"]) == (plain(data).name, 4)
    change_a_letter(data)
    observer("replay", data, "--out", "-")
    [damage] = json.loads(observer.out)["damaged"]
    assert damage["lines"] == 3
