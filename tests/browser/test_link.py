"""Pages whose server is silent, unreachable, or cannot use their events: what they show, and how they recover."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.browser.fake import Fake, a_fake, entry
from tests.browser.test_contrast import pale
from tests.browser.world import PATIENCE, chromium, saved, until

pytestmark = pytest.mark.browser

# Back-off is as long as possible: an earlier reconnection has another reason.
SLOW = "Math.random = () => 0.999;"
LOST = re.compile(r"Connection lost\. Showing (\d\d:\d\d)( [AP]M)?\.")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def fake() -> Iterator[Fake]:
    with a_fake() as fake:
        yield fake


def person(browser: Browser, script: str = "", **options: Any) -> BrowserContext:
    context = browser.new_context(locale="en-GB", **options)
    context.set_default_timeout(PATIENCE * 1000)
    context.add_init_script(script)
    return context


def teacher(browser: Browser, fake: Fake, **options: Any) -> Page:
    page = person(browser, **options).new_page()
    page.goto(f"{fake.url}/dashboard")
    page.wait_for_selector('#connection:is([data-state="live"], [data-state="unsaved"])')
    return page


def student(context: BrowserContext, fake: Fake) -> Page:
    page = context.new_page()
    page.goto(f"{fake.url}/join")
    assert page.evaluate("isSecureContext") is False
    page.fill("#code", "ABC-234")
    page.fill("#name", "Ada")
    page.click("#join")
    page.wait_for_url("**/write")
    saved(page)
    return page


def another_tab(page: Page, fake: Fake) -> Page:
    other = page.context.new_page()
    other.goto(f"{fake.url}/write")
    other.wait_for_selector("#elsewhere:visible")
    return other


def write(page: Page, words: str) -> None:
    page.bring_to_front()
    page.click("#text")
    page.keyboard.press("Control+End")
    page.keyboard.type(words)


def says(page: Page, words: str) -> None:
    page.wait_for_function("words => document.getElementById('saved-text').textContent.includes(words)", arg=words)


def state(page: Page, name: str) -> str:
    return page.locator(".tile", has_text=name).locator(".state").inner_text()


def test_a_dashboard_that_receives_nothing_says_so_and_stops_its_clock(browser: Browser, fake: Fake) -> None:
    # The server's clock is the page's, whatever this device's clock says.
    fake.ahead = 7200
    fake.students = [entry("Ada", last_event_at=fake.now() - 53)]
    page = teacher(browser, fake)
    assert "Online" in state(page, "Ada")
    last = fake.now()
    fake.silent = True
    page.wait_for_selector("#tiles.stale")
    found = LOST.fullmatch(page.inner_text("#connection"))
    assert found, page.inner_text("#connection")
    assert found[1] in (time.strftime("%H:%M", time.localtime(at)) for at in (last - 5, last + 1))
    assert 9 <= fake.now() - last <= 20
    # A minute has passed since Ada wrote, and it is unknown whether she has continued.
    assert "Online" in state(page, "Ada")
    fake.students += [entry("Bo")]
    fake.silent = False
    page.wait_for_selector('#connection[data-state="live"]')
    until(lambda: page.locator(".tile").count() == 2, "what is new is shown without a reload")
    assert page.locator("#tiles.stale").count() == 0
    until(lambda: "Not typing for" in state(page, "Ada"), "the clock goes again")


def test_a_dashboard_that_receives_signs_of_life_is_live(browser: Browser, fake: Fake) -> None:
    page = teacher(browser, fake)
    end = time.monotonic() + 14
    until(lambda: time.monotonic() > end or page.get_attribute("#connection", "data-state") != "live", "time passes")
    assert page.get_attribute("#connection", "data-state") == "live"
    assert fake.closed == 0


def test_a_dashboard_that_is_sent_away_says_why_and_comes_back(browser: Browser, fake: Fake) -> None:
    fake.students = [entry("Ada")]
    page = teacher(browser, fake)
    why = "The store does not answer."
    fake.away = (4503, why)
    fake.drop(1013, why)
    page.wait_for_selector("#why:visible")
    assert page.inner_text("#why") == f"{why} This page tries again by itself."
    assert LOST.fullmatch(page.inner_text("#connection"))
    until(lambda: fake.closed >= 2, "it has tried again")
    assert page.is_visible("#why")
    fake.away = None
    page.wait_for_selector('#connection[data-state="live"]')
    assert page.is_hidden("#why")
    assert page.locator("#tiles.stale").count() == 0


def test_a_window_keeps_what_it_shows_while_the_link_is_gone(browser: Browser, fake: Fake) -> None:
    fake.students = [entry("Ada")]
    fake.whole = {"documents": {"essay": {"writing": {"text": "Once upon a time", "title": "A tale", "position": 4}}}}
    page = teacher(browser, fake)
    page.click(".tile")
    page.wait_for_selector("#student .text")
    fake.away = (4503, "")
    fake.drop(1013, "")
    page.wait_for_selector("#student-lost:visible")
    assert LOST.fullmatch(page.inner_text("#student-lost"))
    assert page.inner_text("#student .text") == "Once upon a time"
    fake.whole["documents"]["essay"]["writing"]["text"] = "Once more"
    fake.away = None
    until(lambda: page.inner_text("#student .text") == "Once more", "the window is live again")
    assert page.is_hidden("#student-lost")


def finding(code: str, severity: str, text: str, since: float, subject: str = "") -> dict[str, object]:
    known = {"code": code, "severity": severity, "source": "pipeline", "subject": subject, "params": {}}
    return known | {"since": since, "text": text}


def test_findings_are_shown_worst_first_in_words_and_can_be_put_away(browser: Browser, fake: Fake) -> None:
    since = fake.now() - 1
    fake.students = [entry("Ada")]
    fake.findings = [
        finding("reducer.rebuild", "info", "writing is being rebuilt.", since),
        finding("student.full", "warning", "One student has more text than is kept.", since, "s-Ada"),
        finding("commit.failing", "critical", "The disk is full.", since),
        finding("check.done", "ok", "All is well.", since),
        finding("config.odd", "error", "A port is odd.", 0),
    ]
    page = teacher(browser, fake)
    at = time.strftime("%H:%M", time.localtime(since))
    expected = [
        f"⛔ Urgent, since {at}: The disk is full.",
        "✖ Error: A port is odd.",
        f"⚠ Warning, since {at}: Ada: One student has more text than is kept.",
        f"\N{INFORMATION SOURCE} Note, since {at}: writing is being rebuilt.",
    ]
    shown = page.locator("#findings > div")
    until(lambda: shown.all_inner_texts() == expected[:2], f"the worst are shown, not {shown.all_inner_texts()}")
    # One key shows the others.
    more = page.get_by_role("button", name="2 more")
    assert more.get_attribute("aria-expanded") == "false"
    more.focus()
    page.keyboard.press("Enter")
    until(lambda: shown.all_inner_texts() == expected, f"the findings are shown, not {shown.all_inner_texts()}")
    assert page.inner_text("#connection").endswith("Live, not saving")
    shown.nth(1).get_by_label("Close").press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Close"
    fake.findings = [one for one in fake.findings if one["severity"] != "critical"]
    until(lambda: shown.all_inner_texts() == expected[2:], "what is over is gone, and what was put away")
    assert page.inner_text("#connection").endswith("Live")
    fake.findings[-1]["severity"] = "critical"
    until(lambda: shown.count() == 3, "what got worse is shown again")
    page.get_by_role("button", name="Show fewer").click()
    until(lambda: shown.count() == 2, "the list is short again")


def test_what_is_not_shown_of_a_student_is_said(browser: Browser, fake: Fake) -> None:
    since = fake.now() - 1
    at = time.strftime("%H:%M", time.localtime(since))
    fake.students = [entry("Ada"), entry("Bo", limited_at=since), entry("Cy", limited_at=None)]
    fake.students.append(entry("Di", held_at=since))
    fake.students[0]["summaries"]["writing"]["incomplete_since"] = since
    fake.students[2]["summaries"]["writing"]["incomplete_since"] = None
    writing = {"text": "x", "title": "", "position": None, "incomplete_since": since}
    fake.whole = {"documents": {"essay": {"writing": writing}}}
    page = teacher(browser, fake)
    said = {name: page.locator(".tile", has_text=name).locator(".missing") for name in ("Ada", "Bo", "Cy", "Di")}
    assert said["Ada"].inner_text() == f"⚠ The text is shown as of {at}. Newer text is saved."
    assert f"Documents begun after {at} are saved, but not shown" in said["Bo"].inner_text()
    assert said["Cy"].is_hidden()
    # A tile has little room; the window says why.
    assert said["Di"].inner_text() == f"⚠ Partly shown as of {at}. Newer work is saved."
    assert "a part of the archive is missing" in (said["Di"].get_attribute("title") or "")
    page.locator(".tile", has_text="Ada").click()
    page.wait_for_selector("#student .text")
    notes = page.locator("#student-content .notification")
    assert notes.all_inner_texts() == [f"⚠ This text is shown as of {at}. Newer text is saved."]
    assert "incomplete" not in page.inner_text("#student-content")


def test_a_student_reads_that_there_is_no_connection_and_typing_tries_again(browser: Browser, fake: Fake) -> None:
    page = student(person(browser, SLOW), fake)
    write(page, "one ")
    saved(page)
    fake.silent = True
    began = time.monotonic()
    says(page, "Saved. No connection right now. Keep writing.")
    assert 9 <= time.monotonic() - began <= 20
    page.keyboard.type("two ")
    says(page, "No connection. Your work is safe on this device and is sent later.")
    says(page, "Keep writing; do not close this page.")
    fake.silent = False
    saved(page)
    assert fake.text() == "one two "
    # The server stops for good, and each try fails: the next automatic one follows after 16 s.
    fake.away = (1001, "")
    fake.drop(1001, "")
    closed = fake.closed
    until(lambda: fake.closed >= closed + 2, "it tries again by itself")
    says(page, "No connection right now")
    fake.away = None
    typed = time.monotonic()
    tries = len(fake.hellos)

    def type_on() -> bool:
        page.keyboard.type("x")
        return len(fake.hellos) > tries

    until(type_on, "typing makes it try again")
    assert time.monotonic() - typed < 6
    saved(page)
    assert fake.text() == page.input_value("#text")


def test_what_could_not_be_used_is_said_and_the_text_is_sent_again(browser: Browser, fake: Fake) -> None:
    page = student(person(browser), fake)
    write(page, "one ")
    saved(page)
    fake.unusable = 2
    write(page, "two ")
    says(page, "Some of your last changes could not be used. Your text is sent again.")
    assert page.get_attribute("#saved", "data-state") == "waiting"
    write(page, "three")
    saved(page)
    assert fake.unusable == 0
    assert fake.text() == page.input_value("#text") == "one two three"
    assert fake.hellos[-1] - fake.hellos[-2] >= 2


NO_CHANNEL = "delete globalThis.BroadcastChannel;"


@pytest.mark.parametrize("script", ["", NO_CHANNEL], ids=["channel", "storage"])
def test_one_of_two_tabs_leads_and_the_other_can_take_over(browser: Browser, fake: Fake, script: str) -> None:
    one = student(person(browser, script), fake)
    write(one, "one ")
    two = another_tab(one, fake)
    assert "This document is open in another tab." in two.inner_text("#elsewhere")
    assert two.input_value("#text") == "one "
    two.click("#text")
    two.keyboard.type("into the void")
    assert two.input_value("#text") == "one "
    # Text that the one shows in the last moment is lost with it.
    one.bring_to_front()
    one.keyboard.type("more ")
    two.bring_to_front()
    two.click("#write-here")
    two.wait_for_selector("#elsewhere", state="hidden")
    assert two.input_value("#text") == "one more "
    one.wait_for_selector("#elsewhere:visible")
    write(two, "two ")
    one.wait_for_function("() => document.getElementById('text').value === 'one more two '")
    assert one.evaluate("document.getElementById('text').readOnly")
    # The hand can be raised in both, and counts once.
    one.bring_to_front()
    one.click("#hand")
    two.wait_for_selector('#hand[aria-pressed="true"]')
    saved(two)
    until(lambda: fake.text() == "one more two ", "the server has the text of both")
    two.close()
    one.wait_for_selector("#elsewhere", state="hidden")
    assert one.input_value("#text") == "one more two "
    write(one, "and on")
    saved(one)
    assert fake.text() == one.input_value("#text") == "one more two and on"
    assert one.get_attribute("#hand", "aria-pressed") == "true"


def test_a_tab_that_crashed_leads_no_more(browser: Browser, fake: Fake) -> None:
    one = student(person(browser), fake)
    write(one, "one ")
    saved(one)
    two = another_tab(one, fake)
    # As a frozen tab: it neither answers nor announces its end.
    one.evaluate("BroadcastChannel.prototype.postMessage = () => {}")
    two.wait_for_selector("#elsewhere", state="hidden")
    write(two, "two")
    saved(two)
    assert fake.text() == two.input_value("#text") == "one two"


def test_tabs_without_a_network_lose_nothing_when_another_one_leads(browser: Browser, fake: Fake) -> None:
    one = student(person(browser), fake)
    write(one, "one ")
    saved(one)
    two = another_tab(one, fake)
    fake.silent = True
    write(one, "(from one) ")
    two.bring_to_front()
    two.click("#write-here")
    two.wait_for_selector("#elsewhere", state="hidden")
    write(two, "(from two) ")
    two.evaluate("document.getElementById('text').setSelectionRange(0, 0)")
    two.keyboard.type("In front: ")
    fake.silent = False
    saved(two)
    expected = "In front: one (from one) (from two) "
    assert two.input_value("#text") == expected
    until(lambda: fake.text() == expected, f"the server has the text of the leader, not {fake.text()!r}")


MUTE = """
const post = BroadcastChannel.prototype.postMessage;
const held = [];
BroadcastChannel.prototype.postMessage = function (message) { held.push([this, message]); };
globalThis.speak = () => {
  BroadcastChannel.prototype.postMessage = post;
  for (const [channel, message] of held.splice(0)) post.call(channel, message);
};
"""


def test_what_was_typed_in_two_tabs_that_both_led_is_put_together(browser: Browser, fake: Fake) -> None:
    one = student(person(browser), fake)
    write(one, "one ")
    saved(one)
    # After a moment the tab has stored its text where other tabs find it.
    one.wait_for_function("() => Object.values(localStorage).some((kept) => kept.includes('one '))")
    two = one.context.new_page()
    two.add_init_script(MUTE)
    two.goto(f"{fake.url}/write")
    saved(two)
    assert two.input_value("#text") == "one "
    write(two, "(typed in two) ")
    write(one, "(typed in one) ")
    two.evaluate("speak()")
    two.wait_for_selector("#elsewhere:visible")
    both = ("one (typed in two) (typed in one) ", "one (typed in one) (typed in two) ")
    until(lambda: one.input_value("#text") in both, f"both are there, not {one.input_value('#text')!r}")
    two.wait_for_function("words => document.getElementById('text').value === words", arg=one.input_value("#text"))
    saved(one)
    until(lambda: fake.text() == one.input_value("#text"), f"the server has both, not {fake.text()!r}")


def test_what_is_typed_as_soon_as_the_page_is_there_is_not_lost(browser: Browser, fake: Fake) -> None:
    page = student(person(browser), fake)
    expected = ""
    for words in ("one ", "two ", "three "):
        page.keyboard.press("Control+End")
        page.keyboard.type(words)
        expected += words
        page.reload(wait_until="commit")
        page.wait_for_selector("#who:not(:empty)")
        assert page.input_value("#text") == expected
    saved(page)
    assert fake.text() == expected


# The browser's database answers the first question for the text at once, and the others when `answer()` is called.
LATE_DATABASE = """(() => {
  const { addEventListener } = IDBRequest.prototype;
  const late = [];
  let asked = 0;
  globalThis.waiting = () => late.length;
  globalThis.answer = () => late.splice(0).forEach((handler) => handler());
  IDBRequest.prototype.addEventListener = function (type, handler, ...more) {
    const reads = type === "success" && this.source?.name === "texts" && this.transaction.mode === "readonly";
    const held = reads && asked++ > 0;
    const called = held ? (event) => late.push(() => handler.call(this, event)) : handler;
    return addEventListener.call(this, type, called, ...more);
  };
})();"""


def test_what_is_typed_before_the_text_of_the_browser_is_read_is_not_lost(browser: Browser, fake: Fake) -> None:
    page = student(person(browser), fake)
    write(page, "one ")
    saved(page)
    page.add_init_script(LATE_DATABASE)
    fake.silent = True
    page.reload()
    page.wait_for_function("() => waiting() > 0")
    page.keyboard.press("Control+End")
    page.keyboard.type("two ")
    # The server answers before the database does, and asks for the whole state.
    fake.ask_for_all()
    before = len(fake.events)
    fake.silent = False
    until(lambda: any(event["event"] == "visibility" for event in fake.events[before:]), "the page sent its state")
    page.evaluate("answer()")
    saved(page)
    until(lambda: page.input_value("#text") == fake.text() == "one two ", "nothing is lost")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_said_of_trouble_can_be_read(browser: Browser, fake: Fake, scheme: Literal["light", "dark"]) -> None:
    since = fake.now() - 1
    fake.findings = [finding("a", severity, "Text.", since) for severity in ("critical", "error", "warning", "info")]
    fake.students = [entry("Ada", limited_at=since)]
    fake.whole = {"documents": {"essay": {"writing": {"text": "x", "position": None, "incomplete_since": since}}}}
    page = teacher(browser, fake, color_scheme=scheme)
    page.click("#findings-more")
    until(lambda: page.locator("#findings > div").count() == 4, "the findings are shown")
    found = {"findings": pale(page)}
    page.click(".tile")
    page.wait_for_selector("#student .text")
    fake.away = (4503, "The store does not answer.")
    fake.drop(1013, "The store does not answer.")
    page.wait_for_selector("#student-lost:visible")
    found["window, no link"] = pale(page)
    page.click("#student [data-close]")
    found["dashboard, no link"] = pale(page)
    fake.away = None
    one = student(person(browser, color_scheme=scheme), fake)
    write(one, "one ")
    saved(one)
    two = another_tab(one, fake)
    found["another tab"] = pale(two)
    texts = [f"{name}: {text}" for name, texts in found.items() for text in texts]
    assert not texts, "\n".join(texts)


def test_the_classic_script_streams_as_the_module_does(browser: Browser, fake: Fake) -> None:
    page = person(browser).new_page()
    page.goto(f"{fake.url}/login")
    page.add_script_tag(url="/client.classic.js")
    page.evaluate(
        """async () => {
            await ClassroomStream.join({ code: "ABC-234", name: "Ada" });
            const stream = await ClassroomStream.open({ source: "test" });
            stream.log({ event: "document", document: "essay", text: "classic" });
            await stream.flush();
        }"""
    )
    assert fake.text() == "classic"


KEPT_EVENTS = """() => new Promise((resolve) => {
  const opening = indexedDB.open("classroom-observer");
  opening.onsuccess = () => {
    const counting = opening.result.transaction("events").objectStore("events").count();
    counting.onsuccess = () => { opening.result.close(); resolve(counting.result); };
  };
})"""


def test_what_a_closed_tab_left_behind_does_not_mix_with_newer_text(browser: Browser, fake: Fake) -> None:
    one = student(person(browser), fake)
    write(one, "one ")
    saved(one)
    two = another_tab(one, fake)
    # What the first tab writes from here on stays in the browser.
    one.evaluate("WebSocket.prototype.send = () => {}")
    write(one, "(left behind) ")
    until(lambda: one.evaluate(KEPT_EVENTS) >= len("(left behind) "), "they are written down")
    one.close()
    two.wait_for_selector("#elsewhere", state="hidden")
    write(two, "two ")
    two.evaluate("document.getElementById('text').setSelectionRange(0, 0)")
    two.keyboard.type("In front: ")
    saved(two)
    expected = "In front: one (left behind) two "
    assert two.input_value("#text") == expected
    assert fake.text() == expected
    edits = len([event for event in fake.events if event["event"] == "edit"])
    fake.drop(1001, "")
    more = lambda: [event for event in fake.events if event["event"] == "edit"][edits:]  # noqa: E731
    until(lambda: "".join(event["insert"] for event in more()) == "(left behind) ", "what was left behind has come")
    until(lambda: fake.text() == expected, f"the text is the leader's again, not {fake.text()!r}")
