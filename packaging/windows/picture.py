"""Draws the picture at the side of the installer's last page: `python picture.py OUT.bmp`. Twice the size that NSIS
expects, so that it is sharp on a high-resolution screen."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

SIZE = (328, 628)
GROUND = "#eaf0fb"
ICON = Path(__file__).resolve().parent.parent / "icons" / "classroom-observer-256.png"

if __name__ == "__main__":
    picture = Image.new("RGB", SIZE, GROUND)
    with Image.open(ICON) as icon:
        small = icon.convert("RGBA").resize((180, 180), Image.Resampling.LANCZOS)
    picture.paste(small, ((SIZE[0] - small.width) // 2, 120), small)
    picture.save(sys.argv[1])
