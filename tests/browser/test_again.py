"""Who is who, in real browsers: the list of names, the teacher's yes, a PIN and pictures, removing, merging."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.world import PATIENCE, Classroom, classroom, saved, until

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENCE * 1000)


def a_list(folder: Path, *names: str) -> None:
    (folder / "data" / "roster").mkdir(parents=True)
    (folder / "data" / "roster" / "students.csv").write_text("name\n" + "\n".join(names) + "\n")


def join_page(room: Classroom) -> Page:
    """The join page with the code of the first class."""
    page = room.person().new_page()
    page.goto(f"{room.appliance.lan_url}/join")
    page.fill("#code", room.appliance.get("/api/v1/classes")[0]["code"])
    return page


def choose(page: Page, name: str) -> None:
    page.get_by_label(name).check()
    page.get_by_role("button", name="Join", exact=True).click()


def enter(page: Page, pad: str, digits: str) -> None:
    """Type a PIN; the pad takes digits from the keyboard too."""
    page.locator(f"{pad} button").first.focus()
    page.keyboard.type(digits)


def only_refusals(room: Classroom) -> None:
    """A browser reports each refused request; nothing else may have gone wrong."""
    assert [said for said in room.complaints if "the server responded with a status of 4" not in said] == []


def test_a_student_on_another_device_comes_in_with_the_teachers_yes_or_pictures_and_finds_the_text(
    tmp_path: Path,
) -> None:
    a_list(tmp_path, "Ada Lovelace", "Łukasz Nowak", "Zoë Q")
    with classroom(tmp_path) as room:
        teacher = room.teacher()
        ada = join_page(room)
        expect(ada.get_by_text("3 names.")).to_be_visible()
        ada.fill("#name", "lovel")
        expect(ada.locator("#names-list label")).to_have_text(["Ada Lovelace"])
        choose(ada, "Ada Lovelace")
        saved(ada)
        ada.fill("#text", "Once upon a time")
        saved(ada)
        # Another laptop.
        laptop = join_page(room)
        choose(laptop, "Ada Lovelace has joined")
        expect(laptop.get_by_role("heading", name="Is this you, Ada Lovelace?")).to_be_focused()
        # The question outlives a reload.
        laptop.reload()
        expect(laptop.get_by_text("must say yes")).to_be_visible()
        yes = teacher.get_by_role("button", name="Yes: Ada Lovelace again, from another browser")
        yes.focus()
        teacher.keyboard.press("Enter")
        saved(laptop)
        assert laptop.input_value("#text") == "Once upon a time"
        assert room.text("Ada Lovelace") == "Once upon a time"
        expect(teacher.locator("#requests")).to_be_hidden()
        # A picture password, by keyboard.
        laptop.get_by_role("button", name="PIN").click()
        laptop.get_by_label("Pictures", exact=True).check()
        for _ in range(2):
            for name in ("Moon", "Flower", "Umbrella"):
                laptop.locator("#keep").get_by_role("button", name=name).press("Space")
            laptop.locator("#keep-next").click()
        expect(laptop.locator("#keep")).to_be_hidden()
        phone = join_page(room)
        phone.fill("#name", "ada  LOVELACE")
        phone.get_by_role("button", name="Join", exact=True).click()
        for name in ("Flower", "Moon", "Umbrella"):
            phone.get_by_role("button", name=name).click()
        phone.get_by_role("button", name="Continue").click()
        expect(phone.locator("#error")).to_have_text("That is not right. Try again, or ask your teacher.")
        for name in ("Moon", "Flower", "Umbrella"):
            phone.get_by_role("button", name=name).click()
        phone.get_by_role("button", name="Continue").click()
        saved(phone)
        assert phone.input_value("#text") == "Once upon a time"
        only_refusals(room)


def test_who_is_removed_reads_so_everywhere_and_is_back_after_an_undo(tmp_path: Path) -> None:
    with classroom(tmp_path) as room:
        teacher = room.teacher()
        ada = room.student("Ada")
        ada.fill("#text", "Mine")
        saved(ada)
        teacher.on("dialog", lambda dialog: dialog.accept())
        teacher.click(".tile")
        teacher.get_by_role("button", name="Remove for today").click()
        expect(ada.locator("#removed")).to_be_visible()
        assert ada.input_value("#text") == "Mine"
        assert ada.evaluate("document.getElementById('text').readOnly") is True
        ada.reload()
        expect(ada.locator("#removed")).to_be_visible()
        assert ada.input_value("#text") == "Mine"
        other = ada.context.new_page()
        other.goto(f"{room.appliance.lan_url}/join")
        expect(other.get_by_role("heading", name="Your teacher removed you")).to_be_visible()
        expect(other.get_by_text("You may not come back today")).to_be_visible()
        again = join_page(room)
        again.fill("#name", "Ada")
        again.get_by_role("button", name="Join", exact=True).click()
        expect(again.locator("#error")).to_have_text("You may not come back to this class today. Ask your teacher.")
        expect(teacher.get_by_text("Ada was removed from the class.")).to_be_visible()
        teacher.get_by_role("button", name="Undo").click()
        ada.bring_to_front()
        expect(ada.locator("#removed")).to_be_hidden()
        saved(ada)
        ada.fill("#text", "Mine again")
        saved(ada)
        until(lambda: room.text("Ada") == "Mine again", "the text is there")
        only_refusals(room)


def test_a_newcomer_is_asked_about_and_two_names_of_one_student_are_merged(tmp_path: Path) -> None:
    with classroom(tmp_path) as room:
        teacher = room.teacher()
        ada = room.student("Ada")
        ada.fill("#text", "From the desktop")
        saved(ada)
        if teacher.locator("#approval").is_hidden():
            teacher.click("#join-toggle")
        teacher.get_by_label("Ask me about each new student").check()
        until(lambda: room.appliance.get("/api/v1/classes")[0]["approval"], "the class asks")
        ghost = join_page(room)
        ghost.fill("#name", "Ada L")
        ghost.get_by_role("button", name="Join", exact=True).click()
        expect(ghost.get_by_text("must let you in")).to_be_visible()
        eve = join_page(room)
        eve.fill("#name", "Eve")
        eve.get_by_role("button", name="Join", exact=True).click()
        teacher.get_by_role("button", name="No: New: Eve").click()
        expect(eve.locator("#error")).to_have_text("Your teacher said no. Ask your teacher.")
        teacher.get_by_role("button", name="Yes: New: Ada L").click()
        saved(ghost)
        ghost.fill("#text", "From the laptop")
        saved(ghost)
        teacher.on("dialog", lambda dialog: dialog.accept())
        teacher.locator(".tile", has_text="Ada L").click()
        teacher.get_by_text("Name, merge, PIN").click()
        teacher.get_by_label("This is the same student as").select_option("Ada")
        teacher.get_by_role("button", name="Merge").click()
        expect(teacher.locator(".tile")).to_have_count(1)
        until(lambda: room.whole("Ada")["held_at"] is None, "the states are rebuilt")
        saved(ghost)
        expect(ghost.locator("#who")).to_have_text("Ada")
        ghost.fill("#text", "From the laptop, and on")
        saved(ghost)
        until(lambda: room.text("Ada") == "From the laptop, and on", "both are one student")
        only_refusals(room)
