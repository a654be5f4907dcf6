"""The contents of the packaged program: all that it needs, with its licences, and no more."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

MEGABYTE = 1_000_000
PAGES = Path(__file__).parents[2] / "webui"


def libraries(folder: Path) -> list[Path]:
    """All files that hold machine code."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    found.append(path)
    return found


def test_one_file_is_small_enough_to_be_passed_around(built: Path) -> None:
    assert (built / "classroom-observer").stat().st_size < 40 * MEGABYTE


def test_no_library_is_missing(built: Path) -> None:
    folder = built / "program" / "_internal"
    found = libraries(folder)
    assert len(found) > 50
    done = subprocess.run(
        ["ldd", *map(str, found)], capture_output=True, text=True, env={"LD_LIBRARY_PATH": str(folder), "LC_ALL": "C"}
    )
    assert "not found" not in done.stdout, [line for line in done.stdout.splitlines() if "not found" in line]


def test_the_pages_are_inside_whole(built: Path) -> None:
    for page in PAGES.rglob("*"):
        if page.is_file():
            inside = built / "program" / "_internal" / "webui" / page.relative_to(PAGES)
            assert inside.read_bytes() == page.read_bytes()


def test_no_development_tool_is_inside(built: Path) -> None:
    names = {path.relative_to(built / "program").as_posix() for path in (built / "program").rglob("*")}
    assert not [
        name for name in names if re.search(r"pytest|playwright|hypothesis|mypy|cryptography|numpy|tkinter", name)
    ]


class TestLicences:
    def test_every_part_has_one(self, built: Path) -> None:
        text = (built / "program" / "_internal" / "licences.txt").read_text("utf-8")
        listed = set(re.findall(r"(?m)^  (\S+) [^:\n]*", text))
        parts = {"Python", "PyInstaller", "aiohttp", "msgspec", "redis", "slixmpp", "hiredis", "asyncpg", "segno"}
        parts |= {"bulma", "d3", "libgtk-3-0", "libglib2.0-0", "python3-gi", "libssl3", "uvloop", "aiodns"}
        assert parts <= listed
        for heading in ("Apache License", "MIT License", "GNU LESSER GENERAL PUBLIC LICENSE", "Mozilla Public License"):
            assert heading.lower() in text.lower()

    def test_every_distribution_of_which_a_library_is_inside_is_listed(self, built: Path) -> None:
        text = (built / "program" / "_internal" / "licences.txt").read_text("utf-8").lower()
        inside = built / "program" / "_internal"
        folders = {path.name for path in inside.iterdir() if path.is_dir() and libraries(path)}
        renamed = {"PIL": "pillow", "gi": "python3-gi", "_argon2_cffi_bindings": "argon2-cffi-bindings"}
        for folder in sorted(folder for folder in folders if not re.fullmatch(r"python3\.\d+|lib", folder)):
            name = re.escape(renamed.get(folder, folder.removesuffix(".libs")).lower()).replace("_", "[-_]")
            assert re.search(rf"(?m)^  {name} \d", text), folder
