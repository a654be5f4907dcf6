"""The program's own functions in the dashboard, in a real browser: join screen, addresses, About, stopping."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from appliance import __version__
from tests.desktop.world import until

pytest.importorskip("playwright")
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    from tests.browser.world import classroom

    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("there is no Chromium")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLASSROOM_OBSERVER_WEB__ADDRESS", "http://observer.school.example:8000")
        with classroom(tmp_path_factory.mktemp("room")) as made:
            yield made


def test_the_program_in_the_dashboard(room: object) -> None:
    from tests.browser.world import Classroom

    assert isinstance(room, Classroom)
    one = room.teacher()
    other = one.context.new_page()
    other.goto(room.appliance.url)

    # The tray's "Show join screen", when a student has joined already, so that it is not shown automatically.
    room.student("Ada")
    one.wait_for_selector("#join", state="hidden")
    one.goto(f"{room.appliance.url}/#join")
    one.wait_for_selector("#join", state="visible")
    until(lambda: one.text_content("#join-url") == "http://observer.school.example:8000/join", "the address is shown")
    assert "#" not in one.url

    # All dashboards show the chosen address, also in the QR code.
    found = f"http://127.0.0.1:{room.appliance.ready['port']}/join"
    one.select_option("#address", found)
    for page in (one, other):
        until(lambda page=page: page.text_content("#join-url") == found, "the chosen address is shown")
        assert "127.0.0.1" in (page.get_attribute("#qr", "src") or "")
    assert (room.appliance.data / "network.json").exists()

    # The tray's "About".
    one.goto(f"{room.appliance.url}/#about")
    one.wait_for_selector("#about[open]")
    until(lambda: one.text_content("#version") == __version__, "the version is shown")
    one.click("#licences-show")
    until(lambda: "aiohttp" in one.input_value("#licences"), "the licences are shown")

    # Stopping asks first, and says how many students are online.
    asked: list[str] = []
    answers = [False, True]

    def answer(dialog: object) -> None:
        asked.append(dialog.message)  # type: ignore[attr-defined]
        (dialog.accept if answers.pop(0) else dialog.dismiss)()  # type: ignore[attr-defined]

    one.on("dialog", answer)
    one.wait_for_selector('#connection[data-state="live"]')
    until(lambda: "1 of 1 online" in (one.text_content("#counts") or ""), "Ada is online")
    one.click("#stop")
    assert "1 student is online" in asked[0]
    assert room.appliance.process.poll() is None
    one.click("#stop")
    one.wait_for_selector("#ended", state="visible")
    assert room.appliance.process.wait(timeout=30) == 0
    # The other page and the student's cannot connect any more, as expected.
    room.complaints[:] = [one for one in room.complaints if "ERR_CONNECTION_REFUSED" not in one]
    assert room.complaints == []
