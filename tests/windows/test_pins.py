"""All dependencies of the Windows program are pinned, at versions that pyproject.toml accepts."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.windows.world import PACKAGING, ROOT, building

PIN = re.compile(r"([a-z0-9_.-]+)==(\S+) --hash=sha256:[0-9a-f]{64}")


def pins() -> dict[str, str]:
    lines = (PACKAGING / "requirements.txt").read_text().splitlines()
    found = dict(match.groups() for line in lines if (match := PIN.fullmatch(line)))
    assert len(found) == len(lines) - 1, "one line is a comment, each other a pin"
    return {name.replace("_", "-"): version for name, version in found.items()} | {
        name: version for name, (version, _) in building.SOURCES.items()
    }


def needs() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    built_in = [one for name in building.built_in(extras) for one in extras[name]]
    return [need for need in [*project["dependencies"], *built_in] if "sys_platform != 'win32'" not in need]


@pytest.mark.parametrize("need", needs())
def test_each_dependency_is_pinned_at_a_version_that_will_do(need: str) -> None:
    match = re.match(r"([\w.-]+)(?:\[\w+\])?>=([\d.]+)", need)
    assert match is not None
    name, least = match.groups()
    found = pins()
    assert name.lower() in found, "run `packaging/windows/build.py --lock`"
    assert numbers(found[name.lower()]) >= numbers(least), "run `packaging/windows/build.py --lock`"


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def test_it_is_built_with_what_pyproject_asks_for() -> None:
    assert {"pyinstaller", "tzdata", "redis", "hiredis", "asyncpg", "slixmpp", "pystray", "pillow"} <= set(pins())
