"""What the tests of the packaged program share: one build, and a bare world for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaged.world import World, build, world


@pytest.fixture(scope="session")
def built() -> Path:
    """Where both forms of the program are."""
    return build()


@pytest.fixture
def alone(built: Path) -> Iterator[World]:
    """The one-file program, alone in its world."""
    with world(built / "classroom-observer") as made:
        yield made


@pytest.fixture
def in_folder(built: Path) -> Iterator[World]:
    """The program in a folder, as installers install it."""
    with world(built / "program" / "classroom-observer", alone=False) as made:
        yield made
