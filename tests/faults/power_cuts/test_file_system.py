"""The file system of power cuts, mounted."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.power_cuts.mounted import PATIENCE, ROOT, PowerCutDisk, is_mounted, require


@pytest.fixture
def disk() -> Iterator[PowerCutDisk]:
    require()
    with PowerCutDisk() as disk:
        yield disk


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def test_what_is_synced_is_there_after_a_power_cut(disk: PowerCutDisk) -> None:
    for seed in range(20):
        disk.new("free", seed)
        (disk.root / "kept").write_bytes(b"kept" * 5000)
        sync(disk.root / "kept")
        sync(disk.root)
        (disk.root / "lost").write_bytes(b"lost")
        handle = os.open(disk.root / "kept", os.O_WRONLY | os.O_APPEND)
        os.write(handle, b"more")
        disk.end()
        with pytest.raises(OSError, match="Input/output"):
            os.write(handle, b"more")
        disk.cut(seed)
        with pytest.raises(OSError, match="Input/output"):
            os.write(handle, b"more")
        os.close(handle)
        assert (disk.root / "kept").read_bytes().startswith(b"kept" * 5000)


def test_a_killed_process_leaves_what_it_wrote(disk: PowerCutDisk) -> None:
    disk.new("journal", 1)
    (disk.root / "x").write_bytes(b"x")
    disk.end()
    disk.kill(1)
    assert (disk.root / "x").read_bytes() == b"x"
    assert disk.log() == []


def test_errors_on_demand(disk: PowerCutDisk) -> None:
    disk.new("fat", 1)
    file = disk.root / "x"
    file.write_bytes(b"")
    with pytest.raises(PermissionError):
        file.chmod(0o600)
    disk.trouble(("write",), 1, times=2, errno=errno.ENOSPC)
    handle = os.open(file, os.O_WRONLY)
    try:
        assert os.write(handle, b"12345678") == 4, "a disk that is nearly full takes a part"
        with pytest.raises(OSError, match="No space"):
            os.write(handle, b"5")
        disk.trouble(("fsync",), 1, errno=errno.EIO)
        with pytest.raises(OSError, match="Input/output"):
            os.fsync(handle)
        os.fsync(handle)
    finally:
        os.close(handle)
    assert [line for line in disk.log() if "fsync" in line] == ["fsync x: EIO", "fsync x"]
    assert not disk.ended
    disk.trouble(("create",), 1, end="before")
    with pytest.raises(OSError, match="Input/output"):
        (disk.root / "y").write_bytes(b"")
    assert disk.ended


def test_it_ends_with_the_process_that_began_it() -> None:
    require()
    program = (
        "import time\n"
        "from tests.faults.power_cuts.mounted import PowerCutDisk\n"
        "with PowerCutDisk() as disk:\n"
        "    print(disk.folder, flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    assert os.path.ismount(folder)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    end = time.monotonic() + PATIENCE
    while is_mounted(folder):
        assert time.monotonic() < end, "It is still mounted."
        time.sleep(0.01)
    folder.rmdir()
