"""The icon files exist in every size, and were drawn from the current sources."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image, ImageStat

ROOT = Path(__file__).parents[2]
ICONS = ROOT / "packaging" / "icons"


@pytest.fixture(scope="module")
def draw() -> ModuleType:
    pytest.importorskip("playwright")
    spec = importlib.util.spec_from_file_location("packaging_icons_draw", ICONS / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_png_has_its_size_and_is_drawn_from_the_present_source(draw: ModuleType) -> None:
    for size in draw.PNG_SIZES:
        with Image.open(ICONS / f"classroom-observer-{size}.png") as picture:
            assert picture.size == (size, size)
            assert picture.mode == "RGBA"
            assert picture.text["Source"] == draw.digest(draw.source_of(size)), "run `make icons`"


def test_every_state_of_the_tray_has_its_picture(draw: ModuleType) -> None:
    from appliance.desktop.status import TrayStatus

    assert set(draw.TRAY_SOURCES) == {status.value for status in TrayStatus}
    for state, source in draw.TRAY_SOURCES.items():
        with Image.open(draw.TRAY / f"{state}.png") as picture:
            assert picture.size == (draw.TRAY_SIZE, draw.TRAY_SIZE)
            assert picture.text["Source"] == draw.digest(source), "run `make icons`"


def test_the_digits_of_the_tray_are_drawn_from_the_present_source(draw: ModuleType) -> None:
    with Image.open(draw.TRAY / "digits.png") as picture:
        assert picture.size == (draw.DIGITS_WIDTH, draw.TRAY_SIZE)
        assert picture.text["Source"] == draw.digest(draw.DIGITS), "run `make icons`"


def test_windows_and_macos_find_every_size_they_ask_for(draw: ModuleType) -> None:
    with Image.open(ICONS / "classroom-observer.ico") as ico:
        assert ico.info["sizes"] == {(size, size) for size in draw.ICO_SIZES}
    with Image.open(ICONS / "classroom-observer.icns") as icns:
        assert {width * scale for width, _, scale in icns.info["sizes"]} == set(draw.ICNS_SIZES)


def test_the_pages_show_the_same_icon(draw: ModuleType) -> None:
    assert (ROOT / "webui" / "icon.svg").read_text(encoding="utf-8") == draw.SMALL.read_text(encoding="utf-8")


@pytest.mark.parametrize("background", [(243, 243, 243), (30, 30, 30)], ids=["light tray", "dark tray"])
@pytest.mark.parametrize("state", ["ready", "paused", "trouble", "students"])
def test_at_16_pixels_the_icon_stands_out_from_the_tray(state: str, background: tuple[int, int, int]) -> None:
    with Image.open(ROOT / "appliance" / "desktop" / "icons" / f"{state}.png") as icon:
        small = icon.resize((16, 16), Image.Resampling.LANCZOS)
    tray = Image.new("RGB", (16, 16), background)
    tray.paste(small, (0, 0), small)
    mean = ImageStat.Stat(tray).mean
    assert max(abs(a - b) for a, b in zip(mean, background, strict=True)) > 60
