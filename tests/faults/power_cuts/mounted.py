"""Starts the file system of power cuts, controls it, and always unmounts it again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PATIENCE = 60.0


def missing() -> str:
    """What this computer lacks for it; "" for nothing."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse"
    if shutil.which("fusermount3") is None and shutil.which("fusermount") is None:
        return "fusermount3 (Debian: fuse3)"
    try:
        import mfusepy  # noqa: F401
    except (ImportError, OSError):
        return "mfusepy and the library of FUSE (Debian: fuse3)"
    return ""


def require() -> None:
    """Skip a test where FUSE is not to be had; in CI on Linux that is a failure."""
    if lacking := missing():
        message = f"{lacking} is missing, which a simulated power cut needs"
        if os.environ.get("CI") == "true" and sys.platform == "linux":
            pytest.fail(message)
        pytest.skip(message)


def is_mounted(folder: Path) -> bool:
    """Whether something is mounted there; also where its process has ended, when `os.path.ismount` says no."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return str(folder) in {line.split(" ")[1] for line in mounts}


class PowerCutDisk:
    """The mounted file system, in a process of its own that ends with this one.

    Attributes:
        folder: where it is mounted.
    """

    def __enter__(self) -> PowerCutDisk:
        self.folder = Path(tempfile.mkdtemp(prefix="power-cuts-"))
        command = [sys.executable, "-m", "tests.faults.power_cuts.file_system", str(self.folder)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        try:
            end = time.monotonic() + PATIENCE
            while not os.path.ismount(self.folder):
                if self._process.poll() is not None or time.monotonic() > end:
                    raise AssertionError("The file system of power cuts was not mounted; its error is above.")
                time.sleep(0.01)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        if is_mounted(self.folder):
            unmount = shutil.which("fusermount3") or "fusermount"
            subprocess.run([unmount, "-u", "-z", str(self.folder)], check=False)
        self.folder.rmdir()

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    @property
    def root(self) -> Path:
        """The root of the disk."""
        return self.folder / "disk"

    def new(self, mode: str, seed: int) -> None:
        """Begin with a new, empty disk of a mode (`disk`)."""
        self._do("new", mode=mode, seed=seed)

    def trouble(self, kinds: tuple[str, ...], first: int, **options: Any) -> None:
        """Let operations fail; see `Trouble`."""
        self._do("trouble", kinds=kinds, first=first, **options)

    def sync(self) -> None:
        """Make everything durable."""
        self._do("sync")

    def end(self) -> None:
        """From now on nothing that the present process has open or asks for succeeds."""
        self._do("end")

    def kill(self, seed: int) -> None:
        """Begin anew with the same disk, as after a process was killed."""
        self._do("kill", seed=seed)

    def cut(self, seed: int) -> None:
        """Begin anew with what a power cut leaves of the disk."""
        self._do("cut", seed=seed)

    @property
    def ended(self) -> bool:
        """Whether a trouble has cut the power."""
        return bool(self._do("state")["ended"])

    def counts(self) -> dict[str, int]:
        """How many operations of each kind there were since the disk's last life began."""
        counts: dict[str, int] = self._do("state")["counts"]
        return counts

    def log(self) -> list[str]:
        """The operations since the disk's last life began, each with its file."""
        log: list[str] = self._do("log")["log"]
        return log

    def _do(self, name: str, **command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": name, **command}) + "\n")
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        if "failed" in answer:
            raise AssertionError(f"The file system of power cuts failed: {answer['failed']}")
        return answer
