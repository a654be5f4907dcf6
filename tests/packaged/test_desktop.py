"""The packaged program on a desktop: its tray icon has a menu that works, and a second start leads to the first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desktop.screen import NEEDED, screen
from tests.desktop.test_tray import BLUE, mostly
from tests.desktop.world import Desk, desk, until
from tests.packaged.measure import resident_megabytes
from tests.services.servers import need

PACKAGES = {"xwininfo": "x11-utils", "import": "imagemagick"}


@pytest.fixture(params=["classroom-observer", "program/classroom-observer"])
def here(built: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Desk]:
    with desk(tmp_path, [str(built / request.param)]) as made:
        yield made


@pytest.mark.parametrize("panel", ["trayer", "xfce4-panel"])
def test_the_class_is_paused_from_the_tray(here: Desk, panel: str) -> None:
    # GTK comes with the program.
    for name in (*NEEDED, panel):
        need(name, PACKAGES.get(name, name.lower()))
    with screen(here) as shown:
        shown.bus()
        shown.panel(panel)
        running = here.start("--no-browser").ready()
        until(lambda: mostly(shown, BLUE, here.folder), "the icon is there, and blue")
        shown.choose("Pause class")
        until(lambda: running.ask("GET", "/api/v1/classes")[0]["state"] == "paused", "the class is paused")
        # It takes 98 MB in Xfce's panel, and 102 in trayer: 30 are GTK's. Something that is loaded without need shows.
        assert resident_megabytes(running.process.pid) < 106
        shown.choose("Quit")
        assert running.wait() == 0


def test_a_second_start_opens_the_dashboard_of_the_first(here: Desk) -> None:
    opened = here.with_browser()
    here.fake_program("browser", 'env > $CALLS.environment; echo "$@" >> $CALLS')
    running = here.start("--no-browser").ready()
    second = here.start("--no-tray")
    assert second.wait() == 0, second.log
    until(opened.exists, "the dashboard is opened")
    assert opened.read_text().startswith(f"{running.instance['url']}/?token=")
    # A browser that inherited the program's own libraries would not start.
    inherited = opened.with_name("browser.calls.environment").read_text()
    assert "_MEI" not in inherited
    assert "_internal" not in inherited
    assert running.process.poll() is None
    assert running.stop() == 0
