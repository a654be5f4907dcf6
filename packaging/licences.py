"""Gathers the licences of everything that was copied into the packaged program, as one text.

What was copied is known from PyInstaller's tables of contents: modules and libraries belong to a Python distribution
(whose metadata hold the licence), to Python itself, or, on Debian, to a package with a copyright file. A part without
a licence text fails the build: a program with unknown licences must not be distributed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

LICENCE_FILE = re.compile(r"^(licen[cs]e|copying|copyright|notice|authors)", re.IGNORECASE)
COMMON_LICENCE = re.compile(r"/usr/share/common-licenses/([A-Za-z]+-[0-9.]*[0-9])")
TEXTS = Path(__file__).parent / "licences"
"""Licence texts for distributions that name their licence but do not bring its text: NAME.txt."""


@dataclass(frozen=True)
class Part:
    """A component that was copied into the program.

    Attributes:
        name: name and version.
        licence: the licence in a few words; may be empty.
        texts: the licence texts, whole.
    """

    name: str
    licence: str
    texts: tuple[str, ...]


def write_licences(analysis: Any, vendored: Path, out: Path) -> Path:
    """Write the licences of all parts of a program into one file.

    Args:
        analysis: PyInstaller's analysis, without the files that are not needed.
        vendored: folder of third-party files; each component has a folder with its LICENSE.
        out: the file to write.

    Raises:
        SystemExit: a part has no licence text.
    """
    modules = {name.partition(".")[0] for name, _, kind in analysis.pure if kind == "PYMODULE"}
    files = [Path(file) for _, file, _ in [*analysis.binaries, *analysis.datas, *analysis.pure] if file]
    parts = [python_itself(), bootloader(), *distributions(modules, files), *vendored_files(vendored)]
    parts += debian_packages(files)
    without = [part.name for part in parts if not any(text.strip() for text in part.texts)]
    if without:
        raise SystemExit(
            f"There is no licence text for {', '.join(without)}. Put one into packaging/licences/NAME.txt, "
            "or leave the part out in packaging/contents.py."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(document(parts), "utf-8")
    return out


def document(parts: Iterable[Part]) -> str:
    """The text: a list of the parts, then each licence; a licence that several parts share appears once."""
    parts = list(parts)
    by_text: dict[str, list[str]] = {}
    for part in parts:
        for text in part.texts:
            by_text.setdefault("\n".join(line.rstrip() for line in text.strip().splitlines()), []).append(part.name)
    lines = [
        "Classroom Observer is made available under the Apache License 2.0.",
        "This program also holds the following, each under its own licence. The texts follow.",
        "",
        *(f"  {part.name}" + (f": {part.licence}" if part.licence else "") for part in parts),
    ]
    for text, names in by_text.items():
        lines += ["", "=" * 80, *sorted(set(names)), "=" * 80, "", text]
    return "\n".join(lines) + "\n"


def python_itself() -> Part:
    """The interpreter and its standard library."""
    version = ".".join(map(str, sys.version_info[:3]))
    places = [
        Path(sysconfig.get_path("stdlib")) / "LICENSE.txt",
        Path(sys.base_prefix) / "LICENSE.txt",
        Path(sys.base_prefix) / "LICENSE",
        Path("/usr/share/doc") / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "copyright",
        TEXTS / "Python.txt",
    ]
    texts = tuple(_read(place) for place in places if place.is_file())[:1]
    return Part(f"Python {version}", "PSF License", texts)


def bootloader() -> Part:
    """The part of PyInstaller that starts the program."""
    found = metadata.distribution("pyinstaller")
    return Part(
        f"PyInstaller {found.version} (bootloader)", "GPL with an exception for the bootloader", tuple(texts(found))
    )


def distributions(modules: Iterable[str], files: Iterable[Path]) -> Iterator[Part]:
    """The Python distributions from which something was copied.

    Args:
        modules: names of top-level modules that were copied.
        files: where copied files came from.
    """
    by_module = metadata.packages_distributions()
    names = {name for module in modules for name in by_module.get(module, ())}
    site_packages = Path(sysconfig.get_path("purelib"))
    names |= {
        name
        for file in files
        if file.is_relative_to(site_packages)
        for name in by_module.get(file.relative_to(site_packages).parts[0].partition(".")[0], ())
    }
    for name in sorted(names, key=str.lower):
        found = metadata.distribution(name)
        # The system's bindings for GTK are among the Debian packages.
        if found.name.lower() not in ("classroom-observer", "pyinstaller", "pygobject"):
            yield Part(f"{found.name} {found.version}", licence(found), tuple(texts(found)))


def licence(found: metadata.Distribution) -> str:
    """The licence of a distribution in a few words, from its metadata."""
    expression = found.metadata.get("License-Expression") or ""
    if not expression:
        classifiers = found.metadata.get_all("Classifier") or []
        expression = ", ".join(
            line.rpartition(" :: ")[2]
            for line in classifiers
            if line.startswith("License :: ") and "OSI" not in line[-4:]
        )
    declared = found.metadata.get("License") or ""
    return expression or ("" if "\n" in declared or len(declared) > 80 else declared)


def texts(found: metadata.Distribution) -> Iterator[str]:
    """The licence texts of a distribution: its own, or those that are kept here for it."""
    own = [
        Path(str(found.locate_file(file)))
        for file in found.files or ()
        if LICENCE_FILE.match(Path(file.name).name) and Path(file.name).suffix.lower() not in (".py", ".pyc")
    ]
    kept = TEXTS / f"{found.name}.txt"
    if own:
        yield from (_read(file) for file in own if file.is_file())
    elif kept.is_file():
        yield _read(kept)
    elif "\n" in (found.metadata.get("License") or ""):
        yield found.metadata["License"]


def vendored_files(folder: Path) -> Iterator[Part]:
    """Third-party files of the pages, with versions from the table in the folder's README."""
    table = dict(re.findall(r"(?m)^\|[^|]*\| (\S+) \| (\S+) \|", _read(folder / "README.md")))
    licences = dict(re.findall(r"(?m)^\|[^|]*\| (\S+) \| \S+ \| ([^|]+) \|", _read(folder / "README.md")))
    for each in sorted(path for path in folder.iterdir() if path.is_dir()):
        name = f"{each.name} {table.get(each.name, '')}".strip()
        found = tuple(_read(file) for file in sorted(each.iterdir()) if LICENCE_FILE.match(file.name))
        yield Part(name, licences.get(each.name, ""), found)


def debian_packages(files: Iterable[Path]) -> Iterator[Part]:
    """The Debian packages from which something was copied, with the licences that their copyright files refer to."""
    system = sorted(
        {str(file.resolve()) for file in files if file.is_absolute() and file.resolve().is_relative_to("/usr")}
    )
    if not system or shutil.which("dpkg-query") is None:
        return
    # Files under /usr/lib may be registered under /lib, where they were before the two became one.
    paths = [*system, *(name.removeprefix("/usr") for name in system)]
    owners = subprocess.run(["dpkg-query", "--search", *paths], capture_output=True, text=True, check=False)
    packages = {line.partition(":")[0] for line in owners.stdout.splitlines() if not line.startswith("diversion ")}
    common: set[str] = set()
    for package in sorted(packages):
        copyright_file = Path("/usr/share/doc") / package / "copyright"
        text = _read(copyright_file) if copyright_file.is_file() else ""
        common |= set(COMMON_LICENCE.findall(text))
        version = subprocess.run(
            ["dpkg-query", "--show", "--showformat=${Version}\n", package], capture_output=True, text=True, check=False
        ).stdout.split("\n")[0]
        yield Part(f"{package} {version} (Debian)", "", (text,))
    for name in sorted(common):
        file = Path("/usr/share/common-licenses") / name
        if file.is_file():
            yield Part(f"The licence {name}, to which parts refer", "", (_read(file),))


def _read(file: Path) -> str:
    return file.read_text("utf-8", errors="replace")
