"""What a student's or a class's name may be."""

from __future__ import annotations

import unicodedata

# Characters that turn the text around them, so that a name could read as another or upset a page.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean_name(name: str, characters: int) -> str:
    """A name in one form: composed (Unicode NFC), with single spaces.

    Args:
        name: as it was typed.
        characters: how many it may have.

    Raises:
        ValueError: with a sentence that says what is wrong; it does not repeat the name.
    """
    cleaned = " ".join(unicodedata.normalize("NFC", name).split())
    if not cleaned:
        raise ValueError("Write a name first.")
    if len(cleaned) > characters:
        raise ValueError(f"A name may have {characters} characters; this one has {len(cleaned)}.")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Co", "Cn") or c in _TURNING for c in cleaned):
        raise ValueError("A name may hold letters, digits and ordinary signs; this one has other characters in it.")
    return cleaned
