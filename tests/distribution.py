"""How the tests of one run are spread over processes: what stays together, what runs first, what is shared.

Most tests wait more than they work, so that five processes keep two cores busy. ``pytest -n 5 --dist loadgroup`` hands
out one group after the other. A group is a file, because tests of a file often share a server; files that take longest
are cut into several. Groups of folders that need a browser or servers alternate with others, so that the processors
are neither idle nor crowded.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest

SHARED = "shared_folder"
"""The name under which worker processes are given the folder that all of them use."""
CUT = {
    "browser/test_link.py": 2,
    "browser/test_held.py": 4,
    "browser/test_class.py": 4,
    "browser/test_dashboard.py": 4,
    "faults/test_hostile.py": 3,
    "services/test_away.py": 2,
    "services/test_nodes.py": 2,
}
"""Files that take longer than half a minute, and how many tests of one make a group."""
SLOW = {"bench", "browser", "desktop", "faults", "packaged", "program", "services", "windows"}
"""Folders whose tests start programs, browsers or servers: none of them is fast."""
LATE = {"packaged": 0.75}
"""Folders whose tests begin when this part of all others is done: the program is built meanwhile."""

_FOLDER = pytest.StashKey[Path]()


def shared_folder(config: pytest.Config) -> Path:
    """The folder that all processes of this test run share; `remove_shared_folder` ends it."""
    if given := getattr(config, "workerinput", {}).get(SHARED):
        return Path(given)
    if _FOLDER not in config.stash:
        config.stash[_FOLDER] = Path(tempfile.mkdtemp(prefix="tests-"))
    return config.stash[_FOLDER]


def remove_shared_folder(config: pytest.Config) -> None:
    """Stop what runs in the shared folder, and remove it, in the process that created it."""
    if folder := config.stash.get(_FOLDER, None):
        if (folder / "pid").exists():
            from tests.packaged.ahead import Ahead

            Ahead(folder).end()
        shutil.rmtree(folder, ignore_errors=True)


def arrange(items: list[pytest.Item], root: Path) -> None:
    """Give each test its group, and order the groups, the same in every process.

    A group has a place between 0 and 1: the groups of each folder are spread evenly, slow folders over the first part.
    """
    groups: dict[str, list[pytest.Item]] = {}
    seen: Counter[str] = Counter()
    for item in items:
        file = item.path.relative_to(root).as_posix()
        group = f"{file}-{seen[file] // CUT[file]}" if file in CUT else file
        seen[file] += 1
        item.add_marker(pytest.mark.xdist_group(group))
        if file.partition("/")[0] in SLOW:
            item.add_marker(pytest.mark.slow)
        groups.setdefault(group, []).append(item)
    folders: dict[str, list[str]] = {}
    for group in groups:
        folders.setdefault(group.rpartition("/")[0], []).append(group)
    place: dict[str, float] = {}
    for folder, members in folders.items():
        first = LATE.get(folder, 0.0)
        last = 0.6 if folder == "browser" else 1.0
        for number, group in enumerate(members):
            place[group] = first + (max(last, first) - first) * number / len(members)
    items[:] = [item for group in sorted(groups, key=lambda group: place[group]) for item in groups[group]]
