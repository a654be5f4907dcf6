"""Fixtures of the packaged program: one build, and an empty environment for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distribution import shared_folder
from tests.packaged.ahead import STEPS, Ahead
from tests.packaged.world import World, world

_AHEAD = pytest.StashKey[Ahead]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start to build what the tests of this folder need; other tests run meanwhile."""
    here = [item for item in session.items if item.path.parent == Path(__file__).parent]
    needed = {name for item in here if isinstance(item, pytest.Function) for name in item.fixturenames} & STEPS.keys()
    if needed and not session.config.option.collectonly:
        session.config.stash[_AHEAD] = ahead = Ahead(shared_folder(session.config))
        # All processes of a test run find the same tests; the first one builds for all.
        if os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0":
            ahead.start(sorted(needed))


@pytest.fixture(scope="session")
def built(pytestconfig: pytest.Config) -> Path:
    """The folder with both forms of the program."""
    return Path(pytestconfig.stash[_AHEAD].made("built"))


@pytest.fixture(scope="session")
def deb(pytestconfig: pytest.Config) -> Path:
    """The Debian package, of the same program."""
    return Path(pytestconfig.stash[_AHEAD].made("deb"))


@pytest.fixture(scope="session")
def tree(pytestconfig: pytest.Config) -> Path:
    """A fresh system with the packages that the Debian package depends on, as a tar file."""
    return Path(pytestconfig.stash[_AHEAD].made("tree"))


@pytest.fixture(scope="session")
def lintian(pytestconfig: pytest.Config) -> tuple[int, str]:
    """The exit code and the output of lintian for the Debian package."""
    code, text = pytestconfig.stash[_AHEAD].made("lintian")
    return code, text


@pytest.fixture
def alone(built: Path) -> Iterator[World]:
    """The one-file program in an empty environment."""
    with world(built / "classroom-observer") as made:
        yield made


@pytest.fixture
def in_folder(built: Path) -> Iterator[World]:
    """The program as a folder, as installers install it."""
    with world(built / "program" / "classroom-observer", alone=False) as made:
        yield made
