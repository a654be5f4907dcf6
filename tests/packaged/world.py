"""The packaged program, built once from these sources, and an empty environment to start it in.

It is run by a user without rights, with an empty PATH, an empty home and a read-only working folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.browser.world import HOST, Appliance

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "build" / "tested"
NOBODY = 65534


def sources() -> str:
    """A digest of all sources of the packaged program."""
    digest = hashlib.sha256()
    folders = ("appliance", "reducers", "webui", "packaging")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*") if file.is_file()]
    for file in sorted([*files, ROOT / "run.py", ROOT / "pyproject.toml"]):
        if "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def build() -> Path:
    """Build both forms of the program, unless those that are there were built of the same sources.

    Returns:
        the folder with ``classroom-observer`` (one file) and ``program/`` (a folder).
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("this is about the Linux program")
    stamp, wanted = BUILT / "sources", sources()
    if stamp.is_file() and stamp.read_text() == wanted:
        return BUILT
    tools = subprocess.run([ROOT / "packaging" / "packages"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if tools.returncode != 0:
        missing = f"what packages the program is not installed: {tools.stderr.strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    stamp.unlink(missing_ok=True)
    done = subprocess.run(
        ["make", "--no-print-directory", "program", f"DIST={BUILT}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    stamp.write_text(wanted)
    return BUILT


class World:
    """A computer with nothing but the program.

    Attributes:
        program: the executable.
        home: the user's home, empty at first.
        temporary: where a one-file program unpacks itself.
        folder: the working folder, which cannot be written.
    """

    def __init__(self, folder: Path, program: Path) -> None:
        self.program = program
        self.home, self.temporary, self.folder = folder / "home", folder / "tmp", folder / "here"
        for each in (self.home, self.temporary, self.folder):
            each.mkdir()
        # Root may write everywhere, so the program runs as another user.
        self._user = NOBODY if os.geteuid() == 0 else None
        if self._user is not None:
            folder.chmod(0o755)
            for each in (self.home, self.temporary):
                os.chown(each, NOBODY, NOBODY)
        self.folder.chmod(0o555)

    @property
    def plugins(self) -> Path:
        """The user's plug-in folder."""
        return self.home / ".config" / "classroom-observer" / "reducers"

    @property
    def data(self) -> Path:
        """The user's data folder."""
        return self.home / ".local" / "share" / "classroom-observer"

    def begin(
        self, *arguments: str, out: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start the program.

        Args:
            arguments: its command line.
            out: the file for its output; without one, the output can be read from the process.
            environment: variables beside the few that a login sets.
        """
        with (out or Path(os.devnull)).open("ab") as file:
            return subprocess.Popen(
                [self.program, *arguments],
                cwd=self.folder,
                env={"HOME": str(self.home), "TMPDIR": str(self.temporary), "PATH": "/nowhere", **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=file if out else subprocess.PIPE,
                stderr=file if out else subprocess.PIPE,
                user=self._user,
                group=self._user,
                extra_groups=() if self._user is not None else None,
            )

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run one of the program's commands to its end."""
        with self.begin(*arguments, environment=environment) as process:
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out.decode(), err.decode())

    def write(self, path: Path, content: str) -> None:
        """Write a file as the user of this environment."""
        for folder in reversed([path.parent, *path.parent.parents]):
            if folder.is_relative_to(self.home) and not folder.exists():
                folder.mkdir()
        path.write_text(content, encoding="utf-8")


class Packaged(Appliance):
    """The packaged program as a user starts it.

    Attributes:
        log: its output.
    """

    def __init__(self, world: World, **environment: str) -> None:
        self._world = world
        self._environment = environment
        self.log = world.folder.parent / "log"
        super().__init__(world.home)

    def begin(self, flags: list[str]) -> subprocess.Popen[bytes]:
        environment = {"CLASSROOM_OBSERVER_WEB__HOSTS": HOST, **self._environment}
        return self._world.begin(*flags, out=self.log, environment=environment)


@contextmanager
def running(world: World, **environment: str) -> Iterator[Packaged]:
    """Start the program in an environment, and stop it."""
    appliance = Packaged(world, **environment)
    try:
        yield appliance
    finally:
        assert appliance.stop() == 0, appliance.log.read_text()


@contextmanager
def world(program: Path, *, alone: bool = True) -> Iterator[World]:
    """Create an empty environment, and remove it afterwards.

    Args:
        program: the executable; it is copied, so that no other file of the build is beside it.
        alone: whether the executable alone is copied, or the folder that contains it.
    """
    # Not below pytest's own folder, which only its owner may enter.
    with tempfile.TemporaryDirectory(prefix="packaged-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if alone:
            copied = Path(shutil.copy2(program, folder / "classroom-observer"))
        else:
            copied = shutil.copytree(program.parent, folder / "program", symlinks=True) / program.name
        yield World(folder, copied)
