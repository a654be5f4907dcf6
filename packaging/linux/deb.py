"""Builds the Debian package from the program's folder: python packaging/linux/deb.py PROGRAM OUT

PROGRAM is the folder that PyInstaller made, OUT the folder that gets classroom-observer_VERSION_ARCH.deb.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from email.utils import formatdate
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(HERE), str(HERE.parent)]

from contents import VERSION  # noqa: E402
from manpage import manual_page  # noqa: E402

NAME = "classroom-observer"
MAINTAINER = "Classroom Observer maintainers <maintainers@classroom-observer.invalid>"
ICON_SIZES = (16, 22, 24, 32, 48, 64, 128, 256, 512)
# Programs that are started by name if they are installed; they are optional.
RECOMMENDS = "xdg-utils"
SUGGESTS = "gnome-shell-extension-appindicator"


def build(program: Path, out: Path, *, quick: bool) -> Path:
    """Lay the files out as they will be installed, and pack them.

    Returns:
        the package.
    """
    architecture = _said("dpkg", "--print-architecture")
    package = out / f"{NAME}_{VERSION}_{architecture}.deb"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        _lay_out(program, tree)
        _control(tree, architecture)
        _set_modes_and_times(tree)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(_changed())}
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", *(["-Zgzip", "-z1"] if quick else ["-Zxz"]), "--build", tree, package],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
    return package


def _lay_out(program: Path, tree: Path) -> None:
    place = tree / "usr" / "lib" / NAME
    shutil.copytree(program, place, symlinks=True)
    (tree / "usr" / "bin").mkdir(parents=True)
    (tree / "usr" / "bin" / NAME).symlink_to(f"../lib/{NAME}/{NAME}")
    _copy(HERE / f"{NAME}.desktop", tree / "usr" / "share" / "applications" / f"{NAME}.desktop")
    _copy(HERE / f"{NAME}.service", tree / "usr" / "lib" / "systemd" / "user" / f"{NAME}.service")
    icons = tree / "usr" / "share" / "icons" / "hicolor"
    for size in ICON_SIZES:
        _copy(HERE.parent / "icons" / f"{NAME}-{size}.png", icons / f"{size}x{size}" / "apps" / f"{NAME}.png")
    _copy(HERE.parent / "icons" / f"{NAME}.svg", icons / "scalable" / "apps" / f"{NAME}.svg")
    day = time.strftime("%Y-%m-%d", time.gmtime(_changed()))
    _pack(manual_page(day), tree / "usr" / "share" / "man" / "man1" / f"{NAME}.1.gz")
    documentation = tree / "usr" / "share" / "doc" / NAME
    _copy(HERE / "copyright", documentation / "copyright")
    _pack(changelog(), documentation / "changelog.gz")
    _copy(HERE / "lintian-overrides", tree / "usr" / "share" / "lintian" / "overrides" / NAME)


def _control(tree: Path, architecture: str) -> None:
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    size = sum(path.stat().st_size for path in files) // 1024
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n" for path in files]
    control = tree / "DEBIAN"
    control.mkdir()
    (control / "md5sums").write_text("".join(sums))
    (control / "control").write_text(
        textwrap.dedent(
            f"""\
            Package: {NAME}
            Version: {VERSION}
            Architecture: {architecture}
            Maintainer: {MAINTAINER}
            Installed-Size: {size}
            Depends: {", ".join(dependencies(tree / "usr" / "lib" / NAME))}
            Recommends: {RECOMMENDS}
            Suggests: {SUGGESTS}
            Section: education
            Priority: optional
            Description: live dashboard of what each student in a class is doing
             Classroom Observer runs on a teacher's computer. Students open a page in
             their browsers, type a code and write; the dashboard shows live who writes,
             who has stopped and who waits for help, with words, time on task and the
             text around the cursor.
             .
             Nothing leaves the room: it needs neither accounts nor the internet. The
             program brings its own Python and everything else that it needs.
            """
        )
    )


def dependencies(program: Path) -> list[str]:
    """The packages of the libraries that the program needs and does not bring, as Depends has them."""
    own: dict[str, Path] = {}
    for path in program.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    own[path.name] = path
    described = subprocess.run(
        ["objdump", "-p", *map(str, own.values())], capture_output=True, text=True, env={"LC_ALL": "C", **os.environ}
    ).stdout
    wanted = set(re.findall(r"(?m)^\s+NEEDED\s+(\S+)$", described)) - own.keys()
    versions = {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_(\d+(?:\.\d+)+)", described)}
    packages = {_package_of(library) for library in wanted}
    packages -= {"libc6"}
    return [f"libc6 (>= {'.'.join(map(str, max(versions)))})", *sorted(packages)]


def _package_of(library: str) -> str:
    places = re.findall(rf"(?m)^\s+{re.escape(library)} .*=> (\S+)$", _said("ldconfig", "-p"))
    for place in places:
        real = str(Path(place).resolve())
        for name in (place, real, real.removeprefix("/usr")):
            found = subprocess.run(["dpkg-query", "--search", name], capture_output=True, text=True, check=False)
            if found.returncode == 0:
                return found.stdout.partition(":")[0]
    raise SystemExit(f"No package is known that has {library}, which the program needs.")


def changelog() -> str:
    """The newest part of CHANGELOG.md in Debian's form."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    newest = re.split(r"(?m)^## \[.*$", text)[1]
    entries = [
        re.sub(r"[`*]", "", " ".join(item.split())) for item in re.findall(r"(?ms)^- (.+?)(?=^- |^#|\Z)", newest)
    ]
    lines = [f"{NAME} ({VERSION}) unstable; urgency=medium", ""]
    for entry in entries:
        plain = re.sub(r"[`*]", "", " ".join(entry.split()))
        lines += textwrap.wrap(plain, 78, initial_indent="  * ", subsequent_indent="    ")
    lines += ["", f" -- {MAINTAINER}  {formatdate(_changed())}", ""]
    return "\n".join(lines)


def _changed() -> int:
    """When the sources were last changed, in seconds since the epoch; the same sources give the same package."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    return int((ROOT / "CHANGELOG.md").stat().st_mtime)


def _set_modes_and_times(tree: Path) -> None:
    for path in [tree, *tree.rglob("*")]:
        if path.is_symlink():
            continue
        runs = path.is_dir() or (path.parent.name == NAME and path.name == NAME)
        path.chmod(0o755 if runs else 0o644)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _pack(text: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def _said(*command: str) -> str:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PATH": path, "LC_ALL": "C"}
    ).stdout.strip("\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--quick", action="store_true", help="pack it less tightly, in a tenth of the time")
    arguments = parser.parse_args()
    sys.stdout.write(f"{build(arguments.program, arguments.out, quick=arguments.quick)}\n")
