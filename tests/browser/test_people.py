"""The page with a class's students, over a fake server: find, rename, merge, remove, bring back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.controls import faults, focused, said, tab_to
from tests.browser.fake import Fake, a_fake
from tests.browser.fake_desk import student
from tests.browser.world import PATIENCE, chromium, until

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}
ADA, ZOE, LUKASZ = student("Ada"), student("Zoë Müller", online=True), student("Łukasz O\u2019Brien", listed=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def fake() -> Iterator[Fake]:
    with a_fake() as fake:
        fake.desk.add(*(dict(one) for one in (ADA, ZOE, LUKASZ)), student("Bo", "c-2"))
        yield fake


@pytest.fixture
def page(browser: Browser, fake: Fake) -> Iterator[Page]:
    context = browser.new_context(locale="en-GB", viewport=PHONE)
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    page.goto(f"{fake.url}/people")
    page.wait_for_selector("#content:visible")
    yield page
    context.close()


def names(page: Page, part: str = "students") -> list[str]:
    return page.locator(f"#{part} .row-name").all_inner_texts()


def test_a_name_is_found_without_its_accents(page: Page) -> None:
    assert names(page) == ["Ada", "Łukasz O\u2019Brien", "Zoë Müller"]
    for typed in ("mull", "zoe", "MÜLLER Z", "zoe\u0308"):
        page.fill("#search", typed)
        assert names(page) == ["Zoë Müller"]
        assert page.inner_text("#count") == "1 of 3 students"
    page.fill("#search", "lukasz obri")
    assert page.inner_text("#count") == "No name here has these letters."
    page.fill("#search", "o'bri luk")
    assert names(page) == ["Łukasz O\u2019Brien"]


def test_a_student_is_renamed_by_the_keyboard(page: Page, fake: Fake) -> None:
    tab_to(page, "Ada")
    page.keyboard.press("Enter")
    assert focused(page) == "Ada"
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("Zoë Müller")
    page.keyboard.press("Enter")
    assert said(page) == "Another student of this class has this name."
    page.keyboard.press("Control+A")
    page.keyboard.type("<b>Ada L.</b>")
    page.keyboard.press("Enter")
    page.wait_for_selector("#student", state="hidden")
    assert said(page) == "The name is now <b>Ada L.</b>."
    assert names(page)[0] == "<b>Ada L.</b>"
    assert focused(page).startswith("<b>Ada L.</b>")


def test_two_students_become_one_after_one_question(page: Page, fake: Fake) -> None:
    page.click("#students >> text=Ada")
    assert page.locator("#merge-into option").all_inner_texts() == [
        "Choose a student",
        "Łukasz O\u2019Brien",
        "Zoë Müller",
    ]
    page.select_option("#merge-into", label="Zoë Müller")
    page.click("#merge-form button")
    # The key Return keeps both: what cannot be undone needs more than that.
    page.wait_for_selector("dialog.ask[open]")
    assert "Zoë Müller stays and gets all work" in page.inner_text("dialog.ask")
    assert focused(page) == "Cancel"
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog.ask", state="detached")
    assert fake.desk.received == []
    page.click("#merge-form button")
    page.click("dialog.ask >> text=Merge >> nth=1")
    assert said(page) == "Ada and Zoë Müller are one student now: Zoë Müller."
    assert fake.desk.received == [("/api/v1/students/s-Ada/merge", {"into": ZOE["student_id"]})]
    assert names(page) == ["Łukasz O\u2019Brien", "Zoë Müller"]


def test_who_was_removed_comes_back_by_one_key(page: Page, fake: Fake) -> None:
    page.click("#students >> text=Ada")
    page.click("#remove")
    assert said(page) == "Ada was removed."
    assert (names(page), names(page, "removed")) == (["Łukasz O\u2019Brien", "Zoë Müller"], ["Ada"])
    assert focused(page) == "Undo"
    page.keyboard.press("Enter")
    until(lambda: names(page)[0] == "Ada", "Ada is back")
    assert said(page) == "Ada is back in the class."
    page.click("#students >> text=Ada")
    page.click("#remove-today")
    assert said(page) == "Ada was removed, and may not come back today."
    assert fake.desk.received[-1] == ("/api/v1/students/s-Ada/remove", {"until": "today"})
    assert "may not come back today" in page.inner_text("#removed")
    # Also later, from the list of those who were removed.
    page.reload()
    page.get_by_role("button", name="Undo: bring Ada back").click()
    until(lambda: names(page)[0] == "Ada", "Ada is back")
    page.wait_for_selector("#removed-part", state="hidden")


def test_a_forgotten_secret_is_taken_away_and_newcomers_wait_for_a_yes(page: Page, fake: Fake) -> None:
    page.click("#students >> text=Ada")
    page.click("#reset-secret")
    assert said(page) == "Ada has no PIN and no pictures now."
    page.get_by_label("Ask me about each new student").check()
    assert said(page) == "New students now wait for your yes. The dashboard shows who waits."
    assert fake.desk.received == [
        ("/api/v1/students/s-Ada/reset-secret", {}),
        ("/api/v1/class/change", {"class_id": "c-1", "approval": True}),
    ]
    page.select_option("#class", label="7B")
    until(lambda: names(page) == ["Bo"], "the other class is shown")
    assert not page.is_checked("#approval")
    page.select_option("#class", label="All my classes")
    until(lambda: len(names(page)) == 4, "all classes are shown")
    assert "7B · from the list" in page.inner_text("#students")


def test_of_many_classes_the_server_finds_the_names(page: Page, fake: Fake) -> None:
    for number in range(20):
        class_id = f"c-{number + 10}"
        fake.desk.classes[class_id] = {"class_id": class_id, "title": f"Class {number}", "approval": False}
    page.reload()
    page.select_option("#class", label="All my classes")
    until(lambda: "many classes" in page.inner_text("#count"), "the page asks for a name")
    assert names(page) == []
    page.fill("#search", "müll")
    until(lambda: names(page) == ["Zoë Müller"], "the server has found her")
    page.click("#students button")
    assert "Ada" in page.locator("#merge-into option").all_inner_texts()


def test_an_assistant_sees_and_changes_nothing(page: Page, fake: Fake) -> None:
    fake.desk.role = "assistant"
    fake.desk.removed = {"s-Cy": student("Cy") | {"removed_at": 1.0, "barred_until": None}}
    page.reload()
    page.wait_for_selector("#read-only:visible")
    assert names(page) == ["Ada", "Łukasz O\u2019Brien", "Zoë Müller"]
    assert page.locator("main button:visible").count() == 0
    assert page.is_hidden("#approval-line")
    assert page.locator("#bar a").all_inner_texts() == ["Dashboard", "People", "Accounts"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_the_page(page: Page, fake: Fake, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    fake.desk.removed = {"s-Cy": student("Cy") | {"removed_at": 1.0, "barred_until": 1e12}}
    page.reload()
    page.wait_for_selector("#removed li")
    found = {"page": faults(page)}
    page.click("#students >> text=Ada")
    found["dialog"] = faults(page)
    page.fill("#name", "Zoë Müller")
    page.click("#rename-form button")
    page.wait_for_selector("#said p")
    found["refused"] = faults(page)
    page.select_option("#merge-into", index=1)
    page.click("#merge-form button")
    found["question"] = faults(page)
    page.keyboard.press("Escape")
    page.click("#remove")
    page.wait_for_selector("#said button")
    found["removed"] = faults(page)
    assert not any(found.values()), found
