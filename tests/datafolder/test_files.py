"""Writing files: errors of a file system that lose nothing are tolerated and noted, all others leave what was there."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from appliance.cli import main
from appliance.datafolder import files, notes
from appliance.datafolder.disk import Disk
from tests.datafolder.disks import ModelessDisk, RefusingDisk

LOSING = [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS]


def codes(folder: Path) -> list[str]:
    return [one.code for one in notes.findings(folder)]


def use(monkeypatch: pytest.MonkeyPatch, disk: Disk) -> None:
    monkeypatch.setattr(files, "disk", disk)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EPERM, errno.EBADF])
def test_a_folder_that_cannot_be_synced_is_noted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    use(monkeypatch, RefusingDisk(sync_folder=number))
    for content in (b"one", b"two"):
        files.write_private(tmp_path / "a", content)
    assert (tmp_path / "a").read_bytes() == b"two"
    [found] = notes.findings(tmp_path)
    assert (found.code, found.severity, found.params["detail"]) == (
        "datafolder.no_folder_sync",
        "warning",
        os.strerror(number),
    )


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_that_cannot_be_synced_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    use(monkeypatch, RefusingDisk(fsync=number))
    files.write_private(tmp_path / "a", b"one")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert codes(tmp_path) == ["datafolder.no_sync", "datafolder.no_folder_sync"]


@pytest.mark.parametrize("number", LOSING)
@pytest.mark.parametrize("call", ["fsync", "write", "rename", "open"])
def test_a_failure_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    disk = RefusingDisk(**{call: number})
    use(monkeypatch, disk)
    with pytest.raises(OSError, match=os.strerror(number)):
        files.write_private(tmp_path / "a", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"
    assert disk.calls.count("fsync") <= 1, "a failed sync is not tried again"
    assert codes(tmp_path) == []


def test_a_folder_whose_sync_fails_for_another_reason_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, RefusingDisk(sync_folder=errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        files.write_private(tmp_path / "a", b"new")


def test_a_name_that_is_too_long_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        files.write_private(tmp_path / ("a" * 300), b"new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="there are no modes")
@pytest.mark.parametrize("refuses", [True, False])
def test_a_disk_without_modes_is_written_and_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    use(monkeypatch, ModelessDisk(refuses=refuses))
    files.write_private(tmp_path / "a", b"one")
    with files.written_new(tmp_path / "b") as file:
        file.write(b"two")
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"one", b"two"]
    assert codes(tmp_path) == ["datafolder.not_private"]


@pytest.mark.skipif(os.name == "nt", reason="there are no modes")
@pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o277])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        files.make_folder(tmp_path / "folder" / "inner")
        files.write_private(tmp_path / "folder" / "a", b"one")
        files.append_to(tmp_path / "folder" / "b").close()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "folder").iterdir()}
    assert modes == {"inner": 0o700, "a": 0o600, "b": 0o600}
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700
    assert codes(tmp_path) == []


def test_a_closed_file_is_not_synced_by_its_number(tmp_path: Path) -> None:
    file = files.create(tmp_path / "a")
    file.close()
    with pytest.raises(ValueError, match="closed"):
        files.sync_file(file)


def test_macos_syncs_to_the_drive_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    done: list[object] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(os, "fsync", lambda handle: done.append("fsync"))
    monkeypatch.setattr(fcntl, "fcntl", lambda handle, command: done.append(command))
    Disk().fsync(7)
    assert done == [51]

    def refuses(handle: int, command: int) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    # A share has no such command; what is left is the ordinary one.
    monkeypatch.setattr(fcntl, "fcntl", refuses)
    Disk().fsync(7)
    assert done == [51, "fsync"]

    def fails(handle: int, command: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "fcntl", fails)
    with pytest.raises(OSError, match="Input/output"):
        Disk().fsync(7)


def test_a_tree_is_removed_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "kept").write_text("x")
    (tmp_path / "tree" / "inner").mkdir(parents=True)
    (tmp_path / "tree" / "inner" / "a").write_text("x")
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "other")
    files.remove_tree(tmp_path / "tree")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert (tmp_path / "other" / "kept").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", ["verify", "backup --out b.tar", "erase-student x --yes", "stop", "export --out e", "check"]
)
def test_a_folder_with_a_name_that_is_too_long_is_a_sentence_of_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command.split(), "--data-dir", str(tmp_path / ("a" * 300))]) in (1, 2)
    found = capsys.readouterr()
    assert "File name too long" in found.out + found.err


def test_a_folder_whose_making_was_cut_short_is_synced_by_the_next_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    use(monkeypatch, RefusingDisk(sync_folder=errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        files.make_folder(tmp_path / "a" / "b")
    later = RefusingDisk()
    use(monkeypatch, later)
    files.make_folder(tmp_path / "a" / "b")
    done = [call for call in later.calls if call in ("mkdir", "sync_folder")]
    assert done == ["sync_folder", "mkdir", "sync_folder"], "first the entry of a, then b"
    (tmp_path / "a" / "b" / "file").write_bytes(b"")
    later.calls.clear()
    files.make_folder(tmp_path / "a" / "b")
    assert not later.calls, "what has a file in it was durable before"
