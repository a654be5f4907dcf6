"""Names of students and classes: which are valid, and which student of a class list a typed name belongs to."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance.roster import Student

# Characters that change the direction of text, so that a name could look like another or disturb a page.
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

# The most characters into which one decomposes (Unicode, normal form D).
_DECOMPOSED = 4


# Letters and signs of Unicode that are invisible.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def _is_visible(character: str) -> bool:
    """Whether a character is visible by itself: a letter, digit, sign or punctuation mark."""
    return unicodedata.category(character)[0] in "LNPS" and character not in _BLANK


def clean_name(name: str, characters: int) -> str:
    """A name in one form: composed (Unicode NFC), with single spaces.

    Args:
        name: as it was typed.
        characters: the most characters that it may have.

    Raises:
        ValueError: the name is not valid; the text says why, without the name.
    """
    spaced = " ".join(name.split())
    if not spaced:
        raise ValueError("Write a name first.")
    if len(spaced) > _DECOMPOSED * characters:
        # The time that composing takes grows with the square of a run of accents.
        raise ValueError(f"A name may have {characters} characters; this one has {len(spaced)}.")
    cleaned = " ".join(unicodedata.normalize("NFC", spaced).split())
    if len(cleaned) > characters:
        raise ValueError(f"A name may have {characters} characters; this one has {len(cleaned)}.")
    if not any(_is_visible(c) for c in cleaned):
        raise ValueError("This name has no visible characters. Write it with letters.")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Co", "Cn") or c in _BIDIRECTIONAL for c in cleaned):
        raise ValueError("A name may hold letters, digits and ordinary signs; this one has other characters in it.")
    return cleaned


def listed_as(name: str, students: Iterable[Student]) -> Student | None:
    """The listed student who has this name; None if nobody has it, or more than one.

    Args:
        name: as it was typed; case, white space and compatible forms (Unicode NFKC) are ignored.
        students: the students of one class; those who are not `listed` do not count.
    """
    wanted = compared(name)
    found = [student for student in students if student.listed and compared(student.name) == wanted]
    return found[0] if len(found) == 1 else None


def compared(name: str) -> str:
    """A name in the form in which names are compared."""
    # Folding case can undo the normal form, hence the second time (Unicode, section 3.13, definition D146).
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def search_words(name: str) -> list[str]:
    """The words of a name in the form in which names are compared, each once; a search is for their beginnings."""
    return list(dict.fromkeys(compared(name).split()))
