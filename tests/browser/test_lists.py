"""The page for lists, over a fake server: preview, questions, import, watched lists, export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.controls import faults, focused, said
from tests.browser.fake import Fake, a_fake
from tests.browser.fake_desk import item, preview
from tests.browser.world import PATIENCE, chromium, until

pytestmark = pytest.mark.browser

POLISH = "Imię;Zwierzę\nŁukasz;kot\n".encode("cp1250")
COLUMNS = [
    {"heading": "Imię", "meaning": "given", "samples": ["Łukasz"]},
    {"heading": "Zwierzę", "meaning": "", "samples": ["kot"]},
]


def question(key: str, text: str, *, yes: bool = True, **more: Any) -> dict[str, Any]:
    return {"key": key, "text": text, "yes": yes, "samples": [], "choices": []} | more


ENCODING = question(
    "encoding",
    "The encoding seems to be cp1252. Are the letters of these lines right?",
    samples=["£ukasz"],
    choices=[{"key": "cp1250", "title": "cp1250"}],
)
HEADINGS = question("headings", "These columns are not known and would not be read.", samples=["Zwierzę"])
MANY = question("many", "24 of 28 students of 7A would be taken out. Is that right?")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def fake() -> Iterator[Fake]:
    with a_fake() as fake:
        yield fake


@pytest.fixture
def page(browser: Browser, fake: Fake) -> Iterator[Page]:
    context = browser.new_context(locale="en-GB", viewport={"width": 390, "height": 844})
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    page.goto(f"{fake.url}/roster")
    page.wait_for_selector("#content:visible")
    yield page
    context.close()


def test_a_file_is_read_again_until_its_letters_are_right(page: Page, fake: Fake, tmp_path: Path) -> None:
    file = tmp_path / "klasa.csv"
    file.write_bytes(POLISH)
    items = [item("added", "Łukasz", 2), item("refused", "", 3, detail="The row has no name.")]
    counts = {"added": 1, "refused": 1}
    fake.desk.previews = [
        preview(
            questions=[ENCODING, HEADINGS], columns=COLUMNS, items=[item("added", "£ukasz", 2)], counts={"added": 1}
        ),
        preview(questions=[HEADINGS], columns=COLUMNS, items=items, counts=counts),
    ]
    page.set_input_files("#file", file)
    page.get_by_label("is taken out, if an earlier version of this list brought them").check()
    page.click("#list-form button")
    page.wait_for_selector("#preview:visible")
    [(path, sent)] = fake.desk.received
    assert path == "/api/v1/roster/preview"
    assert sent == {"name": "klasa.csv", "content": POLISH, "scope": "origin"}
    assert focused(page) == "What would change: students.csv"
    page.click("#import")
    assert said(page) == "First answer the questions above."
    assert page.evaluate("document.activeElement.dataset.key") == "encoding"
    page.select_option("#questions select", "cp1250")
    page.click("#questions button")
    until(lambda: "Łukasz" in page.inner_text("#items"), "it was read again")
    assert fake.desk.received[-1][1] == {"preview": "p-1", "scope": "origin", "encoding": "cp1250"}
    assert "line 3" in page.inner_text("#items")
    assert page.inner_text("#items .mark >> nth=0") == "Refused (1)"
    page.get_by_label("Yes, leave these columns out").check()
    assert page.inner_text("#import") == "Import 1 change"
    page.click("#import")
    assert said(page) == "Done: 2 changes."
    assert fake.desk.received[-1] == ("/api/v1/roster/import", {"preview": "p-1", "answered": ["headings"]})
    assert page.is_hidden("#preview")
    assert page.input_value("#file") == ""


def test_a_person_says_what_a_column_means(page: Page, fake: Fake) -> None:
    fake.desk.previews = [
        preview(questions=[question("columns", "Which column is the name?", yes=False)], columns=COLUMNS)
    ]
    page.click("#list-form button")
    assert said(page) == "Choose a file or paste a list first."
    page.fill("#text", "Imię;Zwierzę\nŁukasz;kot")
    page.click("#list-form button")
    page.wait_for_selector("#preview:visible")
    page.get_by_label("Zwierzę").select_option(label="family name")
    fake.desk.previews = [preview(counts={"added": 1}, items=[item("added", "Łukasz kot", 2)])]
    page.click("#columns-again")
    until(lambda: "Łukasz kot" in page.inner_text("#items"), "it was read again")
    assert fake.desk.received[-1][1]["columns"] == {"given": "1", "family": "2"}
    page.click("#discard")
    assert said(page) == "Nothing was changed."


def test_a_roster_that_changed_meanwhile_is_shown_anew(page: Page, fake: Fake) -> None:
    fake.desk.previews = [preview(counts={"added": 1}, items=[item("added", "Ada", 1)])]
    fake.desk.changed = preview(preview="p-2", counts={"renamed": 1}, items=[item("renamed", "Ada", 1, before="ada")])
    page.fill("#text", "Ada")
    page.click("#list-form button")
    page.click("#import")
    assert said(page) == "The roster has changed."
    assert page.inner_text("#items .mark") == "Renamed (1)"
    # A double click imports once.
    page.dblclick("#import")
    assert said(page) == "Done: 2 changes."
    assert [body["preview"] for path, body in fake.desk.received if path.endswith("/import")] == ["p-1", "p-2"]


def test_a_watched_list_asks(page: Page, fake: Fake) -> None:
    watched = preview(questions=[MANY], counts={"removed": 24}, items=[item("removed", f"S{n}") for n in range(24)])
    fake.desk.watched = [watched]
    page.reload()
    page.click("#watched >> text=Show what would change")
    assert page.inner_text("#items .mark") == "Taken out (24)"
    page.get_by_label("Yes, this is what I want").check()
    page.click("#import")
    assert said(page) == "Done: 2 changes."
    fake.desk.watched = [watched]
    page.reload()
    page.click("#watched >> text=Leave it all as it is")
    assert said(page) == "students.csv was left out. The class stays as it is."
    assert fake.desk.received[-1] == ("/api/v1/roster/questions", {"preview": "p-1", "answer": "no"})
    assert page.is_hidden("#watched-part")


def test_lists_are_downloaded(page: Page) -> None:
    page.select_option("#format", label="Spreadsheet (CSV)")
    with page.expect_download() as download:
        page.click("#export-form button")
    assert download.value.suggested_filename == "students.csv"
    assert download.value.path().read_bytes() == b"name,class\r\n"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_the_page(page: Page, fake: Fake, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    fake.desk.watched = [preview(questions=[MANY])]
    kinds = ["refused", "removed", "renamed", "moved", "added", "left", "class_added"]
    items = [item(kind, "Ada", 3, before="ada", detail="A reason.") for kind in kinds]
    notes = [{"file": "students.csv", "line": 2, "text": "A note."}]
    counts = dict.fromkeys(kinds, 1)
    fake.desk.previews = [
        preview(questions=[ENCODING, HEADINGS], columns=COLUMNS, items=items, counts=counts, notes=notes, unchanged=3)
    ]
    page.reload()
    page.wait_for_selector("#watched button")
    found = {"page": faults(page)}
    page.fill("#text", "Ada")
    page.click("#list-form button")
    page.wait_for_selector("#preview:visible")
    found["preview"] = faults(page)
    page.click("#import")
    page.wait_for_selector("#said p")
    found["refused"] = faults(page)
    assert not any(found.values()), found
