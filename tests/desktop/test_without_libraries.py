"""Without the libraries of the extra ``desktop`` the program starts, and one log line says why there is no icon."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.desktop.world import desk, posix, until

pytestmark = posix

# Python imports this file at its start, wherever it is on the path.
BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""


@pytest.mark.parametrize(
    ("blocked", "line"),
    [
        (
            ("pystray", "PIL", "gi"),
            'There is no tray icon: pystray and Pillow are not installed (pip install "classroom-observer[desktop]").',
        ),
        (("PIL",), 'There is no tray icon: Pillow is not installed (pip install "classroom-observer[desktop]").'),
        (
            ("gi",),
            "There is no tray icon: GTK for Python (PyGObject) is not installed "
            '(pip install "classroom-observer[tray]").',
        ),
    ],
)
def test_one_line_names_the_extra_and_the_program_serves(tmp_path: Path, blocked: tuple[str, ...], line: str) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "sitecustomize.py").write_text(BLOCKER.format(blocked=blocked))
    with desk(tmp_path) as here:
        # The display is never opened: the libraries are missing before.
        here.environment.update(
            PYTHONPATH=str(packages), DISPLAY=":none", DBUS_SESSION_BUS_ADDRESS="unix:path=/nowhere"
        )
        running = here.start("--no-browser").ready()
        until(lambda: "There is no tray icon" in running.log, "the line is written")
        assert line in running.log
        assert running.ask("GET", "/api/v1/status")["version"]
        assert running.stop() == 0
        assert running.log.count("There is no tray icon") == 1
        assert "Traceback" not in running.log
