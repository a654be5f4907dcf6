"""The Windows program, built once from these sources with wine, and helpers that start it and read its results.

`make test-windows` runs this file as a program first, which builds: that takes longer than a test may.

The appliance runs under wine; students and educators are processes of this system, as they are other computers in a
classroom. They meet on loopback.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, NamedTuple

import pytest

from tests.launcher import PATIENCE, ROOT, Program, until
from tests.packaged.world import sources

PACKAGING = ROOT / "packaging" / "windows"


def _module(name: str) -> ModuleType:
    """A module of packaging/windows, which is a folder of scripts."""
    specification = importlib.util.spec_from_file_location(name, PACKAGING / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


if TYPE_CHECKING:
    from packaging.windows.wine import Wine, WineError
else:
    _wine = _module("wine")
    Wine, WineError = _wine.Wine, _wine.WineError

building = _module("build")

PROGRAM = "classroom-observer.exe"
CONSOLE = "classroom-observer-cli.exe"
UNINSTALL_KEY = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Uninstall\Classroom Observer"
RUN_KEY = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Run"
TITLE = "Classroom Observer"


class Built(NamedTuple):
    """What was built.

    Attributes:
        wine: the folder of the Windows in which it was built.
        folder: the program as a folder.
        setup: its installer.
    """

    wine: Path
    folder: Path
    setup: Path


def build() -> Built:
    """Build the program and its installer, unless those that are there were built of the same sources."""
    tools = subprocess.run([PACKAGING / "packages", "tests"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if tools.returncode != 0:
        missing = f"wine cannot be installed here: {tools.stderr.strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    work = ROOT / "build" / "windows"
    tested = work / "tested"
    built = Built(work / "wine", work / "dist" / "program", tested / building.setup_name())
    stamp, wanted = tested / "sources", sources()
    if not (stamp.is_file() and stamp.read_text() == wanted):
        stamp.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, PACKAGING / "build.py", "--out", tested],
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, "The build failed."
        stamp.write_text(wanted)
    return built


def later_setup(built: Built) -> Path:
    """An installer of the same program that says it is a later version."""
    path = built.setup.with_name("later-setup.exe")
    if not path.exists() or path.stat().st_mtime < built.setup.stat().st_mtime:
        building.make_installer(built.folder, path, number="99.1.0", quick=True)
    return path


def clean(windows: Wine) -> None:
    """Remove everything that an earlier test left."""
    local = windows.user / "AppData" / "Local"
    shutil.rmtree(local / "classroom-observer", ignore_errors=True)
    shutil.rmtree(local / "Programs" / TITLE, ignore_errors=True)
    for link in shortcuts(windows):
        link.unlink(missing_ok=True)
    windows.run("reg", "delete", UNINSTALL_KEY, "/f", ok=(0, 1))
    windows.run("reg", "delete", RUN_KEY, "/v", TITLE, "/f", ok=(0, 1))


def shortcuts(windows: Wine) -> tuple[Path, Path]:
    """The folders of the entries in the Start menu and on the desktop."""
    menu = windows.user / "AppData" / "Roaming" / "Microsoft" / "Windows" / "Start Menu" / "Programs"
    return menu / f"{TITLE}.lnk", windows.user / "Desktop" / f"{TITLE}.lnk"


def registry(windows: Wine, key: str) -> dict[str, str]:
    """The values of a key of the registry; none if there is no such key."""
    lines = windows.run("reg", "query", key, ok=(0, 1)).splitlines()
    split = [line.strip().split("    ", 2) for line in lines if line.startswith("    ")]
    return {name: value for name, _, value in (parts for parts in split if len(parts) == 3)}


def data(windows: Wine) -> Path:
    """The default data folder of the program."""
    return windows.user / "AppData" / "Local" / "classroom-observer"


def configure(windows: Wine, text: str) -> Path:
    """Write the user's configuration file."""
    file = data(windows) / "classroom-observer" / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


class Screen:
    """The display of a Windows, its keyboard, and the titles of windows."""

    def __init__(self, windows: Wine) -> None:
        self._environment = {**os.environ, "DISPLAY": windows.environment["DISPLAY"]}

    def shows(self, title: str) -> bool:
        """Whether a window with this in its title is there."""
        return self._run("search", "--onlyvisible", "--name", title) == 0

    def wait_for(self, title: str) -> None:
        """Wait for a window."""
        until(lambda: self.shows(title), f"a window {title!r}")

    def press(self, key: str) -> None:
        """Press a key once."""
        assert self._run("key", key) == 0

    def press_until(self, key: str, effect: Callable[[], bool]) -> None:
        """Press a key, again where it was lost because the window was not ready, until it has its effect."""
        for _ in range(5):
            self.press(key)
            end = time.monotonic() + PATIENCE / 5
            while time.monotonic() < end:
                if effect():
                    return
                time.sleep(0.05)
        raise AssertionError(f"{key} has no effect.")

    def _run(self, *words: str) -> int:
        done = subprocess.run(["xdotool", *words], env=self._environment, capture_output=True, check=False)
        return done.returncode


class WindowsProgram(Program):
    """The program for Windows. Its process is the Windows program itself."""

    def __init__(
        self,
        windows: Wine,
        folder: Path,
        executables: Path,
        *,
        data: Path | None = None,
        environment: Mapping[str, str] | None = None,
        flags: Sequence[str] = ("--no-browser",),
    ) -> None:
        """Args:
        windows: where it runs.
        folder: for the ready file, the log, and the data by default.
        executables: the folder with the program, as built or as installed.
        data: its data folder, if it is not the one below `folder`.
        environment: variables for the program.
        flags: more of its command line.
        """
        super().__init__(folder, data=data, environment=environment, flags=flags)
        self._windows = windows
        self._executables = executables

    def begin(self) -> None:
        assert self._process is None
        self._ready_file.unlink(missing_ok=True)
        path = self._windows.windows_path
        self._process = self._windows.start(
            self._executables / PROGRAM, *self._flags, "--host", "127.0.0.1", "--port", str(self.port),
            "--data-dir", path(self.data), "--ready-file", path(self._ready_file),
            **self.environment,
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        threading.Thread(target=_copy, args=(self._process.stdout, self.log), daemon=True).start()

    def stop(self, *, patience: float = PATIENCE) -> int:
        """Stop it as the installer does, by its own command; returns its exit code."""
        process = self._process
        assert process is not None
        if process.poll() is None:
            done = self.run("stop", "--data-dir", str(self.data))
            assert done.returncode == 0, done.stdout
        return self.ended(patience=patience)

    def ended(self, *, patience: float = PATIENCE) -> int:
        """Wait until it has ended; returns its exit code."""
        assert self._process is not None
        code = self._process.wait(patience)
        self._process = None
        return code

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command with the program for the command line; paths are converted to those of Windows."""
        words = [self._windows.windows_path(Path(word)) if word.startswith("/") else word for word in arguments]
        process = self._windows.start(self._executables / CONSOLE, *words, **self.environment)
        output = process.communicate(timeout=120)[0].decode().replace("\r\n", "\n")
        return subprocess.CompletedProcess(arguments, process.returncode, output, output)


def _copy(pipe: IO[bytes], file: Path) -> None:
    """Copy the data of a pipe to a file, so that the pipe never fills."""
    with file.open("ab", buffering=0) as out, pipe:
        while piece := pipe.read1(65536):  # type: ignore[attr-defined]
            out.write(piece)


def gone(windows: Wine, name: str = PROGRAM) -> None:
    """Wait until no such program runs."""
    until(lambda: not windows.running(name), f"{name} has ended")


if __name__ == "__main__":
    try:
        build()
    except pytest.skip.Exception as reason:
        print(f"SKIPPED: the tests of the Windows program, because {reason}.")
