"""The dashboard of a class with a list: students who have not joined, changed lists, excerpts, a lost connection."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.fake import a_fake, entry
from tests.browser.world import chromium, classroom, saved, until

pytestmark = pytest.mark.browser

ALICE = (
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do: once or "
)


def listed(data: Path, *rows: str) -> None:
    """Write the class list, as a teacher saves it."""
    (data / "roster").mkdir(parents=True, exist_ok=True)
    (data / "roster" / "students.csv").write_text("\n".join(["name,class", *rows, ""]))


def names(page: Page) -> list[str]:
    return page.locator(".tile .name").all_inner_texts()


def state(page: Page, name: str) -> str:
    return page.locator(".tile", has_text=name).locator(".state").inner_text()


def test_who_is_in_the_list_and_never_came_is_said_to_be_missing(tmp_path: Path) -> None:
    listed(tmp_path / "data", "Ada A.,5a", "Bo B.,5a", "Cy C.,5a")
    with classroom(tmp_path) as room:
        teacher = room.teacher()
        until(lambda: names(teacher) == ["Ada A.", "Bo B.", "Cy C."], "the list is shown")
        assert {state(teacher, name) for name in names(teacher)} == {"Not joined yet"}
        assert teacher.is_visible("#code")
        student = room.student("Bo B.")
        until(lambda: names(teacher) == ["Bo B.", "Ada A.", "Cy C."], "who is there comes first")
        until(lambda: "Online" in state(teacher, "Bo B."), "Bo is online")
        assert teacher.is_hidden("#code")
        # Bo wrote nothing, but has joined.
        student.context.close()
        until(lambda: "Offline" in state(teacher, "Bo B."), "Bo is gone")
        assert names(teacher) == ["Bo B.", "Ada A.", "Cy C."]
        assert state(teacher, "Ada A.") == "Not joined yet"
        assert room.complaints == []


def test_the_dashboard_follows_a_class_list_that_changes(tmp_path: Path) -> None:
    with classroom(tmp_path) as room:
        teacher = room.teacher()
        teacher.wait_for_selector("#empty:visible")
        assert teacher.inner_text("#class-title") == "My class"
        listed(room.appliance.data, "Ada A.,5a", "Bo B.,5b")
        until(lambda: names(teacher) == ["Ada A."], "the first class of the list is shown")
        assert teacher.locator("#class option").all_inner_texts() == ["5a", "5b"]
        teacher.select_option("#class", label="5b")
        until(lambda: names(teacher) == ["Bo B."], "the chosen class is shown")
        listed(room.appliance.data, "Ada A.,4c", "Cy C.,5a", "Bo B.,5b", "Di D.,5b")
        until(lambda: names(teacher) == ["Bo B.", "Di D."], "the chosen class is shown still")
        until(lambda: len(teacher.locator("#class option").all()) == 3, "the choice is new")
        assert teacher.eval_on_selector("#class", "node => node.selectedOptions[0].text") == "5b"
        # A teacher's commands apply to the class that is shown.
        with teacher.expect_response("**/api/v1/class/pause") as answer:
            teacher.click("#pause")
        assert answer.value.ok
        teacher.wait_for_selector("#paused:visible")
        # A class that is no longer in the list still exists, without students.
        listed(room.appliance.data, "Ada A.,4c")
        until(lambda: names(teacher) == [], "nobody of the list is in the class")
        assert teacher.eval_on_selector("#class", "node => node.selectedOptions[0].text") == "5b"
        assert room.complaints == []


def test_a_class_that_is_no_longer_the_teachers_goes_away_with_a_sentence() -> None:
    with a_fake() as fake, chromium() as browser:
        fake.classes = {"5a": "Class 5a", "5b": "Class 5b"}
        fake.students = [entry("Ada", class_id="5a"), entry("Bo", class_id="5b")]
        page = browser.new_page()
        page.goto(f"{fake.url}/dashboard")
        page.select_option("#class", label="Class 5b")
        until(lambda: names(page) == ["Bo"], "the chosen class is shown")
        fake.classes = {"5a": "Class 5a"}
        fake.students = fake.students[:1]
        fake.show()
        until(lambda: names(page) == ["Ada"], "the other class is shown")
        assert "The class “Class 5b” has ended, or is no longer one of yours." in page.inner_text("#gone")
        assert "Bo" not in page.inner_text("body")
        page.click("#gone .delete")
        assert page.inner_text("#gone") == ""
        fake.classes, fake.students = {}, []
        fake.show()
        page.wait_for_selector("#no-class:visible")
        assert page.is_disabled("#pause")
        assert "Class 5a" in page.inner_text("#gone")
        fake.classes = {"5c": "Class 5c"}
        fake.show()
        page.wait_for_selector("#no-class", state="hidden")
        assert page.inner_text("#class-title") == "Class 5c"
        assert page.is_enabled("#pause")


def test_an_excerpt_is_cut_between_words(tmp_path: Path) -> None:
    with classroom(tmp_path) as room:
        teacher = room.teacher(viewport={"width": 1366, "height": 768})
        student = room.student("Ada")
        student.click("#text")
        student.keyboard.insert_text(ALICE * 3)
        saved(student)
        excerpt = teacher.locator(".tile .excerpt")
        whole = set(ALICE.split())
        for width in (1366, 390, 1000):
            teacher.set_viewport_size({"width": width, "height": 768})
            for at in (0, 30, 117, 131, 200, len(ALICE) * 3):
                student.evaluate("at => document.getElementById('text').setSelectionRange(at, at)", at)
                start, end = (ALICE * 3)[max(0, at - 12) : at], (ALICE * 3)[at : at + 5]
                until(
                    lambda start=start, end=end: f"{start}|{end}" in caret_marked(teacher),
                    f"the excerpt is around {at}",
                )
                shown = caret_marked(teacher).replace("|", "")
                assert set(shown.strip("…").split()) <= whole, shown
                assert shown.startswith("…") == (at > 45), shown
                assert shown.endswith("…") == (at < len(ALICE) * 3), shown
                # All of it is visible: the box cuts nothing.
                assert excerpt.evaluate("node => node.scrollHeight <= node.clientHeight + 1"), shown
        assert room.complaints == []


def caret_marked(page: Page) -> str:
    """The excerpt on the only tile, with a stroke for the caret."""
    text: str = page.eval_on_selector(
        ".tile .excerpt", "node => [...node.childNodes].map((one) => one.className ? '|' : one.data).join('')"
    )
    return text


def test_without_a_link_the_page_says_of_when_it_is(tmp_path: Path) -> None:
    with classroom(tmp_path) as room:
        teacher = room.teacher()
        room.student("Ada")
        until(lambda: names(teacher) == ["Ada"], "Ada is there")
        room.appliance.stop()
        teacher.wait_for_selector("#tiles.stale")
        until(
            lambda: re.fullmatch(
                r"Connection lost\. Showing \d\d:\d\d.*", teacher.inner_text("#connection").strip("● ")
            ),
            "the time is shown",
        )
        shown = teacher.inner_text(".tile")
        # Two minutes later it shows the same data: nobody has become idle meanwhile.
        said = teacher.inner_text("#connection")
        teacher.evaluate(
            "() => { const now = Date.now; Date.now = () => now() + 120000; dispatchEvent(new Event('resize')); }"
        )
        teacher.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert teacher.inner_text(".tile") == shown
        assert teacher.inner_text("#connection") == said
