"""The Windows program is built once and runs in a wine prefix of its own. Only on request: `make test-windows`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.windows.world import Built, Wine, build, clean


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of the Windows program out, unless they were asked for by name."""
    if "windows" in str(config.option.markexpr):
        return
    left_out = [item for item in items if item.get_closest_marker("windows")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def built() -> Built:
    """The program as a folder, and its installer."""
    return build()


@pytest.fixture
def windows(built: Built) -> Iterator[Wine]:
    """A Windows without any trace of the program."""
    with Wine(built.wine) as windows:
        clean(windows)
        yield windows
