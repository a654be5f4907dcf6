"""The messages for a student who joins and a teacher who signs in: each says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.world import Classroom, classroom, until

pytestmark = pytest.mark.browser


def says(page: Page, words: str) -> None:
    until(lambda: page.inner_text("#error") == words, f"the page says {words!r}, not {page.inner_text('#error')!r}")


def join(room: Classroom, page: Page, code: str) -> None:
    page.goto(f"{room.appliance.lan_url}/join")
    page.fill("#code", code)
    page.fill("#name", "Ben")
    page.click("#join")


def test_who_cannot_come_in_reads_why(tmp_path: Path) -> None:
    with classroom(tmp_path) as room:
        teacher = room.teacher()
        student = room.person().new_page()
        join(room, student, "XYZ-999")
        says(student, "We do not know this code. Check it, or ask your teacher.")
        teacher.get_by_label("Let new students in").uncheck()
        until(lambda: not room.appliance.get("/api/v1/classes")[0]["open"], "the class is closed")
        join(room, student, room.appliance.ready["join_code"])
        says(student, "This class is closed to new students right now. Ask your teacher.")
        visitor = room.person().new_page()
        visitor.goto(f"{room.appliance.url}/login")
        visitor.fill("#token", "guessed")
        visitor.get_by_role("button", name="Sign in with the key").click()
        says(visitor, "This is not the teacher key of this program.")


def test_a_student_who_comes_back_is_asked_by_name_and_one_who_was_removed_reads_it(tmp_path: Path) -> None:
    with classroom(tmp_path) as room:
        teacher = room.teacher()
        ada = room.student("Ada")
        ada.goto(f"{room.appliance.lan_url}/join")
        ada.wait_for_selector("#again:visible")
        assert ada.inner_text("#go") == "Continue writing"
        assert ada.inner_text("#other") == "I am not Ada"
        ada.click("#go")
        ada.wait_for_selector('#saved[data-state="saved"]')
        teacher.on("dialog", lambda dialog: dialog.accept())
        teacher.click(".tile")
        teacher.get_by_role("button", name="Remove from class").click()
        ada.wait_for_selector('#saved[data-state="refused"]')
        assert ada.inner_text("#saved-text") == "Your teacher removed you. What you write now is not sent."
