"""Draws every icon file from the SVG sources in this folder: `python packaging/icons/draw.py`, or `make icons`.

Chromium draws, so that the files look as they do in a browser; Pillow puts the pictures into .ico and .icns. Each PNG
contains the SHA-256 of the source that it was drawn from, so that a test finds files that are out of date.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import sys
from pathlib import Path

from PIL import Image, PngImagePlugin
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TRAY = ROOT / "appliance" / "desktop" / "icons"

NAME = "classroom-observer"
FULL = HERE / f"{NAME}.svg"
# Drawn on a grid of 16 pixels, without what would blur at such sizes.
SMALL = HERE / f"{NAME}-small.svg"
SMALL_UP_TO = 32

PNG_SIZES = (16, 22, 24, 32, 48, 64, 128, 256, 512, 1024)
ICO_SIZES = (16, 20, 24, 32, 40, 48, 64, 128, 256)
ICNS_SIZES = (32, 64, 128, 256, 512, 1024)
TRAY_SIZE = 64
DIGITS = HERE / "tray-digits.svg"
DIGITS_WIDTH = 11 * TRAY_SIZE * 7 // 16
TRAY_SOURCES = {
    "ready": SMALL,
    "students": HERE / "tray-students.svg",
    "paused": HERE / "tray-paused.svg",
    "trouble": HERE / "tray-trouble.svg",
}


def source_of(size: int) -> Path:
    """The drawing for a size in pixels."""
    return SMALL if size <= SMALL_UP_TO else FULL


def digest(*sources: Path) -> str:
    """The SHA-256 of some sources, whatever line ends a checkout has."""
    text = "".join(source.read_text(encoding="utf-8") for source in sources)
    return hashlib.sha256(text.encode()).hexdigest()


def drawn(page: Page, source: Path, size: int, width: int | None = None) -> Image.Image:
    """A source drawn at a size in pixels, with transparency; square unless a width is given."""
    page.set_viewport_size({"width": width or size, "height": size})
    page.set_content(
        f"<style>*{{margin:0}}svg{{display:block;width:{width or size}px;height:{size}px}}</style>"
        + source.read_text(encoding="utf-8")
    )
    return Image.open(io.BytesIO(page.screenshot(omit_background=True))).convert("RGBA")


def save_png(picture: Image.Image, path: Path, source: Path) -> None:
    note = PngImagePlugin.PngInfo()
    note.add_text("Source", digest(source))
    picture.save(path, optimize=True, pnginfo=note)


def main() -> int:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.stderr.write("No Chromium was found to draw with.\n")
        return 1
    TRAY.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        sizes = sorted({*PNG_SIZES, *ICO_SIZES, *ICNS_SIZES})
        pictures = {size: drawn(page, source_of(size), size) for size in sizes}
        for state, source in TRAY_SOURCES.items():
            save_png(drawn(page, source, TRAY_SIZE), TRAY / f"{state}.png", source)
        save_png(drawn(page, DIGITS, TRAY_SIZE, DIGITS_WIDTH), TRAY / "digits.png", DIGITS)
        browser.close()
    for size in PNG_SIZES:
        save_png(pictures[size], HERE / f"{NAME}-{size}.png", source_of(size))
    largest = pictures[max(ICO_SIZES)]
    largest.save(
        HERE / f"{NAME}.ico", sizes=[(size, size) for size in ICO_SIZES], append_images=[pictures[s] for s in ICO_SIZES]
    )
    pictures[1024].save(HERE / f"{NAME}.icns", append_images=[pictures[size] for size in ICNS_SIZES])
    # Browsers show it in a tab, as small as a tray does.
    shutil.copyfile(SMALL, ROOT / "webui" / "icon.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
