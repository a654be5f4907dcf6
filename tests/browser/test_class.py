"""The main task, in real browsers: three students write, the teacher sees each of them, nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.world import ROOT, Classroom, classroom, network, saved, until

pytestmark = pytest.mark.browser

# Carroll, Alice's Adventures in Wonderland (1865), with characters of one, two and several UTF-16 units.
ALICE = "Alice was beginning to get very tired of sitting by her sister on the bank 🐇, and of having nothing to do: "
ZALGO = "cafe\u0301 👩\u200d🚀 na\u0308ive 🇪🇺 "


def caret(page: Page, start: int, end: int | None = None) -> None:
    """Move the caret, or select."""
    page.evaluate("([a, b]) => document.getElementById('text').setSelectionRange(a, b)", [start, end or start])


def text(page: Page) -> str:
    return page.input_value("#text")


def first(page: Page) -> None:
    """Type, move back, correct, delete."""
    page.click("#text")
    page.keyboard.type(ALICE)
    caret(page, 6)
    page.keyboard.type("(a girl 👧) ")
    page.keyboard.press("Control+End")
    for _ in range(12):
        page.keyboard.press("Backspace")
    page.keyboard.press("Control+Home")
    for _ in range(3):
        page.keyboard.press("Delete")
    page.keyboard.press("Enter")


def second(page: Page) -> None:
    """Paste, select and overwrite, cut, and paste elsewhere."""
    page.click("#text")
    page.keyboard.insert_text(ALICE + ZALGO + ALICE)
    caret(page, 10, 30)
    page.keyboard.type("x🙂y")
    caret(page, 0, 5)
    page.keyboard.press("Control+x")
    page.keyboard.press("Control+End")
    page.keyboard.press("Control+v")
    page.keyboard.insert_text(ZALGO)
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")


def third(page: Page) -> None:
    """Undo and redo."""
    page.click("#text")
    page.keyboard.type("one two ")
    page.keyboard.insert_text(ZALGO)
    page.keyboard.type("three")
    for _ in range(2):
        page.keyboard.press("Control+z")
    page.keyboard.press("Control+Shift+z")
    page.keyboard.press("Control+a")
    page.keyboard.type("all new 🎈 ")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+Home")
    page.keyboard.type("e\u0301")


def words_on_tile(teacher: Page, name: str) -> str:
    return teacher.locator(".tile", has_text=name).locator(".words").inner_text()


def agree(room: Classroom, teacher: Page, page: Page, name: str) -> None:
    """The server's text is the page's, to the last unit, and the tile shows its words."""
    saved(page)
    until(lambda: room.text(name) == text(page), f"the server has {name}'s text")
    expected = len(text(page).split())
    until(lambda: words_on_tile(teacher, name) == f"{expected} words", f"the tile shows {name}'s {expected} words")


def test_a_class_writes_and_the_teacher_sees_it_all(tmp_path: Path) -> None:
    with classroom(tmp_path) as room:
        teacher = room.teacher()
        pages = {"Ada": room.student("Ada"), "Ben": room.student("Ben"), "Cleo": room.student("Cleo")}
        for (name, page), play in zip(pages.items(), (first, second, third), strict=True):
            play(page)
            agree(room, teacher, page, name)
            assert text(page)
        # The Wi-Fi is lost and returns while one of them continues to write.
        ben = pages["Ben"]
        ben.context.set_offline(True)
        ben.keyboard.press("Control+End")
        ben.keyboard.type("written without a network 📵 ")
        ben.wait_for_selector('#saved[data-state="waiting"]')
        assert "without a network" not in room.text("Ben")
        first(pages["Ada"])
        agree(room, teacher, pages["Ada"], "Ada")
        ben.context.set_offline(False)
        ben.keyboard.type("and on")
        for name, page in pages.items():
            agree(room, teacher, page, name)
        assert room.complaints == []
        lived = {name: room.whole(name) for name in pages}
        data = room.appliance.data

    # Every number is in the archive once, and a replay gives the same states.
    segments = sorted((data / "archive").iterdir())
    lines = [json.loads(line) for segment in segments for line in segment.read_bytes().splitlines()]
    numbers: dict[str, list[int]] = {}
    for line in lines:
        numbers.setdefault(line["stream"], []).append(line["seq"])
    assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in numbers.values())
    out = tmp_path / "replayed.json"
    command = [sys.executable, "run.py", "replay", str(data / "archive"), "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=True)
    replayed = json.loads(out.read_text())
    assert replayed["damaged"] == []
    assert replayed["events"] == len(lines)
    for whole in lived.values():
        again = replayed["students"][whole["student_id"]]
        assert again["documents"] == whole["documents"]
        assert again["documents"].keys()


def test_the_teacher_pauses_speaks_and_sees_a_raised_hand(tmp_path: Path) -> None:
    with classroom(tmp_path) as room:
        teacher = room.teacher()
        assert teacher.is_visible("#qr")
        assert teacher.inner_text("#code") == room.appliance.ready["join_code"]
        ada = room.student("<b>Ada</b>")
        tile = teacher.locator(".tile")
        tile.wait_for()
        assert tile.locator(".name").inner_text() == "<b>Ada</b>"
        ada.click("#hand")
        teacher.wait_for_selector(".tile.hand")
        teacher.click("#message-open")
        teacher.fill("#message-text", "Five <i>minutes</i> left")
        teacher.click("#message-send")
        ada.wait_for_selector("#message:visible")
        assert "Five <i>minutes</i> left" in ada.inner_text("#message")
        teacher.click("#message [data-close]")
        teacher.click("#pause")
        ada.wait_for_selector("#paused:visible")
        ada.click("#text")
        ada.keyboard.type("while paused")
        saved(ada)
        teacher.click("#pause")
        ada.wait_for_selector("#paused", state="hidden")
        agree(room, teacher, ada, "<b>Ada</b>")
        assert text(ada) == "while paused"
        assert room.complaints == []


def edit_everywhere(page: Page) -> None:
    """Type at the beginning and in the middle, and delete at the end."""
    page.click("#text")
    caret(page, 0)
    page.keyboard.type("In front. ")
    caret(page, 15)
    page.keyboard.type(" (amid 🎈) ")
    page.keyboard.press("Control+End")
    for _ in range(9):
        page.keyboard.press("Backspace")


@pytest.mark.parametrize("reloaded", [False, True])
def test_what_was_written_in_a_pause_is_read_after_it(tmp_path: Path, reloaded: bool) -> None:
    with classroom(tmp_path) as room:
        teacher = room.teacher()
        ada = room.student("Ada")
        ada.click("#text")
        ada.keyboard.type(ALICE)
        agree(room, teacher, ada, "Ada")
        teacher.click("#pause")
        ada.wait_for_selector("#paused:visible")
        if reloaded:
            ada.reload()
            ada.wait_for_selector("#paused:visible")
        edit_everywhere(ada)
        saved(ada)
        assert room.text("Ada") == ALICE
        teacher.click("#pause")
        ada.wait_for_selector("#paused", state="hidden")
        agree(room, teacher, ada, "Ada")
        caret(ada, 12)
        ada.keyboard.type("after it ")
        agree(room, teacher, ada, "Ada")
        assert room.complaints == []


def test_a_pause_that_ends_while_a_student_has_no_network_is_made_good(tmp_path: Path) -> None:
    with classroom(tmp_path) as room, network(room.appliance.ready["port"]) as wifi:
        teacher = room.teacher()
        ada = room.student("Ada", port=wifi.port)
        ada.click("#text")
        ada.keyboard.type(ALICE)
        agree(room, teacher, ada, "Ada")
        teacher.click("#pause")
        ada.wait_for_selector("#paused:visible")
        edit_everywhere(ada)
        saved(ada)
        # A page whose browser only pretends to be offline would notice only after the time for a silent socket.
        wifi.loop.call_soon_threadsafe(wifi.up.clear)
        wifi.loop.call_soon_threadsafe(wifi.drop_all)
        ada.context.set_offline(True)
        ada.keyboard.type("alone")
        # The socket is closed, so the next welcome reports the end of the pause.
        until(lambda: "No connection" in ada.inner_text("#saved-text"), "the page has noticed")
        said = ada.inner_text("#aloud")
        assert said == ada.inner_text("#saved-text")
        teacher.click("#pause")
        teacher.wait_for_selector("#paused", state="hidden")
        wifi.loop.call_soon_threadsafe(wifi.up.set)
        ada.context.set_offline(False)
        agree(room, teacher, ada, "Ada")
        until(lambda: ada.inner_text("#aloud") == "Saved", "the region follows what is seen")
        assert room.complaints == []
