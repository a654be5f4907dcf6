"""Windows programs on Linux: a separate wine prefix with a display and a home of its own, which can be ended.

Otherwise wine would write menu entries, and links to the folders, of the user who builds.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from types import TracebackType

PROGRAMS = ("wine", "makensis", "Xvfb")
"""What must be on PATH; on Debian and Ubuntu the packages wine, wine64, nsis and xvfb have them."""

# wbemprox: wine 8 lacks a function that `platform` of Python 3.13 reaches through it.
# winemenubuilder: installers would write menu entries for this desktop. mscoree, mshtml: asked for at the first start.
# winedbg: after a crash of a program it would wait for ever.
_OVERRIDES = "wbemprox=;winemenubuilder.exe=d;mscoree=;mshtml=;winedbg.exe=d"
_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SOURCE_DATE_EPOCH")


class WineError(Exception):
    """A Windows program failed or took too long; the text has its output."""


class Wine:
    """A Windows of its own in a folder. Used as a context: what runs in it ends with it.

    Attributes:
        folder: holds the prefix (drive C: is ``prefix/drive_c``) and the home.
        environment: what programs in it are started with.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.prefix = self.folder / "prefix"
        self.environment: dict[str, str] = {}
        self._display: subprocess.Popen[bytes] | None = None

    @property
    def drive(self) -> Path:
        """Where drive C: is."""
        return self.prefix / "drive_c"

    @property
    def user(self) -> Path:
        """The user's profile folder, as ``C:\\Users\\NAME``."""
        [profile] = [path for path in (self.drive / "users").iterdir() if path.name != "Public"]
        return profile

    def __enter__(self) -> Wine:
        home = self.folder / "home"
        # Without a folder of that name wine takes the home itself for the desktop.
        (home / "Desktop").mkdir(parents=True, exist_ok=True)
        self._display, display = _start_display()
        self.environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | {
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "DISPLAY": display,
            "WINEPREFIX": str(self.prefix),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": _OVERRIDES,
        }
        try:
            if not (self.prefix / "system.reg").exists():
                self.run("wineboot", "--init", seconds=300)
                # Python 3.13 does not run on Windows 7, the default version of wine 8.
                self.run("winecfg", "-v", "win10")
                self.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End all that runs in this prefix, and its display."""
        self.end_all()
        if self._display:
            self._display.terminate()
            self._display.wait()
            self._display = None

    def start(self, *words: str | Path, **more: str) -> subprocess.Popen[bytes]:
        """Start a program; its process here is the Windows program itself. Its output comes through pipes.

        Args:
            words: the program, as a path of this system or of Windows, and its arguments.
            more: more environment variables.
        """
        # Standard handles must be pipes: Python for Windows cannot start with a regular file or with none.
        return subprocess.Popen(
            ["wine", *map(str, words)],
            env={**self.environment, **more},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
        )

    def run(self, *words: str | Path, seconds: float = 120, ok: Sequence[int] = (0,), **more: str) -> str:
        """Run a program to its end; returns its output.

        Raises:
            WineError: it ended with an exit code that is not in `ok`, or not in time.
        """
        process = self.start(*words, **more)
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            # What it started may hold the pipes for ever, so all of it ends.
            self.end_all()
            output, _ = process.communicate()
            raise WineError(f"{words[0]} did not end within {seconds:.0f} s:\n{_text(output)}") from None
        if process.returncode not in ok:
            raise WineError(f"{' '.join(map(str, words))} ended with {process.returncode}:\n{_text(output)}")
        return _text(output)

    def end_all(self) -> None:
        """End all that runs in this prefix."""
        self._server("--kill")
        for process in self.processes():
            with_signal(process, signal.SIGKILL)

    def wait(self) -> None:
        """Wait until nothing runs in this prefix any more and its registry is written to files."""
        self._server("--wait")

    def processes(self) -> list[int]:
        """The process numbers, on this system, of all that runs in this prefix."""
        mark = f"WINEPREFIX={self.prefix}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                variables = (process / "environ").read_bytes().split(b"\0")
                zombie = (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                continue
            if mark in variables and not zombie:
                found.append(int(process.name))
        return found

    def running(self, name: str) -> list[int]:
        """The process numbers of a Windows program in this prefix, by the name of its file."""
        found = []
        for number in self.processes():
            try:
                command = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(PureWindowsPath(word.decode(errors="replace")).name.lower() == name.lower() for word in command[:1]):
                found.append(number)
        return found

    def windows_path(self, path: Path) -> str:
        """How programs in this prefix name a file of this system."""
        path = path.resolve()
        if path.is_relative_to(self.drive):
            return "C:\\" + str(path.relative_to(self.drive)).replace("/", "\\")
        return "Z:" + str(path).replace("/", "\\")

    def _server(self, flag: str) -> None:
        subprocess.run(
            [_wineserver(), flag],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )


def missing(programs: Sequence[str] = PROGRAMS, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Those of the programs that cannot be found."""
    return [name for name in programs if shutil.which(name, path=environment.get("PATH")) is None]


def with_signal(process: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone already."""
    try:
        os.kill(process, number)
    except ProcessLookupError:
        pass


def _start_display() -> tuple[subprocess.Popen[bytes], str]:
    """Start an X server on a free display, without a network socket; returns it and the display's name."""
    reading, writing = os.pipe()
    try:
        server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x960x24", "-nolisten", "tcp"],
            pass_fds=(writing,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    finally:
        os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        number = pipe.readline().decode().strip()
    if not number:
        server.kill()
        server.wait()
        raise WineError("Xvfb did not start.")
    return server, f":{number}"


def _wineserver() -> str:
    # Debian keeps it off PATH.
    candidates = (
        "wineserver",
        "/usr/lib/wine/wineserver64",
        "/usr/lib/wine/wineserver",
        "/opt/wine-stable/bin/wineserver",
    )
    for candidate in candidates:
        found = shutil.which(candidate)
        if found:
            return found
    raise WineError("There is no wineserver; install wine.")


def _text(output: bytes) -> str:
    return output.decode(errors="replace").replace("\r\n", "\n")
