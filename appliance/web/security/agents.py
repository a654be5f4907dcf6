"""Browsers in words, such as "Firefox on Windows", so that people recognise their sessions."""

from __future__ import annotations

# The first that is found counts: browsers name those before them, too.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chrom", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS = (
    ("CrOS", "ChromeOS"),
    ("iPad", "iPad"),
    ("iPhone", "iPhone"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Macintosh", "Mac"),
    ("Linux", "Linux"),
)
_CHARACTERS = 1000


def agent_in_words(header: str) -> str:
    """The browser and the system of a User-Agent header; "" if neither is known."""
    header = header[:_CHARACTERS]
    browser = next((name for sign, name in _BROWSERS if sign in header), "")
    system = next((name for sign, name in _SYSTEMS if sign in header), "")
    return " on ".join(filter(None, (browser, system)))
