"""The lock of a data folder: one program at a time, also where the file system has no locks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from appliance.datafolder import DataFolder, files, lock, notes
from appliance.datafolder.lock import HOLDER, Holder
from appliance.errors import DataFolderInUseError, SettingsError
from tests.datafolder.disks import RefusingDisk

WITHOUT_LOCKS = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.02)


def without_locks(monkeypatch: pytest.MonkeyPatch, number: int = errno.ENOLCK) -> None:
    monkeypatch.setattr(files, "disk", RefusingDisk(lock=number))


def holder(folder: Path) -> Holder:
    return msgspec.json.decode((folder / HOLDER).read_bytes(), type=Holder)


@pytest.mark.parametrize("number", WITHOUT_LOCKS)
def test_a_folder_without_locks_is_used_and_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    without_locks(monkeypatch, number)
    with DataFolder(tmp_path):
        [found] = notes.findings(tmp_path)
        assert (found.code, found.params["detail"]) == ("datafolder.no_lock", os.strerror(number))
        assert holder(tmp_path).pid == os.getpid()
    assert not (tmp_path / HOLDER).exists()
    with DataFolder(tmp_path):
        pass


def test_a_second_program_on_a_folder_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch)
    with DataFolder(tmp_path), pytest.raises(DataFolderInUseError, match=f"process {os.getpid()}"):
        DataFolder(tmp_path)
    code = (
        "import errno, os, sys\n"
        "from pathlib import Path\n"
        "from appliance.datafolder import DataFolder, files, lock\n"
        "def refuse(handle): raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))\n"
        "files.disk.lock = refuse\n"
        "lock.HEARTBEAT_SECONDS = 0.02\n"
        "with DataFolder(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin is not None
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "held\n"
        # So that a busy computer has time for a heartbeat.
        monkeypatch.setattr(lock, "PATIENCE", 500)
        with pytest.raises(DataFolderInUseError, match=f"process {other.pid} on"):
            DataFolder(tmp_path)
    finally:
        other.kill()
        other.wait()
        other.stdin.close()
        other.stdout.close()
    with DataFolder(tmp_path):
        assert holder(tmp_path).pid == os.getpid(), "a killed one holds nothing"


def test_a_holder_on_another_computer_that_does_not_change_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch)
    (tmp_path / HOLDER).write_bytes(msgspec.json.encode(Holder(1, "elsewhere", "x")))
    with DataFolder(tmp_path):
        assert holder(tmp_path).host != "elsewhere"


def test_a_program_that_took_the_folder_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch)
    with DataFolder(tmp_path):
        files.write_private(tmp_path / HOLDER, msgspec.json.encode(Holder(7, "elsewhere", "x")))
        while "datafolder.second_program" not in {one.code for one in notes.findings(tmp_path)}:
            assert (tmp_path / HOLDER).exists()
    [found] = [one for one in notes.findings(tmp_path) if one.code == "datafolder.second_program"]
    assert (found.severity, found.params["holder"]) == ("critical", "7 on elsewhere")


def test_a_damaged_holder_file_is_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch)
    (tmp_path / HOLDER).write_bytes(b"{")
    with DataFolder(tmp_path):
        pass


def test_a_folder_that_takes_neither_lock_nor_file_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "disk", RefusingDisk(lock=errno.ENOLCK, write=errno.ENOSPC))
    with pytest.raises(SettingsError, match=r"without locks .* cannot be written: No space left"):
        DataFolder(tmp_path)


def test_a_lock_that_is_held_is_somebodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "disk", RefusingDisk(lock=errno.EAGAIN))
    with pytest.raises(DataFolderInUseError, match="Another appliance"):
        DataFolder(tmp_path)


def test_a_full_disk_does_not_prevent_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, content: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        with DataFolder(tmp_path), pytest.raises(DataFolderInUseError):
            DataFolder(tmp_path)
