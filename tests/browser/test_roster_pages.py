"""Lists and people on the teachers' pages, over the real program; what is rare is in `test_lists` and `test_people`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.controls import said
from tests.browser.world import classroom, saved, until

pytestmark = pytest.mark.browser

POLISH = "Imię;Nazwisko;Klasa;Zwierzę\nŁukasz;Żak;5a;kot\nMałgorzata;Dąb;5a;pies\nŚwiętosława;Źdźbło;5a;mysz;osa;lew\n"


def groups(page: Page) -> list[str]:
    return page.locator("#items .mark").all_inner_texts()


def watched(data: Path, students: int) -> Path:
    """A list in the watched folder, with some students of 5a and one of 5b."""
    (data / "roster").mkdir(parents=True, exist_ok=True)
    path = data / "roster" / "students.csv"
    rows = [f"Student {number:02},5a" for number in range(students)]
    path.write_text("\n".join(["name,class", *rows, "Bo B.,5b", ""]))
    return path


def take_over(page: Page, file: Path) -> None:
    """Import a list in another encoding, with an unknown column and a bad row."""
    page.set_input_files("#file", file)
    page.click("#list-form button")
    page.wait_for_selector("#preview:visible")
    assert "cp1250" in page.inner_text("#questions")
    assert "Małgorzata;Dąb;5a;pies" in page.inner_text("#questions .samples >> nth=0")
    assert groups(page)[:2] == ["Refused (1)", "Added (2)"]
    assert "line 4" in page.inner_text("#items")
    assert page.get_by_label("Nazwisko").input_value() == "family"
    for box in page.locator("#questions input").all():
        box.check()
    # Another meaning of a column: what was answered before stays answered.
    page.get_by_label("Zwierzę").select_option(label="preferred name")
    page.click("#columns-again")
    until(lambda: "kot" in page.inner_text("#items"), "it was read again")
    assert [box.is_checked() for box in page.locator("#questions input").all()] == [True, True]
    page.click("#import")
    assert said(page) == "Done: 2 changes."


def paste(page: Page) -> None:
    # Pasted names say no class: the page asks.
    page.fill("#text", "Lovelace, Ada\nOkri, Ben")
    page.click("#list-form button")
    page.wait_for_selector("#preview:visible")
    page.get_by_label("Yes, each line is a name").check()
    page.select_option("#questions select", label="5b")
    page.get_by_role("button", name="Read the list again").first.click()
    until(lambda: groups(page)[:1] == ["Added (2)"], "the class is known")
    page.click("#import")
    until(lambda: page.is_hidden("#preview"), "they are in the class")


def test_lists_come_and_go(tmp_path: Path) -> None:
    watched(tmp_path / "data", 12)
    file = tmp_path / "klasa.csv"
    file.write_bytes(POLISH.encode("cp1250"))
    with classroom(tmp_path) as room:
        page = room.teacher(locale="en-GB")
        page.click("#more summary")
        page.click("#lists")
        take_over(page, file)
        paste(page)
        page.goto(f"{room.appliance.url}/people")
        page.select_option("#class", label="5b")
        until(lambda: page.inner_text("#count") == "3 students", "the class has them")
        page.fill("#search", "love")
        assert page.locator("#students .row-name").all_inner_texts() == ["Ada Lovelace"]

        # A watched list that would take out many at once.
        watched(room.appliance.data, 0)
        until(lambda: room.appliance.get("/api/v1/roster/questions"), "the list asks")
        page.goto(f"{room.appliance.url}/roster")
        page.click("#watched >> text=Show what would change")
        assert groups(page)[0] == "Taken out (12)"
        page.get_by_label("Yes, this is what I want").check()
        page.click("#import")
        assert said(page) == "Done: 12 changes."
        page.wait_for_selector("#watched-part", state="hidden")

        page.select_option("#format", label="Spreadsheet (CSV)")
        with page.expect_download() as download:
            page.click("#export-form button")
        assert download.value.suggested_filename == "students.csv"
        assert "Ada Lovelace,5b" in download.value.path().read_text("utf-8-sig")
        assert room.complaints == []


def names(page: Page, part: str = "students") -> list[str]:
    return page.locator(f"#{part} .row-name").all_inner_texts()


def test_students_are_merged_renamed_removed_and_brought_back(tmp_path: Path) -> None:
    watched(tmp_path / "data", 1)
    with classroom(tmp_path) as room:
        page = room.teacher(locale="en-GB")
        ada, twin = room.student("Ada"), room.student("Adda")
        for student, text in ((ada, "one two"), (twin, "three")):
            student.click("#text")
            student.keyboard.type(text)
            saved(student)
        page.click("#more summary")
        page.click("#more >> text=People")
        page.click("#students >> text=Adda")
        page.select_option("#merge-into", label="Ada")
        page.click("#merge-form button")
        page.click("dialog.ask >> text=Merge >> nth=1")
        assert said(page) == "Adda and Ada are one student now: Ada."
        assert names(page) == ["Ada", "Student 00"]
        until(lambda: len(room.whole("Ada")["documents"]) >= 1, "Ada has the work of both")
        page.click("#students >> text=Ada")
        page.fill("#name", "Zoë Ada")
        page.click("#rename-form button")
        until(lambda: names(page) == ["Student 00", "Zoë Ada"], "the name is new")
        page.fill("#search", "zoe")
        page.click("#students button")
        page.click("#remove-today")
        assert said(page) == "Zoë Ada was removed, and may not come back today."
        assert names(page, "removed") == ["Zoë Ada"]
        ada.wait_for_selector('#saved[data-state="refused"]')
        page.keyboard.press("Enter")
        until(lambda: names(page) == ["Zoë Ada"], "the student is back")
        assert page.is_hidden("#removed-part")
        ada.reload()
        saved(ada)
        page.get_by_label("Ask me about each new student").check()
        until(lambda: room.appliance.get("/api/v1/classes")[0]["approval"], "newcomers wait for a yes")
        page.click("#new-class")
        page.fill("#class-title", "Chess club")
        page.keyboard.press("Enter")
        assert re.fullmatch(r"Chess club is there\. Students join it with the code \w{3}-\d{3}\.", said(page))
        assert page.inner_text("#count") == "Nobody has joined yet."
        page.click("#retitle")
        page.fill("#class-title", "Chess")
        page.keyboard.press("Enter")
        until(
            lambda: page.eval_on_selector("#class", "node => node.selectedOptions[0].text") == "Chess", "it is renamed"
        )
        assert room.complaints == []
