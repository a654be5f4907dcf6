"""Whether a page can be used by everybody: controls have names, everything fits the screen, texts can be read."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.browser.test_contrast import pale

NAMELESS = """
() => [...document.querySelectorAll("input, select, textarea, button, a, summary, dialog[open], img")]
  .filter((node) => node.checkVisibility({ visibilityProperty: true }))
  .filter((node) => {
    const referred = (node.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id));
    const texts = [node.getAttribute("aria-label"), node.alt, ...referred.map((one) => one?.textContent),
      ...[...(node.labels ?? [])].map((one) => one.textContent)];
    if (node.matches("button, a, summary")) texts.push(node.textContent);
    return !texts.some((text) => text?.trim());
  })
  .map((node) => node.outerHTML.slice(0, 120))
"""
LIVE = "() => document.querySelectorAll('[aria-live], [role=status], [role=alert], output').length"


def faults(page: Page) -> list[str]:
    """What keeps somebody from using a page as it is now, in sentences."""
    found = [f"pale: {text}" for text in pale(page)]
    found += [f"without a name: {node}" for node in page.evaluate(NAMELESS)]
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append("wider than the screen")
    if (live := page.evaluate(LIVE)) != 1:
        found.append(f"{live} live regions")
    return found


def focused(page: Page) -> str:
    """The text or the id of the element with the focus."""
    text: str = page.evaluate("document.activeElement.innerText?.trim() || document.activeElement.id")
    return text


def said(page: Page) -> str:
    """What the page says after an action; waits until it says it."""
    line = page.wait_for_selector('#said p:not(:text("One moment"))')
    assert line is not None
    return line.inner_text()


def tab_to(page: Page, name: str, key: str = "Tab") -> None:
    """Press the tab key until a control has the focus."""
    for _ in range(60):
        page.keyboard.press(key)
        if focused(page).split("\n")[0] == name:
            return
    raise AssertionError(f"The keyboard does not reach {name!r}.")
