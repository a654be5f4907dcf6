"""Accounts, sessions and pairing in real browsers, over the real program."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Page, Route

from tests.browser.controls import faults, focused, said, tab_to
from tests.browser.test_contrast import pale
from tests.browser.world import Classroom, classroom, until

pytestmark = pytest.mark.browser

PASSWORD = "three brown horses"
PHONE = {"width": 390, "height": 844}
EXPECTED = re.compile(r"Failed to load resource: the server responded with a status of 4\d\d")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classroom]:
    folder: Path = tmp_path_factory.mktemp("room")
    (folder / "data" / "roster").mkdir(parents=True)
    (folder / "data" / "roster" / "students.csv").write_text("name,class\nAda A.,5a\nBo B.,5b\n")
    with classroom(folder) as room:
        yield room
        assert [one for one in room.complaints if not EXPECTED.search(one)] == []


@pytest.fixture
def owner(room: Classroom) -> Iterator[Page]:
    """The page of accounts, where the owner is signed in."""
    page = room.person(locale="en-GB", viewport=PHONE).new_page()
    page.goto(f"{room.appliance.url}/login")
    page.fill("#token", room.appliance.ready["educator_token"])
    page.keyboard.press("Enter")
    page.wait_for_selector('#connection[data-state="live"]')
    page.goto(f"{room.appliance.url}/accounts")
    page.wait_for_selector("#accounts-part:visible")
    yield page
    page.context.close()


def add(owner: Page, name: str, login: str, *classes: str, role: str = "") -> None:
    owner.click("#add")
    owner.fill("#name", name)
    owner.fill("#login", login)
    owner.fill("#secret", PASSWORD)
    if role:
        owner.get_by_label(role).check()
    for title in classes:
        owner.get_by_label(title).check()
    owner.click("#save")


def sign_in(room: Classroom, login: str, password: str = PASSWORD, **options: Any) -> Page:
    page = room.person(locale="en-GB", viewport=PHONE, **options).new_page()
    page.goto(f"{room.appliance.url}/login")
    page.fill("#name", login)
    page.fill("#password", password)
    page.keyboard.press("Enter")
    return page


def live(page: Page) -> Page:
    page.wait_for_selector('#connection[data-state="live"]')
    return page


def test_a_teacher_gets_an_account_and_sees_the_own_class(room: Classroom, owner: Page) -> None:
    assert "need no account" in owner.inner_text("#owner-note")
    assert owner.is_hidden("#password-open")
    add(owner, "Ms Day", "day@school", "5b")
    assert said(owner) == "The account of Ms Day was added."
    assert focused(owner).startswith("Ms Day")
    assert owner.inner_text("#accounts").split("\n")[1] == "Teacher · 5b · day@school"
    add(owner, "Ms Day again", "DAY@school")
    assert said(owner) == "Another account signs in with this name. Choose another."
    owner.keyboard.press("Escape")

    wrong = sign_in(room, "day@school", "four brown horses")
    wrong.wait_for_selector("#error:not(:empty)")
    assert "do not belong together" in wrong.inner_text("#error")
    teacher = live(sign_in(room, "Day@School"))
    until(lambda: teacher.locator(".tile .name").all_inner_texts() == ["Bo B."], "the own class is shown")
    teacher.focus("#more summary")
    teacher.keyboard.press("Enter")
    assert teacher.is_hidden("#lists")
    tab_to(teacher, "Accounts")
    teacher.keyboard.press("Enter")
    teacher.wait_for_selector("#content:visible")
    assert teacher.inner_text("#who") == "You are signed in as Ms Day (teacher)."
    assert teacher.inner_text("#own-classes") == "Your classes: 5b."
    assert teacher.is_hidden("#accounts-part")
    teacher.goto(f"{room.appliance.url}/people")
    until(lambda: teacher.locator("#class option").all_inner_texts() == ["5b"], "there is one class")
    teacher.goto(f"{room.appliance.url}/roster")
    assert teacher.inner_text("h1") == "Only for administrators"

    owner.click("#accounts button")
    owner.get_by_label("May not sign in").check()
    owner.click("#save")
    assert said(owner) == "The account of Ms Day was saved."
    assert "May not sign in" in owner.inner_text("#accounts")
    teacher.goto(f"{room.appliance.url}/accounts")
    assert "Are you a student?" in teacher.inner_text("main")
    owner.click("#accounts button")
    owner.click("#delete")
    assert focused(owner) == "Cancel"
    owner.click("dialog.ask >> text=Remove account")
    assert said(owner) == "The account of Ms Day was removed."
    assert owner.is_visible("#no-accounts")
    assert focused(owner) == "Add an account"


def test_a_new_password_signs_the_other_devices_out(room: Classroom, owner: Page) -> None:
    add(owner, "Mr Poe", "poe", role="Assistant: sees the own classes, changes nothing")
    assert said(owner) == "The account of Mr Poe was added."
    one, other = live(sign_in(room, "poe")), live(sign_in(room, "poe"))
    one.goto(f"{room.appliance.url}/accounts")
    until(lambda: one.locator("#sessions li").count() == 2, "there are two sessions")
    one.click("#password-open")
    for id, text in (("old", "wrong"), ("new", "four brown horses"), ("again", "five brown horses")):
        one.fill(f"#{id}", text)
    one.keyboard.press("Enter")
    assert said(one) == "The two new passwords differ. Type them again."
    assert focused(one) == "again"
    one.fill("#again", "four brown horses")
    one.keyboard.press("Enter")
    until(lambda: said(one) == "This is not your present password.", "the old one is refused")
    one.fill("#old", PASSWORD)
    one.keyboard.press("Enter")
    until(lambda: "was changed" in said(one), "the password is new")
    other.wait_for_url("**/login")
    one.click("#sign-out")
    one.wait_for_url("**/login")
    one.goto(f"{room.appliance.url}/accounts")
    assert "Are you a student?" in one.inner_text("main")


def test_a_session_that_nobody_knows_is_ended(room: Classroom, owner: Page) -> None:
    add(owner, "Ms Fox", "fox", "5a")
    assert said(owner) == "The account of Ms Fox was added."
    fox = live(sign_in(room, "fox"))
    assert "Ms Fox" not in owner.inner_text("#sessions")
    owner.get_by_label("Show all people\u2019s sessions").check()
    until(lambda: "Ms Fox" in owner.inner_text("#sessions"), "all sessions are shown")
    [line] = [
        re.sub(r"\d\d:\d\d", "TIME", text) for text in owner.locator("#sessions li").all_inner_texts() if "Fox" in text
    ]
    assert line.split("\n") == ["Ms Fox · Chrome on Linux", "since TIME · last used TIME · with a password", "End"]
    assert owner.locator("#sessions li >> nth=0").inner_text().endswith("This one")
    owner.get_by_role("button", name="End: Ms Fox · Chrome on Linux").click()
    assert said(owner) == "The session has ended. That browser is signed out."
    fox.wait_for_url("**/login")


def test_a_tablet_signs_in_with_six_digits(room: Classroom, owner: Page) -> None:
    owner.click("#pair-open")
    owner.wait_for_selector("#tablet[open]")
    code = owner.inner_text("#tablet-code")
    assert re.fullmatch(r"\d{3} \d{3}", code)
    assert re.fullmatch(r"Valid for (3:00|2:\d\d) more, and once\.", owner.inner_text("#tablet-left"))
    assert owner.eval_on_selector("#tablet-qr", "async (image) => { await image.decode(); return image.naturalWidth }")
    address = owner.inner_text("#tablet-url")
    tablet = room.person(locale="en-GB", viewport={"width": 820, "height": 1180}).new_page()
    tablet.goto(address)
    tablet.wait_for_selector("#content:visible")
    tablet.keyboard.type("12345")
    tablet.keyboard.press("Enter")
    assert tablet.inner_text("#error") == "Type all six digits."
    wrong = f"{(int(code.replace(' ', '')) + 1) % 1_000_000:06}"
    tablet.keyboard.type(wrong)
    assert tablet.input_value("#code") == f"{wrong[:3]} {wrong[3:]}"
    tablet.keyboard.press("Enter")
    until(lambda: "This code is not valid." in tablet.inner_text("#error"), "the wrong code is refused")
    tablet.keyboard.type(code.replace(" ", ""))
    tablet.keyboard.press("Enter")
    live(tablet)
    owner.wait_for_selector("#tablet", state="hidden")
    assert said(owner) == "Signed in: Chrome on Linux."
    assert "by a code for tablets" in owner.inner_text("#sessions")


def test_a_scanned_code_is_sent_after_a_press_of_the_button(room: Classroom) -> None:
    page = room.person(viewport=PHONE).new_page()
    sent: list[Any] = []

    def refuse(route: Route) -> None:
        sent.append(route.request.post_data_json)
        error = {"code": "wrong_code", "message": "This code is not valid."}
        route.fulfill(status=403, content_type="application/json", body=json.dumps({"error": error}))

    page.route("**/api/v1/pair", refuse)
    page.goto(f"{room.appliance.url}/pair#the-secret-of-the-picture")
    page.wait_for_selector("#scanned:visible")
    assert page.url == f"{room.appliance.url}/pair"
    assert page.is_hidden("#code")
    assert sent == []
    page.keyboard.press("Enter")
    until(lambda: page.inner_text("#error") == "This code is not valid.", "the code is refused")
    assert sent == [{"code": "the-secret-of-the-picture"}]
    # The digits remain.
    assert page.is_visible("#code")
    assert focused(page) == "code"


def test_a_code_that_has_ended_is_made_anew(room: Classroom, owner: Page) -> None:
    owner.clock.install()
    owner.click("#pair-open")
    owner.wait_for_selector("#tablet[open]")
    first = owner.inner_text("#tablet-code")
    owner.clock.fast_forward(190_000)
    until(lambda: owner.inner_text("#tablet-left") == "This code has ended.", "the code has ended")
    assert owner.inner_text("#tablet-code") == "\u2013\u2013\u2013 \u2013\u2013\u2013"
    assert focused(owner) == "New code"
    owner.keyboard.press("Enter")
    until(lambda: re.fullmatch(r"\d{3} \d{3}", owner.inner_text("#tablet-code")), "there is a new one")
    assert owner.inner_text("#tablet-code") != first


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_the_pages(room: Classroom, owner: Page, scheme: Literal["light", "dark"]) -> None:
    owner.emulate_media(color_scheme=scheme)
    add(owner, f"Ms {scheme}", scheme, "5a")
    assert said(owner) == f"The account of Ms {scheme} was added."
    found = {"accounts": faults(owner)}
    owner.click("#accounts button")
    found["account"] = faults(owner)
    owner.click("#delete")
    found["question"] = faults(owner)
    owner.keyboard.press("Escape")
    owner.keyboard.press("Escape")
    owner.click("#pair-open")
    owner.wait_for_selector("#tablet[open]")
    found["tablet"] = faults(owner)
    page = sign_in(room, scheme, "wrong wrong wrong", color_scheme=scheme)
    page.wait_for_selector("#error:not(:empty)")
    found["login"] = faults(page)
    page.goto(f"{room.appliance.url}/pair")
    page.fill("#code", "12")
    page.click("#pair")
    page.wait_for_selector("#error:not(:empty)")
    found["pair"] = faults(page)
    page.goto(f"{room.appliance.url}/pair#secret")
    found["pair, scanned"] = faults(page)
    teacher = live(sign_in(room, scheme, color_scheme=scheme))
    teacher.click("#more summary")
    found["dashboard, more"] = pale(teacher)
    box = teacher.locator(".more-links").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]
    teacher.goto(f"{room.appliance.url}/accounts")
    teacher.click("#password-open")
    found["password"] = faults(teacher)
    teacher.goto(f"{room.appliance.url}/roster")
    found["for administrators"] = pale(teacher)
    for _ in range(2):
        teacher.context.clear_cookies()
        teacher.goto(room.appliance.ready["dashboard_url"])
    assert "This link was used already." in teacher.inner_text("main")
    found["used link"] = pale(teacher)
    teacher.goto(f"{room.appliance.url}/?token=made-up")
    assert "This link is not valid" in teacher.inner_text("main")
    found["unknown link"] = pale(teacher)
    assert not any(found.values()), found
