"""Real file systems: exFAT, one that is full, one that is mounted read-only; and a user without a home folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.cli import main
from appliance.datafolder import DataFolder, notes
from appliance.errors import SettingsError
from appliance.maintenance.upgrade import bring_up_to_date
from tests.maintenance.mounted import mounted, needs_root

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FIXTURES = Path(__file__).parents[1] / "fixtures"


@contextmanager
def exfat(folder: Path) -> Iterator[Path]:
    """A disk that is formatted as exFAT, by the kernel or by FUSE."""
    for command in ("mkfs.exfat", "losetup"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed")
    needs_root()
    image, point = folder / "exfat.img", folder / "exfat"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.exfat", image], check=True, capture_output=True)
    try:
        words = ["losetup", "--find", "--show", str(image)]
        device = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    except subprocess.CalledProcessError:
        pytest.skip("there are no loop devices here")
    try:
        for mount in (["mount", "-t", "exfat"], ["mount.exfat-fuse"]):
            if shutil.which(mount[0]) and not subprocess.run([*mount, device, point], capture_output=True).returncode:
                break
        else:
            pytest.skip("neither the kernel nor FUSE mounts exFAT here")
        try:
            yield point
        finally:
            subprocess.run(["umount", point], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def lines_of(capsys: pytest.CaptureFixture[str]) -> str:
    found = capsys.readouterr()
    return found.out + found.err


def test_a_stick_with_exfat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with exfat(tmp_path) as stick:
        data = stick / "data"
        # Copied by content alone, as there are no modes.
        shutil.copytree(FIXTURES / "data-3", data, copy_function=shutil.copyfile)
        with DataFolder(data) as folder:
            bring_up_to_date(folder)
            assert "datafolder.not_private" in {one.code for one in notes.findings(data)}
        told = ["--data-dir", str(data)]
        main(["check", *told, "--port", "0"])
        assert "does not keep files from other users" in lines_of(capsys)
        assert main(["verify", *told]) == 0
        assert main(["backup", "--out", str(stick / "b.tar"), *told]) == 0
        assert main(["export", "--out", str(stick / "out"), *told]) == 0
        assert main(["replay", str(data), "--out", str(stick / "r.json")]) == 0
        student = next(iter(json.loads((stick / "r.json").read_bytes())["students"]))
        assert main(["erase-student", student, "--yes", *told]) == 0
        assert main(["restore", str(stick / "b.tar"), "--force", *told]) == 0
        assert main(["verify", *told]) == 0


def test_a_disk_that_is_mounted_read_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "tmpfs") as disk:
        shutil.copytree(FIXTURES / "data-3", disk / "data")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        told = ["--data-dir", str(disk / "data")]
        with pytest.raises(SettingsError, match="cannot be written: Read-only file system"):
            DataFolder(disk / "data")
        assert main(["check", *told, "--port", "0"]) == 1
        assert "mount it for writing, or choose another folder" in lines_of(capsys)
        # What only reads works.
        assert main(["verify", *told]) == 0
        assert main(["backup", "--out", str(tmp_path / "b.tar"), *told]) == 0
        assert main(["export", "--out", str(tmp_path / "out"), *told]) == 0
        # What writes is a sentence.
        assert main(["erase-student", "s-1", "--yes", *told]) == 2
        assert "Read-only file system" in lines_of(capsys)


def test_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=256k", "tmpfs") as disk:
        (disk / "data").mkdir()
        with (disk / "fill").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):  # noqa: PT012
            while True:
                file.write(b"x" * 4096)
        told = ["--data-dir", str(disk / "data")]
        assert main(["check", *told, "--port", "0"]) == 1
        with DataFolder(disk / "data") as folder, pytest.raises(SettingsError, match="No space left"):
            bring_up_to_date(folder)
        assert "Traceback" not in lines_of(capsys)


WITHOUT_HOME = """
import pwd, sys

def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

pwd.getpwuid = unknown
from appliance.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""Runs the program for a user whom the system does not know. A real one may not be able to read this Python."""


def without_home(*words: str) -> subprocess.Popen[bytes]:
    own = ("XDG_", "HOME", "USER", "LOGNAME")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    command = [sys.executable, "-c", WITHOUT_HOME, *words]
    return subprocess.Popen(command, cwd=ROOT, env=kept, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.skipif(os.name == "nt", reason="there every user has a home folder")
def test_a_user_without_a_home_folder_whom_the_system_does_not_know(tmp_path: Path) -> None:
    data, ready = tmp_path / "data", tmp_path / "ready"
    words = ["--port", "0", "--host", "127.0.0.1", "--no-tray", "--no-browser", "--data-dir", str(data)]
    program = without_home(*words, "--ready-file", str(ready))
    try:
        assert program.stdout is not None
        said = b""
        while not ready.exists() and program.poll() is None:
            said += program.stdout.readline()
        program.send_signal(signal.SIGTERM)
        said += program.communicate(timeout=60)[0]
    finally:
        program.kill()
        program.wait()
    assert program.returncode == 0, said.decode()
    assert b"Traceback" not in said
    assert (data / "logs" / "classroom-observer.log").exists()
    without = without_home("check")
    said = without.communicate(timeout=60)[0]
    assert b"This user has no home folder. Name a folder with --data-dir, or set HOME." in said
    assert b"Traceback" not in said
