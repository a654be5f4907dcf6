"""Draws the picture of the tray icon. Needs Pillow, of the extra ``desktop``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from appliance.desktop.status import TrayStatus

ICONS = Path(__file__).parent / "icons"

# The characters in digits.png, from left to right, all of the same width.
_DIGITS = "0123456789+"
_MARGIN = 2


def picture(status: TrayStatus, students: int = 0) -> Any:
    """The picture, a `PIL.Image.Image`; on that for students online, with their number.

    Args:
        status: which picture.
        students: how many are online.
    """
    image = _read(status.value)
    if status is TrayStatus.STUDENTS:
        number = _number(str(students) if students < 100 else "99+")
        most = image.width - 2 * _MARGIN
        if number.width > image.width:
            number = number.resize((most, number.height * most // number.width))
        image.alpha_composite(number, ((image.width - number.width) // 2, (image.height - number.height) // 2))
    return image


def _number(text: str) -> Image.Image:
    digits = _read("digits")
    width = digits.width // len(_DIGITS)
    number = Image.new("RGBA", (width * len(text), digits.height))
    for position, letter in enumerate(text):
        left = _DIGITS.index(letter) * width
        number.paste(digits.crop((left, 0, left + width, digits.height)), (position * width, 0))
    return number


def _read(name: str) -> Image.Image:
    with Image.open(ICONS / f"{name}.png") as file:
        return file.convert("RGBA")
