"""Everybody can read the pages: text and placeholders have enough contrast to their background, light and dark.

The measure is WCAG 2.2's contrast ratio, success criterion 1.4.3: 4.5 to 1, and 3 to 1 for large text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page

from tests.browser.world import Classroom, classroom, until

pytestmark = pytest.mark.browser

# Every visible text and placeholder, with its contrast: colours are painted, so any notation works,
# and translucent colours are painted over their background.
CONTRASTS = """
() => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  const parse = (color) => {
    brush.clearRect(0, 0, 1, 1);
    brush.fillStyle = color;
    brush.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = brush.getImageData(0, 0, 1, 1).data;
    return { rgb: [r, g, b], a: a / 255 };
  };
  const over = (top, alpha, below) => top.map((one, index) => one * alpha + below[index] * (1 - alpha));
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((one) => {
      const share = one / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  };
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const chain = (node) => (node ? [...chain(node.parentElement), node] : []);
  // What a text's pixels and those beside it are, once every ancestor is laid over the one before.
  const seen = (node, color, extra) => {
    let behind = dark ? [0, 0, 0] : [255, 255, 255];
    const ancestors = chain(node);
    const top = ancestors.findLastIndex((one) => one.matches("dialog"));
    const opacity = (from) => ancestors.slice(from).reduce((all, one) => all * getComputedStyle(one).opacity, 1);
    ancestors.slice(Math.max(0, top)).forEach((one, index) => {
      const { rgb, a } = parse(getComputedStyle(one).backgroundColor);
      behind = over(rgb, a * ancestors.slice(0, Math.max(0, top) + index + 1)
        .reduce((all, each) => all * getComputedStyle(each).opacity, 1), behind);
    });
    const { rgb, a } = parse(color);
    return ratio(over(rgb, a * extra * opacity(0), behind), behind);
  };
  const found = [];
  const measure = (node, text, style, extra = 1) => {
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const contrast = seen(node, style.color, extra);
    const where = `${node.tagName.toLowerCase()}${node.id && `#${node.id}`}.${node.className}`;
    found.push({ where, text: text.trim().slice(0, 40), contrast, enough: contrast >= (large ? 3 : 4.5) });
  };
  for (const node of document.querySelectorAll("body *")) {
    if (!node.checkVisibility({ visibilityProperty: true })) continue;
    if (node.closest(":disabled, svg, option, noscript")) continue;
    if (node.placeholder) {
      const style = getComputedStyle(node, "::placeholder");
      measure(node, node.placeholder, style, Number(style.opacity));
    }
    const own = [...node.childNodes].filter((child) => child.nodeType === 3).map((child) => child.data).join("");
    const text = node.matches("input, textarea, select") ? node.value : own;
    if (text.trim()) measure(node, text, getComputedStyle(node));
  }
  return found;
}
"""


def pale(page: Page) -> list[str]:
    """The texts of a page that cannot be read well."""
    # Elements that fade in are measured afterwards; an animation that something else ends is over, too.
    page.evaluate("() => Promise.allSettled(document.getAnimations().map((one) => one.finished))")
    found = page.evaluate(CONTRASTS)
    assert found, page.url
    return [f"{one['where']} {one['text']!r}: {one['contrast']:.2f}" for one in found if not one["enough"]]


def test_the_measure_finds_what_is_pale(tmp_path: Path) -> None:
    with classroom(tmp_path) as room:
        page = room.person(color_scheme="light").new_page()
        page.set_content(
            "<body style='background: #fff; color: #000'>black <p style='color: #777'>grey</p>"
            "<p style='color: #767676'>darker</p><p style='opacity: 0.5'>faint</p><h1 style='color: #949494'>large</h1>"
            "<style>input::placeholder { color: #aaa }</style><input placeholder='hint'>"
            "<p style='background: #333; color: oklch(0.5 0 0)'>dark on dark</p></body>"
        )
        assert [one.split("'")[1] for one in pale(page)] == ["grey", "faint", "hint", "dark on dark"]


def students_way_in(room: Classroom, student: Page) -> dict[str, list[str]]:
    """Texts that cannot be read well, by page, on the way to the first words of a student."""
    found = {}
    for path in ("join", "login"):
        student.goto(f"{room.appliance.lan_url}/{path}")
        student.wait_for_selector("form:not([hidden])")
        found[path] = pale(student)
    student.goto(room.appliance.lan_url)
    found["welcome"] = pale(student)
    student.goto(f"{room.appliance.lan_url}/join")
    student.fill("#code", "ABC-222")
    student.fill("#name", "Bo B.")
    student.click("#join")
    student.wait_for_selector("#error:not(:empty)")
    found["join, wrong code"] = pale(student)
    student.fill("#code", room.appliance.ready["join_code"])
    student.click("#join")
    student.wait_for_selector('#saved[data-state="saved"]')
    found["write, empty"] = pale(student)
    student.click("#text")
    student.keyboard.type("Alice was beginning to get very tired of sitting by her sister on the bank. " * 3)
    student.wait_for_selector('#saved[data-state="saved"]')
    student.click("#hand")
    return found


def paused_with_a_message(teacher: Page, student: Page) -> dict[str, list[str]]:
    teacher.wait_for_selector(".tile.hand")
    teacher.wait_for_selector('.tile[data-state="never"]')
    teacher.click("#pause")
    student.wait_for_selector("#paused:visible")
    teacher.click("#message-open")
    teacher.fill("#message-text", "Five minutes left")
    teacher.click("#message-send")
    student.wait_for_selector("#message:visible")
    found = {"write, paused": pale(student)}
    teacher.wait_for_selector("#message-result:not(:empty)")
    found["dashboard, message"] = pale(teacher)
    teacher.click("#message [data-close]")
    return found | {"dashboard": pale(teacher)}


def windows_of_the_dashboard(teacher: Page) -> dict[str, list[str]]:
    teacher.click("#join-toggle")
    teacher.click(".tile.hand")
    teacher.wait_for_selector("#student .text")
    found = {"student": pale(teacher)}
    teacher.click("#student [data-close]")
    teacher.click("#about-open")
    teacher.click("#licences-show")
    until(lambda: teacher.input_value("#licences"), "the licences are shown")
    found["about"] = pale(teacher)
    teacher.click("#about [data-close]")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_read(tmp_path: Path, scheme: Literal["light", "dark"]) -> None:
    (tmp_path / "data" / "roster").mkdir(parents=True)
    (tmp_path / "data" / "roster" / "students.csv").write_text("name,class\nBo B.,5a\nCy C.,5a\n")
    with classroom(tmp_path) as room:
        teacher = room.teacher(color_scheme=scheme, viewport={"width": 1366, "height": 768})
        found = {"dashboard, nobody there": pale(teacher)}
        student = room.person(color_scheme=scheme).new_page()
        found |= students_way_in(room, student)
        found |= paused_with_a_message(teacher, student)
        found |= windows_of_the_dashboard(teacher)
        setup = teacher.context.new_page()
        setup.goto(f"{room.appliance.url}/setup")
        setup.wait_for_selector("#code:not(:empty)")
        found["setup"] = pale(setup)
        student.goto(f"{room.appliance.lan_url}/join")
        student.wait_for_selector("#again:not([hidden])")
        found["join, again"] = pale(student)
        room.appliance.stop()
        teacher.wait_for_selector('#connection[data-state="reconnecting"]')
        found["dashboard, no link"] = pale(teacher)
    texts = [f"{name}: {text}" for name, texts in found.items() for text in texts]
    assert not texts, "\n".join(texts)
