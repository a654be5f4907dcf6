"""Real mounts and a real second user, where this user may have them; a test is skipped visibly where not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SERVICE = 65534
"""A user who is not this one."""


@contextmanager
def mounted(at: Path, *words: str) -> Iterator[Path]:
    """Mount something at a folder, which is made.

    Args:
        at: the mount point.
        words: of the command, as `-t tmpfs tmpfs`.
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("mounts are tested on Linux alone")
    at.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["mount", *words, str(at)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing can be mounted here, which takes root")
    try:
        yield at
    finally:
        # Lazily, since a test that failed may have a file open.
        subprocess.run(["umount", "--lazy", str(at)], check=True)


def needs_root() -> None:
    """Skip a test where this user may not give files to another one."""
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root may give files to another user")


def give(folder: Path, uid: int = SERVICE) -> None:
    """Give a folder and all in it to a user."""
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, uid, uid, follow_symlinks=False)


def owners(folder: Path) -> dict[str, tuple[int, int]]:
    """User and group of a folder and of all in it, by name."""
    return {
        path.relative_to(folder).as_posix(): (found.st_uid, found.st_gid)
        for path in [folder, *folder.rglob("*")]
        for found in [path.lstat()]
    }


@contextmanager
def as_service() -> Iterator[None]:
    """Read and write files as the service's user; what is needed of Python must be imported before."""
    os.setegid(SERVICE)
    os.seteuid(SERVICE)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
