"""Names: which are valid, and when two of them are the same. One rule for joining, searching and importing.

Two names are the same if `compared` gives the same text for both (docs/roster.md describes the rule for educators).
It is Unicode's NFKC_Casefold (Unicode Standard, section 3.13, definition R5), and besides: apostrophes and dashes are
one of each, spaces are single, the dotless i counts as i, and Greek letters have no accents, since their capitals have
none. `looks_like` finds names that are different and look the same (Unicode Technical Standard 39, confusables).
"""

# ruff: noqa: RUF001 (the table of letters that look alike)

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

# Characters that change the direction of text, so that a name could look like another or disturb a page.
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

# Characters without a meaning in a name, which programs leave in copied text: the soft hyphen, zero width spaces, word
# joiners, the byte order mark, interlinear notes, tags. (Most of Unicode's property Default_Ignorable_Code_Point.)
_INVISIBLE = (
    "\u00ad\u034f\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
)
# Those with a meaning: joiners in Arabic and Indian scripts and in emoji, and selectors of a form of the letter before.
_JOINERS = "\u200c\u200d"
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_DROPPED = re.compile(f"[{_INVISIBLE}]")
_ALL_INVISIBLE = re.compile(f"[{_INVISIBLE}{_JOINERS}{_SELECTORS}]")
_MEANINGFUL_PARTS = re.compile(f"[{_JOINERS}{_SELECTORS}]")

# Letters that are as empty as a space: fillers of Hangul, the empty pattern of Braille.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_SPACES = str.maketrans(dict.fromkeys(_BLANK, " "))

_APOSTROPHES = (
    "'`\u00b4\u02b9\u02bb\u02bc\u02bd\u02be\u02bf\u02c8\u02ca\u02cb\u055a\u05f3\u07f4\u07f5"
    "\u2018\u2019\u201a\u201b\u2032\u2035\ua78c\uff07\uff40"
)
_DASHES = (
    "-\u02d7\u058a\u05be\u1400\u1806\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\u2e3a\u2e3b\u301c\u30a0\ufe31\ufe32"
    "\ufe58\ufe63\uff0d"
)
_SIGNS = str.maketrans({**dict.fromkeys(_APOSTROPHES, "'"), **dict.fromkeys(_DASHES, "-")})
_AROUND_SIGNS = re.compile("(?<=['-]) | (?=['-])")
_WORDS_WITHIN = re.compile("[^'\u002d]+")

# The accents of European languages, Arabic vowel signs and Hebrew points: many people leave them out when they type.
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u0652]")
# Letters that Unicode does not take apart into a letter and an accent.
_STROKED = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ħ": "h"})

# The most characters into which one decomposes (Unicode, normal form D).
_DECOMPOSED = 4
_MARKS_IN_A_ROW = 4
"""More accents on one letter than any language has: they would cover other names of a page."""

_ALPHABETS = frozenset(("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC"))
"""Scripts with letters that look like those of another one of them; no word of a language mixes two."""

# Letters, each with those that look like it. The last line has signs within Latin.
_CONFUSABLE = """
    aаαɑ AАΑᎪ bЬ BВΒᏴ cсϲ CСϹᏟ dԁ DᎠ eе EЕΕᎬ gɡց GᏀ hһհ HНΗᎻ iіιɩ jјϳ JЈᎫ kкκ KКΚᏦ LԼᏞ MМΜᎷ nпηո NΝ oоοσօ OОΟՕ
    pрρ PРΡᏢ qԛզ rг RᏒ sѕ SЅՏᏚ TТΤᎢ uυս vνѵ VᏙѴ wԝω WԜᎳ xхχ XХΧ yуγү YУΥҮ ZΖᏃ 3ЗҘ 6б
    lI1|ІΙӀӏǀ O0
"""
_PROTOTYPES = str.maketrans({other: group[0] for group in _CONFUSABLE.split() for other in group[1:]})
_PAIRS = (("rn", "m"), ("vv", "w"))


def clean_name(name: str, characters: int) -> str:
    """A name in the form in which it is stored and shown: composed (Unicode NFC), with single spaces.

    Characters that are invisible and mean nothing are left out.

    Args:
        name: as it was typed.
        characters: the most characters that it may have.

    Raises:
        ValueError: the name is not valid; the text says why, without the name. It names a character by code point.
    """
    if not name.strip():
        raise ValueError("Write a name first.")
    spaced = " ".join(_without_invisible(name).translate(_SPACES).split())
    if len(spaced) > _DECOMPOSED * characters:
        # The time that composing takes grows with the square of a run of accents.
        raise ValueError(f"A name may have {characters} characters; this one has {len(spaced)}.")
    cleaned = " ".join(unicodedata.normalize("NFC", spaced).split())
    if len(cleaned) > characters:
        raise ValueError(f"A name may have {characters} characters; this one has {len(cleaned)}.")
    if not cleaned.isascii() or not cleaned.isprintable():
        _refuse_characters(cleaned)
    if not any(unicodedata.category(character)[0] in "LNPS" for character in cleaned):
        raise ValueError("This name has no visible characters. Write it with letters.")
    return cleaned


def compared(name: str) -> str:
    """A name in the form in which names are compared."""
    if name.isascii():
        text = name.lower()
    else:
        # An accent of its own would become a space and an accent, hence the signs before the normal form too.
        text = unicodedata.normalize("NFKC", _ALL_INVISIBLE.sub("", name.translate(_SPACES)).translate(_SIGNS))
        text = text.casefold().replace("\u0131", "i").replace("i\u0307", "i")
        # Folding case can undo the normal form, hence the second time (Unicode, section 3.13, definition D146).
        text = unicodedata.normalize("NFKC", _without_greek_accents(_ALL_INVISIBLE.sub("", text)))
    return _AROUND_SIGNS.sub("", " ".join(text.translate(_SIGNS).split()))


def search_words(name: str) -> list[str]:
    """The words by whose beginning a name is found, each once: in the form in which names are compared, and unaccented.

    ``Anne-Marie O'Brien`` has ``anne-marie``, ``marie``, ``o'brien``, ``brien``; ``Müller`` has ``muller``.
    """
    words: dict[str, None] = {}
    for word in _without_accents(compared(name)).split():
        words[word] = None
        words.update(dict.fromkeys(_WORDS_WITHIN.findall(word)[1:]))
    return list(words)


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    plain = _ACCENTS.sub("", unicodedata.normalize("NFD", text)).translate(_STROKED)
    return unicodedata.normalize("NFC", plain)


def looks_like(name: str, others: Iterable[str]) -> str | None:
    """The first of other names that looks like a name although it is a different one, such as one in Cyrillic letters.

    Some pairs of real names are alike too (``Arne`` and ``Ame`` in many fonts): mark such a name, do not refuse it.
    """
    own, looks = compared(name), look(name)
    return next((other for other in others if look(other) == looks and compared(other) != own), None)


def look(name: str) -> str:
    """What a name looks like: the same text for names that look alike."""
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", _ALL_INVISIBLE.sub("", name)))
    text = text.translate(_PROTOTYPES)
    for pair, letter in _PAIRS:
        text = text.replace(pair, letter)
    return compared(text)


def character_named(character: str) -> str:
    """A character by code point and name, such as ``U+200B (ZERO WIDTH SPACE)``."""
    name = unicodedata.name(character, "")
    return f"U+{ord(character):04X}" + (f" ({name})" if name else "")


def _without_invisible(name: str) -> str:
    """A name without invisible characters, except where they change how their neighbours are written."""
    if name.isascii():
        return name
    name = _DROPPED.sub("", name)
    if not _MEANINGFUL_PARTS.search(name):
        return name
    kept = []
    before = ""
    for at, character in enumerate(name):
        if _MEANINGFUL_PARTS.match(character):
            after = name[at + 1 : at + 2]
            joins = character in _JOINERS
            if not _joined(before) or (joins and not _joined(after)):
                continue
        kept.append(character)
        before = character
    return "".join(kept)


def _joined(character: str) -> bool:
    """Whether joiners and selectors have a meaning beside a character."""
    return bool(character) and not character.isascii() and _script(character) not in _ALPHABETS


def _without_greek_accents(text: str) -> str:
    if not any("\u0370" <= character < "\u0400" or "\u1f00" <= character < "\u2000" for character in text):
        return text
    kept: list[str] = []
    greek = False
    for character in unicodedata.normalize("NFD", text):
        mark = bool(unicodedata.combining(character))
        if not mark:
            greek = "\u0370" <= character < "\u0400"
        if not (mark and greek):
            kept.append(character)
    return "".join(kept)


def _refuse_characters(name: str) -> None:
    """Raise `ValueError` if a name has characters that names do not have, or letters of two alphabets in one word."""
    marks = 0
    for character in name:
        category = unicodedata.category(character)
        if category in ("Cc", "Cs", "Co", "Cn") or character in _BIDIRECTIONAL:
            what = "changes the direction of text" if character in _BIDIRECTIONAL else "is no letter or sign"
            raise ValueError(f"A name may not have the character {character_named(character)}, which {what}.")
        marks = marks + 1 if category == "Mn" else 0
        if marks > _MARKS_IN_A_ROW:
            raise ValueError(f"A letter of a name may have {_MARKS_IN_A_ROW} accents; this name has one with more.")
    plain = "".join(
        character for character in unicodedata.normalize("NFKC", name) if not unicodedata.combining(character)
    )
    for word in re.split(r"[\W\d_]+", plain):
        alphabets: dict[str, str] = {}
        for letter in word:
            script = _script(letter)
            if script in _ALPHABETS:
                alphabets.setdefault(script, letter)
        if len(alphabets) > 1:
            first, second = list(alphabets.values())[:2]
            raise ValueError(
                f"A word of this name has letters of two alphabets, {character_named(first)} and "
                f"{character_named(second)}. Write it in one alphabet."
            )


def _script(character: str) -> str:
    return unicodedata.name(character, "").partition(" ")[0]
