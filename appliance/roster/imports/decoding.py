"""The text of a list: its encoding is known, or found out and shown for a yes.

UTF-8 and files with a byte order mark are certain. Of other files charset-normalizer says which code pages are
possible; among these the one wins in which most of the letters are those of one language, since a list of names is too
short for the statistics of whole sentences.
"""

# ruff: noqa: RUF001 (the letters of languages)

from __future__ import annotations

import codecs
import functools
import re
from collections.abc import Callable, Iterator

import msgspec

from appliance.roster.imports.model import RosterImportError

SAMPLES = 5
"""How many lines are shown with a guess."""
_SAMPLE_CHARACTERS = 120
_EXAMINED_BYTES = 16 * 1024
_HEAD_BYTES = 4096

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# What schools and spreadsheets write, by language: letters beyond ASCII, and the code pages, the usual one first.
_LANGUAGES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("German", "äöüß", ("cp1252", "iso8859_15", "cp850", "mac_roman")),
    ("French", "éèêëàâçîïôùûüÿœæ", ("cp1252", "iso8859_15", "cp850", "mac_roman")),
    ("Spanish", "áéíóúüñçªº", ("cp1252", "iso8859_15", "cp850", "mac_roman")),
    ("Hungarian", "áéíóöőúüű", ("cp1250", "iso8859_2", "cp852", "mac_latin2")),
    ("Portuguese", "áàâãéêíóôõúç", ("cp1252", "iso8859_15", "cp850", "mac_roman")),
    ("Italian", "àèéìòù", ("cp1252", "iso8859_15", "cp850", "mac_roman")),
    ("Nordic", "åäöæøéð", ("cp1252", "iso8859_15", "cp850", "mac_roman")),
    ("Western European", "áàâãäåæçéèêëíìîïñóòôõöøúùûüÿßœ", ("cp1252", "iso8859_15", "cp850", "mac_roman")),
    ("Polish", "ąćęłńóśźż", ("cp1250", "iso8859_2", "cp852", "mac_latin2")),
    ("Czech or Slovak", "áäčďéěíĺľňóôŕřšťúůýž", ("cp1250", "iso8859_2", "cp852", "mac_latin2")),
    ("Croatian or Slovene", "čćđšž", ("cp1250", "iso8859_2", "cp852")),
    ("Romanian", "ăâîşţ", ("cp1250", "iso8859_2", "cp852")),
    ("Turkish", "çğıöşüİâ", ("cp1254", "iso8859_9", "cp857")),
    ("Baltic", "āčēģīķļņšūžąęėįų", ("cp1257", "iso8859_13", "cp775")),
    ("Russian", "абвгдеёжзийклмнопрстуфхцчшщъыьэюя", ("cp1251", "koi8_r", "cp866", "iso8859_5", "mac_cyrillic")),
    ("Ukrainian", "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя", ("cp1251", "koi8_u", "cp1125", "iso8859_5", "mac_cyrillic")),
    ("Bulgarian or Serbian", "абвгдђежзијклљмнњопрстћуфхцчџшщъьюя", ("cp1251", "cp855", "iso8859_5")),
    ("Greek", "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ", ("cp1253", "iso8859_7", "cp737", "cp869")),
    ("Hebrew", "אבגדהוזחטיךכלםמןנסעףפץצקרשת", ("cp1255", "iso8859_8", "cp862")),
    ("Arabic", "ابةتثجحخدذرزسشصضطظعغفقكلمنهويىءآأؤإئپچژگ", ("cp1256", "iso8859_6")),
    ("Vietnamese", "ăâđêôơưáàéèíìóòúùý", ("cp1258",)),
)
_EAST_ASIAN = (
    ("gb18030", "Chinese"),
    ("big5", "Chinese"),
    ("cp932", "Japanese"),
    ("euc_jp", "Japanese"),
    ("cp949", "Korean"),
)
_OTHERS = (
    *("latin_1", "utf_8", "utf_8_sig", "utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_32_le", "utf_32_be", "ascii"),
    *("iso2022_jp", "cp437", "cp874"),
)
_COMMON_SIGNS = "’‘“”´–—\u00a0ºª°€\u0301\u0300\u0303\u0309\u0323"


@functools.cache
def _allowed() -> dict[str, str]:
    """By the name of each encoding the one that charset-normalizer knows; loaded when a list needs it."""
    names = {*(page for page, _ in _EAST_ASIAN), *_OTHERS, *(page for _, _, pages in _LANGUAGES for page in pages)}
    return {codecs.lookup(name).name: name for name in names}


class Decoded(msgspec.Struct, frozen=True):
    """The text of a list.

    Attributes:
        text: without a byte order mark.
        encoding: Python's name of its encoding.
        certain: whether the encoding is certain; else it needs a yes.
        language: language of the letters that were found; "" if the encoding is certain or no language is known.
        samples: lines with letters beyond ASCII, by which a person sees whether the guess is right.
        others: encodings that are possible too, the likeliest first.
    """

    text: str
    encoding: str
    certain: bool = True
    language: str = ""
    samples: list[str] = []
    others: list[str] = []


def decode(content: bytes, encoding: str = "", known: Callable[[str], int] | None = None) -> Decoded:
    """The text of a list.

    Args:
        content: the file.
        encoding: its encoding if it is known.
        known: from the first lines, how many words with letters beyond ASCII they have that lists have, such as
            headings; it decides between code pages.

    Raises:
        RosterImportError: the encoding is unknown, or the file is not in it, or no encoding fits.
    """
    if encoding:
        return _as_given(content, encoding)
    for mark, name in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return Decoded(_strictly(content, name), name)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    if text is not None and "\0" not in text and "\x1b" not in text:
        return Decoded(text, "utf-8")
    return _guess(content, known or (lambda text: 0))


def _as_given(content: bytes, encoding: str) -> Decoded:
    try:
        name = codecs.lookup(encoding.strip()).name
    except (LookupError, ValueError):
        name = ""
    if name not in _allowed():
        raise RosterImportError("This encoding is unknown. Examples are utf-8, windows-1250, windows-1252, iso-8859-2.")
    with_mark = {"utf-8": "utf-8-sig", "utf-16-le": "utf-16", "utf-16-be": "utf-16"}
    for mark, marked in _BYTE_ORDER_MARKS:
        if content.startswith(mark) and marked == with_mark.get(name, name):
            return Decoded(_strictly(content, marked), marked)
    return Decoded(_strictly(content, name), name)


def _strictly(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RosterImportError(
            f"The list is not in the encoding {encoding}: line {line} has bytes that it does not have."
        ) from None


def _guess(content: bytes, known: Callable[[str], int]) -> Decoded:
    """The likeliest encoding of a file that is neither UTF-8 nor has a byte order mark."""
    if not content.count(0):
        ranked = _ranked(content, known)
    else:
        even, odd = content[::2].count(0), content[1::2].count(0)
        # Letters of most alphabets have a small high byte, so that one half of the bytes has nearly all zeros.
        wide = [("utf-16-le", "")] if odd > 10 * even else [("utf-16-be", "")] if even > 10 * odd else []
        ranked = [(name, language) for name, language in wide if _fits(content, name)]
    if not ranked:
        raise RosterImportError("This is no text that can be read. Save the list as CSV (UTF-8), or give its encoding.")
    (name, language), *others = ranked
    text = content.decode(name)
    samples = [line.strip()[:_SAMPLE_CHARACTERS] for line in text.splitlines() if not line.isascii()]
    return Decoded(text, name, False, language, samples[:SAMPLES], [other for other, _ in others][:4])


def _ranked(content: bytes, known: Callable[[str], int]) -> list[tuple[str, str]]:
    """Encodings that fit, each with a language, the likeliest first."""
    # Imported here: it takes memory, and few lists need it.
    from charset_normalizer import from_bytes

    examined = b"\n".join(line for line in content.splitlines() if not line.isascii() or b"\x1b" in line)
    examined = examined[:_EXAMINED_BYTES]
    likely = [match.encoding for match in from_bytes(examined, cp_isolation=list(_allowed().values()))]
    rank = {codecs.lookup(name).name: number for number, name in reversed(list(enumerate(likely)))}
    hits: dict[str, int] = {}
    scored: list[tuple[float, int, str, str]] = []
    for name, language, score in _scores(examined):
        if name not in hits:
            hits[name] = known(_leniently(content[:_HEAD_BYTES], name) or "")
        scored.append((-round(score + hits[name] / 5, 4), rank.get(name, len(likely)), name, language))
    found = {}
    for _, _, name, language in sorted(scored):
        if name not in found and _fits(content, name):
            found[name] = language
    for name in sorted(rank, key=lambda known: rank[known]):
        if name not in found and _fits(content, name):
            found[name] = ""
    return list(found.items())


def _scores(examined: bytes) -> Iterator[tuple[str, str, float]]:
    """Each code page and language, with the share of letters of the language among what is not ASCII."""
    texts: dict[str, str | None] = {}
    wrong: dict[str, float] = {}
    for number, (language, letters, pages) in enumerate(_LANGUAGES):
        usual = frozenset(letters + letters.upper() + _COMMON_SIGNS)
        for place, page in enumerate(pages):
            if page not in texts:
                texts[page] = _leniently(examined, page)
                wrong[page] = _wrong_neighbours(texts[page] or "")
            text = texts[page]
            strange = [character for character in text or "" if not character.isascii()]
            if text and strange:
                score = sum(character in usual for character in strange) / len(strange) - wrong[page]
                if not _is_latin(letters[0]) and letters != letters.upper() and not any(map(str.isupper, strange)):
                    # Names begin with capitals, where there are any.
                    score -= 0.05
                yield codecs.lookup(page).name, language, score - place / 100 - number / 1000
    for page, language in _EAST_ASIAN:
        text = _leniently(examined, page)
        if text:
            strange = [character for character in text if not character.isascii()]
            good = sum("\u3040" <= character <= "\u9fff" or "\uac00" <= character <= "\ud7a3" for character in strange)
            # Two bytes of any code page are often an ideogram or a Korean syllable, so these are considered last.
            score = good / max(1, len(strange)) - _wrong_neighbours(text) - 0.1
            if language == "Japanese" and re.search("[\u3041-\u30f6]", text):
                score += 0.05
            if language == "Korean" and re.search("[\u4e00-\u9fff]", text):
                score -= 0.05
            yield codecs.lookup(page).name, language, score


def _wrong_neighbours(text: str) -> float:
    """The share of letters beyond ASCII that follow or precede one with which no language has them in a word.

    They are capitals within a word of small letters, and letters that are not Latin beside Latin ones.
    """
    letters = wrong = 0
    for before, character, after in zip(text, text[1:], [*text[2:], " "], strict=False):
        if character.isascii() and before.isascii():
            continue
        letters += 1
        if character.isalpha() and before.isalpha():
            within = character.isupper() and (before.islower() or after.islower())
            wrong += within or _is_latin(before) != _is_latin(character)
    return wrong / letters if letters else 0.0


def _is_latin(letter: str) -> bool:
    return letter < "\u0250" or "\u1e00" <= letter < "\u1f00"


def _leniently(examined: bytes, page: str) -> str | None:
    try:
        return examined.decode(page)
    except UnicodeDecodeError:
        # The end may be within a character.
        try:
            return examined[: examined.rfind(b"\n") + 1].decode(page) or None
        except UnicodeDecodeError:
            return None


def _fits(content: bytes, name: str) -> bool:
    try:
        content.decode(name)
    except UnicodeDecodeError:
        return False
    return True
